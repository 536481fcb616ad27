"""Knowledge neurons against the literal oracle."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path.attribution.scorers.ablation import Ablation
from neuron_path.attribution.scorers.knowledge_neurons import KnowledgeNeurons
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
        return oracle.shortlisted(oracle.knowledge_neurons(setting, image, target), quick, shortlist)

    assert_rates(case, images, targets, KnowledgeNeurons(shortlist, n_steps=None), literal, k, function)


def test_the_converged_integral_is_the_effect_of_ablation(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    # The fundamental theorem of calculus along the line from "neuron zeroed" to "clean", nothing else moving.
    for function, rows in (("probability", [0]), ("logit", [1]), ("margin", [2])):
        one = images[rows], targets[rows]
        converged = ratings(case, *one, KnowledgeNeurons(None, n_steps=None), n_steps=32, target=function)
        ablated = ratings(case, *one, Ablation(shortlist=None), target=function)
        torch.testing.assert_close(converged, ablated, rtol=1e-8, atol=1e-11)


def test_a_shortlist_of_all_is_none(model: VisionTransformer, images: Tensor, targets: Tensor) -> None:
    every = ratings((model, "cls"), images, targets, KnowledgeNeurons(None))
    for shortlist in (24, 1000):
        listed = ratings((model, "cls"), images, targets, KnowledgeNeurons(shortlist))
        torch.testing.assert_close(listed, every, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_nodes_of_its_own(model: VisionTransformer, images: Tensor, targets: Tensor, n_steps: int) -> None:
    # Gauss–Legendre, whatever the run's rule is.
    scorer = KnowledgeNeurons(None, n_steps=n_steps)
    rated = ratings((model, "cls"), images, targets, scorer, quadrature="riemann_left", n_steps=3)
    setting = tiny.literal(model, "cls", n_steps=n_steps)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        expected = oracle.knowledge_neurons(setting, image, target)
        torch.testing.assert_close(rated[row], expected, rtol=1e-9, atol=1e-13)
