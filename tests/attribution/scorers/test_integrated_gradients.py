"""Integrated gradients of a block's activations against the literal oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_rates, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.core
def test_ratings_are_the_oracles(case: tiny.Case, images: Tensor, targets: Tensor, k: int, function: str) -> None:
    assert_rates(case, images, targets, "integrated_gradients", oracle.integrated_gradients, k, function)


def test_a_block_sums_to_what_its_layer_contributes(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    # Completeness: the ratings of a block's neurons sum to f(clean) − f(the whole in-scope layer zeroed).
    model, scope = case
    rated = ratings(case, images, targets, "integrated_gradients", n_steps=40)
    setting = tiny.literal(model, scope)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        for index, w in enumerate(oracle.clean_activations(setting, image)):
            ends = torch.stack((w, torch.zeros_like(w)))
            _, (clean, zeroed) = oracle.one_block_gradients(setting, image, target, index, ends)
            torch.testing.assert_close(rated[row, index].sum(), clean - zeroed, rtol=1e-8, atol=1e-12)
