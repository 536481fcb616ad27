"""Which images float32 is not trusted with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.rounding import ILL_CONDITIONED, rounding
from neuron_path.attribution.trust import needs_double
from neuron_path.models.adapter import adapt
from tests import tiny


@torch.no_grad()
def pose(gain: float = 1.0, dtype: torch.dtype = torch.float32, target: str = "probability") -> Problem:
    """Eight blocks whose attention, with a large gain, amplifies rounding."""
    model = tiny.make(dtype=dtype, depth=8).requires_grad_(requires_grad=False)
    for index in range(8):
        model.get_parameter(f"blocks.{index}.attn.qkv.weight").mul_(gain)
    images, targets = tiny.make_images(dtype=dtype), torch.tensor([3, 0, 4])
    return Problem.pose(adapt(model), images, targets, Quadrature(), 100, target)


def with_logits(problem: Problem, logits: Tensor) -> Problem:
    return replace(problem, clean=replace(problem.clean, logits=logits))


def undecided(problem: Problem) -> Problem:
    """The same, two classes in the lead together."""
    logits = problem.clean.logits
    runner_up = ((logits.argmax(1) + 1) % logits.shape[1]).unsqueeze(1)
    return with_logits(problem, logits.scatter(1, runner_up, logits.amax(1, keepdim=True)))


def test_a_quiet_model_is_trusted() -> None:
    problem = pose()
    assert (rounding(problem) < ILL_CONDITIONED).all()
    assert not needs_double(problem).any()


def test_a_model_that_amplifies_rounding_is_not() -> None:
    problem = pose(gain=4)
    assert (rounding(problem) > ILL_CONDITIONED).any()
    assert torch.equal(needs_double(problem), rounding(problem) > ILL_CONDITIONED)


def test_a_close_prediction_is_not() -> None:
    assert needs_double(undecided(pose())).all()


@pytest.mark.parametrize("gain", [1, 4])
def test_float64_is_always_trusted(gain: float) -> None:
    found = needs_double(undecided(pose(gain, torch.float64)))
    assert found.tolist() == [False, False, False]
    assert found.dtype == torch.bool


@pytest.mark.parametrize(("target", "expected"), [("probability", True), ("logit", False), ("margin", False)])
def test_odds_that_leave_float32_matter_to_a_probability_alone(target: str, expected: bool) -> None:
    problem = pose(target=target)
    assert needs_double(with_logits(problem, 1000 * problem.clean.logits)).tolist() == [expected] * 3
