"""Scores and first-order swaps of whole paths against the literal oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.models.session import Session
from neuron_path.types import Measure
from tests import oracle, tiny

pytestmark = pytest.mark.covering

RULE = Quadrature("gauss_legendre", 5)


def pose(case: tiny.Case, images: Tensor, targets: Tensor, rule: Quadrature = RULE, micro_batch: int = 7) -> Problem:
    model, scope = case
    return Problem.pose(Session(model, scope).adapter, images, targets, rule, micro_batch, sample_ids=list("abcdef"))


def literal_swaps(
    setting: oracle.Setting, image: Tensor, target: int, path: list[list[int]], measure: Measure
) -> list[Tensor]:
    """Per block (k, F): the score to first order with the neuron in each place swapped for each other neuron."""
    w = oracle.clean_activations(setting, image)
    gradients, _ = oracle.path_gradients(setting, image, target, path)
    g = [oracle.integral(setting, gradient) for gradient in gradients]
    found = []
    for block, neurons in enumerate(path):
        rows = []
        for place in range(len(neurons)):
            rest = [(n, j) for n, chosen in enumerate(path) for i, j in enumerate(chosen) if (n, i) != (block, place)]
            values = []
            for other in range(w[block].shape[1]):
                members = [*rest, (block, other)]
                if measure == "joint":
                    weight, slope = (torch.stack([x[n][:, j] for n, j in members]).sum(0) for x in (w, g))
                    values.append((weight * slope).mean())
                else:
                    values.append(torch.stack([(w[n][:, j] * g[n][:, j]).sum() for n, j in members]).sum())
            rows.append(torch.stack(values))
        found.append(torch.stack(rows))
    return found


@pytest.mark.parametrize("measure", ["joint", "complete"])
@pytest.mark.parametrize("k", [1, 2])
def test_scores_and_swaps_are_the_literal_ones(
    case: tiny.Case, k: int, measure: Measure, images: Tensor, targets: Tensor
) -> None:
    model, scope = case
    setting = tiny.literal(model, scope)
    objective = Objective(pose(case, images, targets), measure)
    rows, paths = torch.tensor([2, 0, 0, 1]), tiny.random_paths(model, 4, k)
    with torch.no_grad():
        rated = objective.rate(rows, paths, *objective.problem.nodes())
        swaps = objective.linear(rows, rated.gradients).swaps(paths, 3)
    for at, row in enumerate(rows.tolist()):
        path, target = paths[at].tolist(), int(targets[row])
        if measure == "joint":
            expected = oracle.joint_score(setting, images[row], target, path)
        else:
            expected, _ = oracle.complete_score(setting, images[row], target, path)
        torch.testing.assert_close(rated.scores[at], expected, rtol=1e-9, atol=1e-13)
        for block, values in enumerate(literal_swaps(setting, images[row], target, path, measure)):
            place = int(swaps.places[at, block])
            own = values[place].index_fill(0, paths[at, block], -torch.inf)
            best = own.topk(4)
            torch.testing.assert_close(swaps.scores[at, block], best.values[:3], rtol=1e-9, atol=1e-13)
            if (best.values.diff() < -1e-9).all():  # no ties, as where a block's tokens drive nothing
                assert swaps.neurons[at, block].tolist() == best.indices[:3].tolist()


@pytest.mark.parametrize("measure", ["joint", "complete"])
def test_the_neuron_that_goes_is_the_one_missed_least(measure: Measure, images: Tensor, targets: Tensor) -> None:
    case: tiny.Case = (tiny.make(), "cls")
    objective, paths = Objective(pose(case, images, targets), measure), tiny.random_paths(case[0], 3, 3)
    rated = objective.rate(torch.arange(3), paths, *objective.problem.nodes())
    linear = objective.linear(torch.arange(3), rated.gradients)
    places = linear.swaps(paths, 1).places
    for row in range(3):
        for block in range(3):
            # To first order again: the score with the neuron's own share of W and G taken out.
            w, g = shares(objective, rated, paths, row, block)
            if measure == "complete":
                losses = w * g
            else:
                weights, slopes = zip(*(shares(objective, rated, paths, row, index) for index in range(3)), strict=True)
                losses = rated.scores[row] - (torch.cat(weights).sum() - w) * (torch.cat(slopes).sum() - g)
            assert int(places[row, block]) == int(losses.argmin())
    ordered = linear.in_order(paths)
    assert torch.equal(ordered.sort(2).values, paths.sort(2).values)
    last = ordered[:, :, -1]
    assert torch.equal(last, paths.gather(2, places.unsqueeze(2)).squeeze(2))


def shares(objective: Objective, rated: Rated, paths: Tensor, row: int, index: int) -> tuple[Tensor, Tensor]:
    """(k,) w and ∫ ∂f/∂a of a block's path neurons, class token."""
    neurons = paths[row, index]
    columns = objective.problem.adapter.blocks[index].columns(neurons.unsqueeze(0))[0]
    return objective.problem.clean.activations[index][row, 0, neurons], rated.gradients[index][row, 0] @ columns.T


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_passes_of_any_size_give_the_same(micro_batch: int, images: Tensor, targets: Tensor) -> None:
    case: tiny.Case = (tiny.make("avg"), "patch")
    paths, rows = tiny.random_paths(case[0], 5, 2), torch.tensor([0, 2, 1, 1, 0])
    nodes = pose(case, images, targets).nodes()
    expected, found = (
        Objective(pose(case, images, targets, micro_batch=size)).rate(rows, paths, *nodes) for size in (5, micro_batch)
    )
    for ours, theirs in zip([*found.along, *found.gradients], [*expected.along, *expected.gradients], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
