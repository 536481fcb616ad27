"""Scores of given paths against the literal oracle."""

from __future__ import annotations

import warnings

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from tests import oracle, tiny

pytestmark = pytest.mark.covering


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.core
def test_joint_scores_are_the_oracles(case: tiny.Case, k: int, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    paths = tiny.random_paths(model, len(images), k)
    given = paths.squeeze(2) if k == 1 else paths
    scores = neuron_path.score_paths(model, images, targets, given, n_steps=5, token_scope=scope)
    setting = tiny.literal(model, scope)
    expected = [
        oracle.joint_score(setting, *row).item() for row in zip(images, targets.tolist(), paths.tolist(), strict=True)
    ]
    assert isinstance(scores, Tensor)
    assert scores.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("quadrature", ["gauss_legendre", "adaptive"])
@pytest.mark.parametrize("scorer", ["activation", "gradient_x_activation", "random"])
def test_paths_that_no_integral_has_led_to_take_as_many_nodes_as_their_score_needs(
    case: tiny.Case, quadrature: str, scorer: str, images: Tensor, targets: Tensor
) -> None:
    model, scope = case
    options = {"token_scope": scope, "quadrature": "gauss_legendre", "n_steps": 40}
    found = neuron_path.find_paths(model, images, targets, scorer=scorer, quadrature=quadrature, token_scope=scope)
    assert found.score_errors is not None
    assert found.complete_scores is not None
    assert found.convergence_deltas is not None
    converged = neuron_path.score_paths(model, images, targets, found.paths, **options)
    assert isinstance(converged, Tensor)
    most = 8 if quadrature == "gauss_legendre" else 64
    assert (found.n_steps >= 2).all()
    assert (found.n_steps <= most).all()
    missing = 10 * found.score_errors + 1e-5 * converged.abs()  # an estimate, which may vanish by chance
    assert ((found.scores - converged).abs() <= missing).all()
    spent = found.n_steps == most
    tolerance = 2e-2 if quadrature == "gauss_legendre" else 1e-3
    assert ((found.score_errors <= tolerance * found.scores.abs()) | spent).all()
    complete = neuron_path.score_paths(model, images, targets, found.paths, measure="complete", **options)
    torch.testing.assert_close(found.complete_scores - found.convergence_deltas, complete, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("factor", [0.0, 4.0, 8.0])
@pytest.mark.parametrize("scorer", ["gradient_x_activation", "random"])
def test_errors_are_numbers_where_a_path_removes_nothing_that_float32_can_tell(factor: float, scorer: str) -> None:
    model = neuron_path.load_model()
    with torch.no_grad():
        for parameter in (model.get_parameter("head.weight"), model.get_parameter("head.bias")):
            parameter.mul_(factor)
    images, labels = (values[:12] for values in neuron_path.load_digits("test"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a head of zeros is told
        found = neuron_path.find_paths(model, images, labels, scorer=scorer)
    assert found.score_errors is not None
    assert torch.isfinite(found.score_errors).all()
    assert (found.score_errors <= found.scores.abs()).all()
    if factor == 0:
        assert found.n_steps.tolist() == [2] * 12


@pytest.mark.parametrize("k", [1, 3])
def test_complete_scores_and_deltas_are_the_oracles(case: tiny.Case, k: int, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    paths = tiny.random_paths(model, len(images), k)
    scores, deltas = neuron_path.score_paths(
        model,
        images,
        targets,
        paths,
        quadrature="riemann_left",
        n_steps=3,
        token_scope=scope,
        measure="complete",
        return_convergence_delta=True,
    )
    setting = tiny.literal(model, scope, "riemann_left", 3)
    expected = [
        oracle.complete_score(setting, *row) for row in zip(images, targets.tolist(), paths.tolist(), strict=True)
    ]
    assert scores.tolist() == pytest.approx([score.item() for score, _ in expected], rel=1e-9, abs=1e-13)
    assert deltas.tolist() == pytest.approx([delta.item() for _, delta in expected], rel=1e-9, abs=1e-13)
    assert deltas.abs().max() > 1e-6  # three nodes are too few: there is something to compare


def test_with_many_nodes_the_complete_score_is_complete(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    paths = tiny.random_paths(model, len(images), k=2)
    _, deltas = neuron_path.score_paths(
        model, images, targets, paths, n_steps=64, token_scope=scope, measure="complete", return_convergence_delta=True
    )
    assert deltas.abs().max() < 1e-9


def test_the_order_of_neurons_in_a_block_does_not_matter(model: VisionTransformer, images: Tensor) -> None:
    paths = tiny.random_paths(model, len(images), k=3)
    scores = neuron_path.score_paths(model, images, None, paths)
    flipped = neuron_path.score_paths(model, images, None, paths.flip(2))
    torch.testing.assert_close(scores, flipped, rtol=1e-12, atol=0)
