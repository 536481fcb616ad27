"""Ablation against the literal oracle and against the intervention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.scorers.ablation import Ablation
from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_rates, every_form, ratings


@every_form
@pytest.mark.parametrize("shortlist", [None, 4])
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
