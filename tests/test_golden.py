"""Parity with the authors' implementation: shared results of theirs, whatever the batch, the passes and the labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.types import OperationName
from tests import tiny

pytestmark = [pytest.mark.core, pytest.mark.covering]
FOLDER = Path(__file__).parent / "golden"
SETS = ("cls_depth6", "cls_depth12", "patch_depth6")
SCORERS = ("joint_attribution", "activation", "influence_pattern")
PAPER: dict[str, Any] = {"quadrature": "riemann_left", "n_steps": 20}


@dataclass
class Golden:
    """One golden set."""

    model: VisionTransformer
    images: Tensor
    labels: Tensor
    expected: dict[str, Tensor]


def read(name: str) -> Golden:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        architecture = json.loads(file.metadata()["architecture"])
    model = VisionTransformer(**architecture)
    model.load_state_dict({key[6:]: tensor for key, tensor in tensors.items() if key.startswith("model.")})
    expected = {key[9:]: tensor for key, tensor in tensors.items() if key.startswith("expected.")}
    return Golden(model.eval(), tensors["input.images"], tensors["input.labels"], expected)


_read: dict[str, Golden] = {}


@pytest.fixture(params=SETS)
def golden(request: pytest.FixtureRequest) -> Golden:
    if request.param not in _read:
        _read[request.param] = read(request.param)
    return _read[request.param]


def assert_within(found: Tensor, expected: Tensor) -> None:
    """1e-4 relative or 1e-6 absolute, whichever is more."""
    allowed = (1e-4 * expected.abs()).clamp(min=1e-6)
    wrong = (found.cpu() - expected).abs() > allowed
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} off, most by {(found.cpu() - expected).abs().max()}"


def assert_golden(golden: Golden, scorer: str, rows: Any, result: neuron_path.PathResult) -> None:
    """Paths, scores, candidates and clean probabilities of some images are the authors'."""
    expected = golden.expected
    assert result.paths.tolist() == expected[f"path_{scorer}"][rows].tolist()
    if f"score_{scorer}" in expected:
        assert_within(result.scores, expected[f"score_{scorer}"][rows])
    if scorer == "joint_attribution" and "candidate_scores" in expected:
        assert result.candidate_scores is not None
        assert_within(result.candidate_scores, expected["candidate_scores"][rows])
    assert_within(result.target_probabilities, expected["p_clean"][rows])
    assert result.predictions.tolist() == expected["logits"][rows].argmax(1).tolist()


def known_scorers(golden: Golden) -> list[str]:
    return [scorer for scorer in SCORERS if f"path_{scorer}" in golden.expected]


def test_paths_and_scores_on_every_device(golden: Golden, device: torch.device) -> None:
    model = golden.model.to(device)
    try:
        for scorer in known_scorers(golden):
            result = neuron_path.find_paths(
                model, golden.images, golden.labels, scorer=scorer, keep_candidates=True, **PAPER
            )
            assert_golden(golden, scorer, slice(None), result)
    finally:
        golden.model.cpu()


# Passes of one sequence are slow: fewer images show as much.
@pytest.mark.parametrize(("micro_batch", "n_images"), [(1, 1), (3, 2), (7, 3), (64, 6)])
def test_whatever_the_micro_batch(golden: Golden, micro_batch: int, n_images: int) -> None:
    rows = slice(n_images)
    result = neuron_path.find_paths(
        golden.model,
        golden.images[rows],
        golden.labels[rows],
        micro_batch=micro_batch,
        keep_candidates=True,
        **PAPER,
    )
    assert_golden(golden, "joint_attribution", rows, result)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("rows", [[5, 2, 0, 4], [3], [1, 1, 0]], ids=str)
def test_whatever_else_is_in_the_batch(golden: Golden, scorer: str, rows: list[int]) -> None:
    if scorer not in known_scorers(golden):
        assert scorer == "influence_pattern"  # the authors ran it in class-token scope only
        return
    result = neuron_path.find_paths(
        golden.model, golden.images[rows], golden.labels[rows], scorer=scorer, keep_candidates=True, **PAPER
    )
    assert_golden(golden, scorer, rows, result)


def test_whatever_the_labels_of_the_others(golden: Golden) -> None:
    # Every second row holds an image once more with the label of another.
    images = golden.images[:4].repeat_interleave(2, dim=0)
    labels = torch.stack((golden.labels[:4], golden.labels[:4].roll(1)), dim=1).flatten()
    result = neuron_path.find_paths(golden.model, images, labels, micro_batch=120, keep_candidates=True, **PAPER)
    assert_golden(golden, "joint_attribution", slice(4), tiny.select(result, slice(None, None, 2)))


def test_given_paths_score_the_same(golden: Golden) -> None:
    for scorer in ("joint_attribution", "activation"):
        paths = golden.expected[f"path_{scorer}"]
        scores = neuron_path.score_paths(golden.model, golden.images, golden.labels, paths, **PAPER)
        assert isinstance(scores, Tensor)
        assert_within(scores, golden.expected[f"score_{scorer}"])


@pytest.mark.parametrize("operation", ["remove", "enhance"])
def test_interventions(golden: Golden, operation: OperationName) -> None:
    for scorer in known_scorers(golden):
        logits = neuron_path.intervene(golden.model, golden.images, golden.expected[f"path_{scorer}"], operation)
        p = logits.softmax(1).gather(1, golden.labels.unsqueeze(1)).squeeze(1)
        assert_within(p, golden.expected[f"p_{operation}.{scorer}"])
        assert logits.argmax(1).tolist() == golden.expected[f"top1_{operation}.{scorer}"].tolist()
