"""Ablation against the literal oracle and against the intervention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.scorers.ablation import Ablation
from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_rates, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.parametrize("shortlist", [None, 4])
@pytest.mark.core
def test_ratings_are_the_oracles(
    case: tiny.Case, images: Tensor, targets: Tensor, shortlist: int | None, k: int, function: str
) -> None:
    def literal(setting: oracle.Setting, image: Tensor, target: int) -> Tensor:
        quick = oracle.gradient_x_activation(setting, image, target)
        return oracle.shortlisted(oracle.ablation(setting, image, target), quick, shortlist)

    assert_rates(case, images, targets, Ablation(shortlist=shortlist), literal, k, function)


def test_one_block_removed_is_its_ablation() -> None:
    # A model of one block: removing a path of one neuron is what the rating of that neuron measured.
    case: tiny.Case = (tiny.make(depth=1), "cls")
    images, targets = tiny.make_images(3), torch.tensor([3, 0, 4])
    rated = ratings(case, images, targets, Ablation(shortlist=None))
    p = case[0](images).softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
    for neuron in range(rated.shape[2]):
        paths = torch.full((3, 1), neuron)
        logits = neuron_path.intervene(case[0], images, paths, "remove")
        removed = logits.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(rated[:, 0, neuron], p - removed, rtol=1e-9, atol=1e-13)


def test_nothing_is_lost_where_the_probability_saturates() -> None:
    model = tiny.make()
    head = tiny.classifier(model)
    with torch.no_grad():
        head.weight.mul_(100)
    images = tiny.make_images(3)
    targets = model(images).detach().argmax(1)
    p = model(images).detach().softmax(1).amax(1)
    assert (1 - p < 1e-12).any()
    rated = ratings((model, "cls"), images, targets, Ablation(shortlist=None))
    setting = tiny.literal(model, "cls")
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        expected = oracle.ablation(setting, image, target)
        torch.testing.assert_close(rated[row], expected, rtol=1e-8, atol=0)
        assert len(expected.unique()) > expected.numel() / 2  # in the form p − q most would be equal
