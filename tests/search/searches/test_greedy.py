"""The greedy search against the literal oracle, and its choice among ratings against sorting in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorers.joint_attribution import JointAttribution
from neuron_path.models.session import Session
from neuron_path.search.choice import pick
from neuron_path.search.search import Doubt
from neuron_path.search.searches.greedy import Greedy
from tests import oracle, tiny

pytestmark = pytest.mark.covering


@pytest.mark.parametrize("rule", ["gauss_legendre", "riemann_left"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.core
def test_joint_attribution_is_the_oracles(case: tiny.Case, k: int, rule: str, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    result = neuron_path.find_paths(
        model,
        images,
        targets,
        quadrature=rule,
        n_steps=5,
        token_scope=scope,
        top_k=k,
        keep_candidates=True,
    )
    assert result.candidate_scores is not None
    setting = tiny.literal(model, scope, rule)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path, objectives = oracle.greedy_path(setting, image, target, k)
        assert result.paths[row].view(-1, k).tolist() == path
        scale = objectives.abs().amax(1, keepdim=True)
        error = ((result.candidate_scores[row] - objectives) / scale).abs().max()
        assert error < 1e-9
        score = oracle.joint_score(setting, image, target, path).item()
        assert result.scores[row].item() == pytest.approx(score, rel=1e-9, abs=1e-13)
        ranked = objectives.sort(dim=1, descending=True).values
        margin = (ranked[:, k - 1] - ranked[:, k]) / ranked[:, k - 1].abs()
        torch.testing.assert_close(result.margins[row], margin, rtol=1e-6, atol=1e-9)


def test_a_whole_block_can_be_chosen(model: VisionTransformer, images: Tensor, targets: Tensor) -> None:
    result = neuron_path.find_paths(model, images, targets, n_steps=5, top_k=24)
    setting = tiny.literal(model, "cls")
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path, _ = oracle.greedy_path(setting, image, target, 24)
        assert result.paths[row].tolist() == path
    assert torch.isinf(result.margins).all()


# Few values, so that ties are frequent; whole numbers, so that gaps are exact.
ratings = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=9)


@given(ratings, st.data())
def test_pick_takes_the_best_and_of_equals_the_first(row: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(row)))
    neurons, margin, clearance, _ = pick(torch.tensor([row]), k)
    ranked = sorted(range(len(row)), key=lambda neuron: (-row[neuron], neuron))
    assert neurons.tolist() == [ranked[:k]]
    assert not torch.isnan(margin).any()
    assert not torch.isnan(clearance).any()
    if k == len(row):
        assert math.isinf(margin.item())
        return
    last, left_out = row[ranked[k - 1]], row[ranked[k]]
    if last == left_out:
        assert margin.item() == 0
    elif last == 0:
        assert math.isinf(margin.item())
    else:
        assert margin.item() == pytest.approx((last - left_out) / abs(last), rel=1e-6)


@given(ratings, st.data())
def test_the_closest_call_is_of_all_decisions_made(row: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(row)))
    clearance = pick(torch.tensor([row]), k)[2].item()
    ranked = sorted(row, reverse=True)
    scale = max(abs(value) for value in row)
    gaps = [ranked[i] - ranked[i + 1] for i in range(min(k, len(row) - 1))]
    if scale > 0 and gaps:
        assert clearance == pytest.approx(min(gaps) / scale, rel=1e-6)
    else:
        assert math.isinf(clearance)  # nothing to confuse


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8), st.permutations(range(5)), st.data())
def test_rows_are_picked_each_on_its_own(row: list[float], order: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(row)))
    scores = torch.tensor([row]) * torch.tensor([[1.0], [-1.0], [0.5], [0.0], [3.0]])
    together = pick(scores[order], k)
    for place, original in enumerate(order):
        alone = pick(scores[[original]], k)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[[place]], theirs, rtol=0, atol=0)


def test_what_float64_cannot_tell_apart_is_a_tie() -> None:
    best = 2.0
    scores = torch.tensor([[1.0, best, best + 4e-16, 3e-5, best + 1e-9]], dtype=torch.float64)
    neurons, margin, clearance, _ = pick(scores, 3)
    assert neurons.tolist() == [[4, 1, 2]]
    assert margin.item() == pytest.approx(0.5)
    assert clearance.item() < 1e-12
    neurons, margin, *_ = pick(scores, 2)
    assert neurons.tolist() == [[4, 1]]
    assert margin.item() == 0


def test_nan_is_not_passed_over() -> None:
    scores = torch.tensor([[0.5, torch.nan, 1.0]])
    assert pick(scores, 1)[0].tolist() == [[1]]


class Counting(JointAttribution):
    """Joint attribution that notes which blocks are rated."""

    rated: ClassVar[list[int]] = []

    def start(self, problem: Problem) -> Any:
        scoring = super().start(problem)
        rate = scoring.candidates

        def candidates(index: int, rows: Tensor | None = None) -> Tensor:
            self.rated.append(index)
            return rate(index, rows)

        scoring.candidates = candidates
        return scoring


def posed(model: VisionTransformer) -> Problem:
    session = Session(model)
    images, targets = tiny.make_images(2), torch.tensor([3, 0])
    return Problem.pose(session.adapter, images, targets, Quadrature("gauss_legendre", 3), 8)


def test_revising_rates_only_blocks_in_doubt() -> None:
    problem = posed(tiny.make())
    found = Greedy().run(problem, Counting(), keep_candidates=True)
    doubtful = torch.zeros_like(found.clearance, dtype=torch.bool)
    doubtful[1, 2] = True
    Counting.rated.clear()
    doubt = Doubt(doubtful, torch.zeros(2, dtype=torch.bool), torch.full((2,), torch.inf))
    settled = Greedy().revise(problem, Counting(), found, doubt, keep_candidates=True)
    assert Counting.rated == [2]
    assert torch.equal(settled.paths, found.paths)
    assert torch.equal(settled.scored.joint, found.scored.joint)
    torch.testing.assert_close(settled.margins, found.margins)
    assert settled.candidates is not None
    assert found.candidates is not None
    for ours, theirs in zip(settled.candidates, found.candidates, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_choice_that_turns_out_otherwise_is_followed_by_a_new_search() -> None:
    problem = posed(tiny.make())
    found = Greedy().run(problem, Counting())
    wrong = found.paths.clone()
    wrong[0, 1] = (wrong[0, 1] + 1) % problem.adapter.blocks[1].n_neurons
    doubtful = torch.zeros_like(found.clearance, dtype=torch.bool)
    doubtful[0, 1] = True
    Counting.rated.clear()
    doubt = Doubt(doubtful, torch.zeros(2, dtype=torch.bool), torch.full((2,), torch.inf))
    settled = Greedy().revise(problem, Counting(), replace(found, paths=wrong), doubt)
    assert Counting.rated == list(range(1, len(problem.adapter.blocks)))
    assert torch.equal(settled.paths, found.paths)


def test_a_score_in_doubt_is_told_again_beside_one_that_is_not() -> None:
    coarse, fine = posed(tiny.make()), posed(tiny.make())
    fine = fine.take(fine.every_image, Quadrature("gauss_legendre", 24))
    draft, expected = Greedy().run(coarse, Counting()), Greedy().run(fine, Counting())
    doubt = Doubt(torch.zeros_like(draft.clearance, dtype=torch.bool), torch.tensor([False, True]), torch.zeros(2))
    Counting.rated.clear()
    settled = Greedy().revise(fine, Counting(), draft, doubt)
    assert Counting.rated == []
    assert settled.scored.joint[0] == draft.scored.joint[0]
    assert settled.scored.joint[1] != draft.scored.joint[1]
    torch.testing.assert_close(settled.scored.joint[1], expected.scored.joint[1])
