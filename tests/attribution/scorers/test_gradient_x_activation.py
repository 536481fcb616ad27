"""Gradient × activation against the literal oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.scorers.knowledge_neurons import KnowledgeNeurons
from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_rates, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.core
def test_ratings_are_the_oracles(case: tiny.Case, images: Tensor, targets: Tensor, k: int, function: str) -> None:
    assert_rates(case, images, targets, "gradient_x_activation", oracle.gradient_x_activation, k, function)


def test_it_has_no_nodes(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    few = ratings(case, images, targets, "gradient_x_activation", n_steps=1)
    many = ratings(case, images, targets, "gradient_x_activation", quadrature="trapezoid", n_steps=4)
    torch.testing.assert_close(few, many, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("scorer", ["integrated_gradients", KnowledgeNeurons(None, n_steps=None)], ids=str)
def test_integrals_along_activations_are_it_at_their_end(
    case: tiny.Case, images: Tensor, targets: Tensor, scorer: Any
) -> None:
    # The only node of this rule is α = 1.
    end = ratings(case, images, targets, scorer, quadrature="riemann_right", n_steps=1)
    torch.testing.assert_close(end, ratings(case, images, targets, "gradient_x_activation"), rtol=1e-9, atol=1e-13)
