"""The embedded model's paths on every test image: against the literal oracle, and against other batches."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.types import PathResult
from tests import oracle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits() -> tuple[torch.nn.Module, Tensor, Tensor]:
    return neuron_path.load_model("digits_vit"), *neuron_path.load_digits("test")


@pytest.fixture(scope="module")
def reference(digits: tuple[torch.nn.Module, Tensor, Tensor]) -> PathResult:
    model, images, labels = digits
    return neuron_path.find_paths(model, images, labels)


def test_every_path_is_the_literal_oracles(digits, reference: PathResult) -> None:
    _, images, labels = digits
    model = neuron_path.load_model("digits_vit").double()
    assert isinstance(model, VisionTransformer)
    nodes, weights = (torch.from_numpy(x) for x in neuron_path.Quadrature("gauss_legendre", 8).nodes())
    setting = oracle.Setting(model, oracle.cls_tokens(model), nodes, weights)
    for number, (image, target) in enumerate(zip(images.double(), labels.tolist(), strict=True)):
        path, _ = oracle.greedy_path(setting, image, target)
        assert [neuron for (neuron,) in path] == reference.paths[number].tolist(), f"image {number}"
        score = oracle.joint_score(setting, image, target, path)
        torch.testing.assert_close(reference.scores[number].double(), score, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("batch", "micro_batch"), [(1, None), (7, 3), (64, 64), (360, 100)])
def test_no_path_depends_on_the_batch(digits, reference: PathResult, batch: int, micro_batch: int | None) -> None:
    model, images, labels = digits
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(batch))
    parts = [
        neuron_path.find_paths(model, images[own], labels[own], micro_batch=micro_batch) for own in order.split(batch)
    ]
    again = PathResult.cat(parts)
    assert torch.equal(again.paths, reference.paths[order])
    torch.testing.assert_close(again.scores, reference.scores[order], rtol=1e-5, atol=1e-6)
