"""Rankings by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from neuron_path.pruning.methods import METHODS, Selection, check_method, rank
from neuron_path.pruning.ranking import path_ranking
from neuron_path.pruning.torch_pruning import torch_pruning_ranking
from tests import tiny


@pytest.fixture
def selection(model: VisionTransformer, images: Tensor, targets: Tensor) -> Selection:
    paths = [np.array([1, 2, 3]), np.array([1, 0, 3]), np.array([4, 2, 3])]
    columns = {"scorer": "a", "search": "greedy", "top_k": 1, "target": targets.tolist(), "score": [0.5, 0.25, 0.125]}
    return Selection(model, images, targets, pd.DataFrame(columns | {"path": paths}), seed=3)


def test_each_name_is_the_ranking_of_that_name(selection: Selection) -> None:
    model, images, targets, paths = selection.model, selection.images, selection.targets, selection.paths
    widths = [24, 24, 24]
    expected = {
        "path": path_ranking(paths, widths, "both"),
        "path_frequency": path_ranking(paths, widths, "frequency"),
        "path_score": path_ranking(paths, widths, "score"),
        "random": random_ranking(model, 3),
        "magnitude": magnitude_ranking(model),
        "activation": activation_ranking(model, images),
        "taylor": taylor_ranking(model, images, targets),
        "torch_pruning_magnitude": torch_pruning_ranking(model, "magnitude", images, targets),
        "torch_pruning_taylor": torch_pruning_ranking(model, "taylor", images, targets),
    }
    assert set(expected) == set(METHODS)
    for name, ranking in expected.items():
        found, _ = rank(name, selection)
        assert all(torch.equal(one, two) for one, two in zip(found, ranking, strict=True)), name


def test_ties_are_decided_by_chance_or_by_the_method_behind_the_plus(selection: Selection) -> None:
    _, then = rank("path+taylor", selection)
    taylor, _ = rank("taylor", selection)
    assert all(torch.equal(one, two) for one, two in zip(then, taylor, strict=True))
    _, chance = rank("path", selection)
    chosen, _ = rank("random", selection)
    assert not any(torch.equal(one, two) for one, two in zip(chance, chosen, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(chance, rank("path", selection)[1], strict=True))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("paht", "Did you mean 'path'"),
        ("path+", "No pruning method is named ''"),
        ("path+path", "another behind the plus"),
    ],
)
def test_a_wrong_name_is_refused(name: str, told: str) -> None:
    with pytest.raises(NeuronPathError, match=told):
        check_method(name)


def test_torch_pruning_s_magnitude_is_the_mean_of_rows_and_columns(selection: Selection) -> None:
    ranking = torch_pruning_ranking(selection.model, "magnitude", selection.images)
    weights = selection.model.state_dict()
    for index, scores in enumerate(ranking):
        rows = weights[f"blocks.{index}.mlp.fc1.weight"].square().sum(1)
        columns = weights[f"blocks.{index}.mlp.fc2.weight"].square().sum(0)
        both = (rows + columns) / 2
        torch.testing.assert_close(scores, both / both.mean(), rtol=1e-5, atol=0)


def test_torch_pruning_leaves_the_model_and_refuses_gates(selection: Selection) -> None:
    before = {name: value.clone() for name, value in selection.model.state_dict().items()}
    torch_pruning_ranking(selection.model, "taylor", selection.images, selection.targets)
    assert all(torch.equal(before[name], value) for name, value in selection.model.state_dict().items())
    assert all(parameter.grad is None for parameter in selection.model.parameters())
    from timm.layers.mlp import GluMlp

    gated = tiny.make(mlp_layer=GluMlp)
    with pytest.raises(NeuronPathError, match="has a gate"):
        torch_pruning_ranking(gated, "magnitude", selection.images)
    with pytest.raises(NeuronPathError, match="No importance of Torch-Pruning"):
        torch_pruning_ranking(selection.model, "size", selection.images)  # pyright: ignore[reportArgumentType]
