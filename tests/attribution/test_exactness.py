"""How far float32 is trusted with an image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.exactness import Exactness, exactness, ranked, rounding
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.target import Target
from neuron_path.models.adapter import adapt
from tests import tiny

pytestmark = pytest.mark.covering


@torch.no_grad()
def pose(gain: float = 1.0, dtype: torch.dtype = torch.float32, target: str = "probability") -> Problem:
    """Eight blocks whose attention, with a large gain, amplifies rounding."""
    model = tiny.make(dtype=dtype, depth=8).requires_grad_(requires_grad=False)
    for index in range(8):
        model.get_parameter(f"blocks.{index}.attn.qkv.weight").mul_(gain)
    images, targets = tiny.make_images(dtype=dtype), torch.tensor([3, 0, 4])
    return Problem.pose(adapt(model), images, targets, Quadrature(), 100, Target(target))


def with_logits(problem: Problem, logits: Tensor) -> Problem:
    return replace(problem, clean=replace(problem.clean, logits=logits))


def undecided(problem: Problem) -> Problem:
    """The same, two classes in the lead together."""
    logits = problem.clean.logits
    runner_up = ((logits.argmax(1) + 1) % logits.shape[1]).unsqueeze(1)
    return with_logits(problem, logits.scatter(1, runner_up, logits.amax(1, keepdim=True)))


def found(problem: Problem) -> Exactness:
    exact = exactness(problem)
    assert exact is not None
    return exact


def test_a_quiet_model_is_trusted() -> None:
    exact = found(pose())
    assert (exact.rounding < 3e-6).all()
    assert not exact.blurs_scores.any()
    assert exact.close_call.tolist() == pytest.approx([5e-5] * 3)


def test_of_a_model_that_amplifies_rounding_choices_are_in_doubt_sooner_and_scores_blurred() -> None:
    exact = found(pose(gain=4))
    assert (exact.rounding > 1e-5).any()
    assert torch.equal(exact.close_call, (10 * exact.rounding).clamp(min=5e-5))
    assert torch.equal(exact.blurs_scores, exact.lost | (exact.rounding > 2e-5))


def test_rounding_alone_loses_no_image() -> None:
    problem = pose(gain=4)
    clear = with_logits(problem, torch.eye(problem.clean.logits.shape[1])[[3, 0, 4]])
    exact = exactness(clear, torch.full((3,), 1e-2))
    assert exact is not None
    assert not exact.lost.any()
    assert exact.blurs_scores.all()


def test_a_close_prediction_is_lost() -> None:
    assert found(undecided(pose())).lost.all()


def test_a_prediction_within_ten_times_the_rounding_is_lost() -> None:
    logits = torch.tensor([[1.0, 0, 0], [1.0, 0.9995, 0], [1.0, 0.9995, 0]])
    exact = exactness(
        replace(with_logits(pose(), logits), targets=torch.zeros(3, dtype=torch.int64)),
        torch.tensor([1e-2, 1e-4, 1e-5]),
    )
    assert exact is not None
    assert exact.lost.tolist() == [False, True, False]


@pytest.mark.parametrize("gain", [1, 4])
def test_float64_is_always_trusted(gain: float) -> None:
    assert exactness(undecided(pose(gain, torch.float64))) is None


@pytest.mark.parametrize(("target", "expected"), [("probability", True), ("logit", False), ("margin", False)])
def test_odds_that_leave_float32_matter_to_a_probability_alone(target: str, expected: bool) -> None:
    problem = pose(target=target)
    assert found(with_logits(problem, 1000 * problem.clean.logits)).lost.tolist() == [expected] * 3


def test_the_rounding_of_an_image_does_not_depend_on_the_batch() -> None:
    problem = pose(gain=4)
    alone = Problem.pose(problem.adapter, problem.images[1:2], problem.targets[1:2], Quadrature(), 100)
    torch.testing.assert_close(rounding(alone), rounding(problem)[1:2], rtol=0.5, atol=0)


def test_ties_go_by_index() -> None:
    assert ranked(torch.tensor([[1.0, 4.0, 4.0 + 1e-12, 3.0]], dtype=torch.float64))[1].tolist() == [[1, 2, 3, 0]]
