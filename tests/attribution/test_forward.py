"""The clean pass and the target's probability, against timm and against softmax in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_path.attribution.forward import clean_pass
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.target import PROBABILITY
from neuron_path.models.adapter import adapt
from tests import oracle, tiny

pytestmark = pytest.mark.covering


@torch.no_grad()
def test_the_clean_pass_sees_what_timm_computes(case: tiny.Case, images: Tensor) -> None:
    model, scope = case
    clean = clean_pass(adapt(model, scope), images)
    torch.testing.assert_close(clean.logits, model(images), rtol=1e-12, atol=1e-12)
    for row, image in enumerate(images):
        for ours, theirs in zip(
            clean.activations, oracle.clean_activations(tiny.literal(model, scope), image), strict=True
        ):
            torch.testing.assert_close(ours[row], theirs, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("name", "scope"), tiny.CASES)
def test_nudged_gradients_differ_by_rounding_only(name: str, scope: str, targets: Tensor) -> None:
    model, images = tiny.make(name, dtype=torch.float32), tiny.make_images(dtype=torch.float32)
    adapter = adapt(model.requires_grad_(requires_grad=False), scope)
    problem = Problem.pose(adapter, images, targets, Quadrature(), 100)
    double = adapt(tiny.make(name).requires_grad_(requires_grad=False), scope)
    exact = Problem.pose(double, images.double(), targets, Quadrature(), 100).clean_gradients
    moved = 0.0
    for plain, nudged, true in zip(problem.clean_gradients, problem.nudged_gradients, exact, strict=True):
        assert plain.shape == nudged.shape == true.shape
        scale = float(true.abs().max())
        torch.testing.assert_close(plain, true.float(), rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(nudged, true.float(), rtol=0, atol=1e-5 * scale)
        moved = max(moved, float((nudged - plain).abs().max()))
    assert moved > 0


@torch.no_grad()
def test_a_nudge_is_the_same_in_every_batch() -> None:
    model, images = tiny.make(dtype=torch.float32), tiny.make_images(dtype=torch.float32)
    adapter = adapt(model.requires_grad_(requires_grad=False))

    def copies(rows: slice) -> Tensor:
        graph = clean_pass(adapter, images[rows], keep_graph=True, nudged=True).graph
        assert graph is not None
        return graph[0][0].detach()[len(images[rows]) :]

    whole, scale = copies(slice(None)), float(copies(slice(None)).abs().max())
    torch.testing.assert_close(copies(slice(1, 2)), whole[1:2], rtol=0, atol=4e-7 * scale)


logits = st.lists(st.floats(-20, 20), min_size=2, max_size=6)


@given(logits, st.data())
def test_the_probability_is_softmax_and_so_is_its_gradient(values: list[float], data: st.DataObject) -> None:
    z = torch.tensor([values], dtype=torch.float64)
    y = data.draw(st.integers(0, len(values) - 1))
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    p = PROBABILITY.probability(ours, torch.tensor([y]))
    expected = theirs.softmax(1)[:, y]
    torch.testing.assert_close(p, expected, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(p.sum(), ours)
    (reference,) = torch.autograd.grad(expected.sum(), theirs)
    torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("gap", [10.0, 21.0, 40.0])
def test_the_gradient_keeps_its_precision_near_one(gap: float) -> None:
    # At a gap of 21, p is about 1 - 1e-9: softmax in float32 rounds it to 1 and 1 - p to 0.
    z = torch.tensor([[gap, 0.0, -0.5]])
    exact = z.double().requires_grad_()
    (reference,) = torch.autograd.grad(exact.softmax(1)[0, 0], exact)
    ours = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(PROBABILITY.probability(ours, torch.tensor([0])).sum(), ours)
    # The reference's own p(1 - p) is good to about 1e-16 / (1 - p); past that the formula is spelt out.
    others = torch.tensor([0.0, -0.5], dtype=torch.float64).logsumexp(0)
    expected = torch.sigmoid(others - gap) * torch.sigmoid(gap - others)
    assert gradient[0, 0].item() == pytest.approx(expected.item(), rel=1e-5)
    if gap < 20:
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-5, atol=0)


def test_each_row_has_its_own_target() -> None:
    z = tiny.make_images(4)[:, 0, 0, :5]
    y = torch.tensor([4, 0, 2, 2])
    expected = [row.softmax(0)[int(target)].item() for row, target in zip(z, y, strict=True)]
    assert PROBABILITY.probability(z, y).tolist() == pytest.approx(expected, rel=1e-12)
