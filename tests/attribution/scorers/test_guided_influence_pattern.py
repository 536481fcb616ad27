"""Guided influence patterns against the literal oracle, and the oracle against whole Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_finds, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.core
def test_paths_are_the_oracles(case: tiny.Case, images: Tensor, targets: Tensor, k: int, function: str) -> None:
    assert_finds(case, images, targets, "guided_influence_pattern", oracle.guided_influence_pattern, k, function)


def test_the_first_block_is_the_influence_pattern(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    guided = ratings(case, images, targets, "guided_influence_pattern")
    plain = ratings(case, images, targets, "influence_pattern")
    torch.testing.assert_close(guided[:, 0], plain[:, 0], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("name", "scope", "k"), [("cls", "cls", 1), ("avg", "patch", 1), ("registers", "patch", 2)])
def test_the_oracle_is_the_product_of_jacobians(name: str, scope: str, k: int) -> None:
    model, image = tiny.make(name), tiny.make_images(1)[0]
    setting = tiny.literal(model, scope, n_steps=2)
    path, objectives = oracle.guided_influence_pattern(setting, image, 3, k)
    expected = torch.zeros_like(objectives)
    for alpha, weight in zip(setting.alpha, setting.weights, strict=True):
        seen, values = oracle.live_network(setting, (alpha * image).unsqueeze(0), 3)
        blocks = [sites[0] for sites in seen]
        token = list(range(blocks[0].shape[1]))[setting.tokens]
        # Every chain of (token, neuron) pairs from the first block's chosen neurons to where it is, one by one.
        chains = {(t, j): torch.ones(()).to(image) for t in token for j in range(blocks[0].shape[2])}
        for index, a in enumerate(blocks):
            if index > 0:
                entries = {
                    (t, j): torch.autograd.grad(a[0, t, j], blocks[index - 1], retain_graph=True)[0][0]
                    for t in token
                    for j in range(a.shape[2])
                }
                chains = {
                    here: sum((jacobian[s, i] * chains[s, i] for s in token for i in path[index - 1]), weight * 0)
                    for here, jacobian in entries.items()
                }
            gradient = torch.autograd.grad(values, a, retain_graph=True)[0][0]
            for (t, j), chain in chains.items():
                expected[index, j] += weight * chain * gradient[t, j]
    torch.testing.assert_close(objectives, expected, rtol=1e-9, atol=1e-14)
