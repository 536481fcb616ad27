"""Ascent of the final score: the swaps that the gradients promise, made together and, where that fails, one by one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.draws import uniform
from neuron_path.attribution.exactness import ranked
from neuron_path.attribution.objective import Objective, Rated, Swaps
from neuron_path.attribution.score import make_prefix, partial_score
from neuron_path.search.improving import Improved
from neuron_path.search.prices import Prices

# Of a path's score: what a swap has to gain.
LEAST_GAIN = 1e-4


class Reach(NamedTuple):
    """Which swaps are scored one by one where those that promise something, made together, gain nothing.

    Attributes:
        length: so many of each block, the most promising.
        slack: those that lose less to first order, as a share of the path's score.
    """

    length: int
    slack: float


def climb(objective: Objective, start: Rated, reach: Reach, allowance: Float[Tensor, "B"]) -> Improved:
    """Go up from rated paths, one for each image, until no listed swap gains more than LEAST_GAIN.

    Args:
        objective: what is maximised.
        start: the paths.
        reach: what is tried before an image's climb ends.
        allowance: what each image's may cost; infinite: anything.
    """
    way = _Climb(objective, start, reach, allowance)
    way.run()
    return Improved(way.current, way.cost, way.clearance, way.resolution)


def climb_from_random(
    objective: Objective, best: Improved, reach: Reach, allowance: Float[Tensor, "B"], restarts: int, seed: int
) -> Improved:
    """Climb from random paths as well; no image's depend on the others.

    Args:
        objective: what is maximised.
        best: what has been found, with what it has cost.
        reach: see `climb`.
        allowance: what each image may cost, what it has cost included.
        restarts: how many paths.
        seed: of the paths.
    """
    top_k, first = best.paths.paths.shape[2], Prices.of(objective.problem).path
    for restart in range(restarts):
        left = allowance - best.cost - first
        rows = (left > -1e-6).nonzero().squeeze(1)
        if not len(rows):
            break
        draws = uniform(objective.problem, f"{seed} restart {restart}")
        paths = torch.stack([numbers.topk(top_k, 1).indices for numbers in draws], 1)
        way = climb(objective, objective.rate(rows, paths[rows]), reach, left[rows])
        best = best.or_better(way._replace(cost=way.cost + first))
    return best


class _Climb:
    """Paths on their way up; no image's way depends on another's."""

    def __init__(self, objective: Objective, start: Rated, reach: Reach, allowance: Tensor) -> None:
        self.objective, self.current, self.allowance = objective, start, allowance
        self.length, self.slack = reach
        self.prices = Prices.of(objective.problem)
        self.cost = torch.zeros_like(allowance)
        self.clearance = torch.full_like(start.scores, torch.inf)
        self.resolution = self.clearance.clone()

    def run(self) -> None:
        """Until every image is up, or has spent its allowance."""
        rows = torch.arange(len(self.cost), device=self.cost.device)
        while len(rows):
            swaps = self.objective.swaps(self.current.take(rows), self.length + 1)
            gains = swaps.scores - self.current.scores[rows].view(-1, 1, 1)
            first = gains[:, :, 0]
            self._note(rows, first.abs())
            self._note(rows, first - gains[:, :, 1], first > 0)
            improved = self._together(rows, first, swaps.neurons[:, :, 0], swaps.places)
            left = (~improved).nonzero().squeeze(1)
            if len(left):
                improved[left] = self._one_by_one(rows[left], gains[left], swaps.take(left))
            rows = rows[improved]

    def _together(
        self,
        rows: Int[Tensor, "n"],
        gains: Float[Tensor, "n L"],
        neurons: Int[Tensor, "n L"],
        places: Int[Tensor, "n L"],
    ) -> Bool[Tensor, "n"]:
        """Make the best swap, the best two, the best four, …, all that are said to gain; keep the best path of these.

        Returns:
            Which images' paths are better now.
        """
        current, n_blocks = self.current.take(rows), gains.shape[1]
        ordered, order = ranked(gains)
        self._note(rows, ordered[:, :-1] - ordered[:, 1:], ordered[:, 1:] > 0)
        useful = (gains > 0).sum(1, keepdim=True)
        powers = [2**power for power in range(n_blocks) if 2**power < n_blocks]
        sizes = torch.tensor([*powers, n_blocks], device=rows.device)
        valid = torch.cat((sizes.new_zeros(1), sizes[:-1])) < useful
        affordable = ((self.allowance - self.cost)[rows] / self.prices.path + 1e-6).floor()
        valid &= valid.cumsum(1) <= affordable.unsqueeze(1)
        is_swapped = order.argsort(1).unsqueeze(1) < torch.minimum(sizes, useful).unsqueeze(2)  # (n, sizes, L)
        goes = torch.arange(current.paths.shape[2], device=rows.device) == places.unsqueeze(2)  # (n, L, k)
        swapped = torch.where(goes, neurons.unsqueeze(2), current.paths).unsqueeze(1)
        paths = torch.where(is_swapped.unsqueeze(3), swapped, current.paths.unsqueeze(1))
        return self._keep_best(rows, paths, valid)

    def _keep_best(
        self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n p L k"], valid: Bool[Tensor, "n p"]
    ) -> Bool[Tensor, "n"]:
        """Score the valid paths; the best one of an image takes the place of its current one, if it is better."""
        owner, which = valid.nonzero(as_tuple=True)
        if not len(owner):
            return torch.zeros_like(rows, dtype=torch.bool)
        found = self.objective.rate(self.current.rows[rows[owner]], paths[owner, which])
        self.cost[rows] += self.prices.path * valid.sum(1)
        scores = found.scores.new_full(valid.shape, -torch.inf)
        scores[valid] = found.scores
        place = torch.zeros_like(valid, dtype=torch.long)
        place[valid] = torch.arange(len(owner), device=rows.device)
        order = ranked(scores)[1][:, :2]
        best, has_any = found.take(place.gather(1, order[:, :1]).squeeze(1)), valid.any(1)
        now = self.current.take(rows)
        bar = now.scores.abs() * LEAST_GAIN
        improved = has_any & (best.scores - now.scores > bar)
        self._weigh(rows, best.terms - now.terms, bar, has_any)
        if valid.shape[1] > 1:
            second = found.take(place.gather(1, order[:, 1:]).squeeze(1))
            self._weigh(rows, best.terms - second.terms, torch.zeros_like(bar), improved & (valid.sum(1) > 1))
        self.current = self.current.put(rows[improved], best.take(improved.nonzero().squeeze(1)))
        return improved

    def _one_by_one(self, rows: Int[Tensor, "n"], gains: Float[Tensor, "n L c1"], swaps: Swaps) -> Bool[Tensor, "n"]:
        """Score the listed swaps, each on its own; then make the best of each block together.

        Args:
            rows: the images.
            gains: to first order, of the listed swaps and of the first ones behind them.
            swaps: these swaps.
        """
        is_listed = self._listed(rows, gains)
        exact = self._exact(rows, is_listed, swaps) - self.current.scores[rows].view(-1, 1, 1)
        self.cost[rows] += self._price_of(is_listed)
        ordered, order = (x.unflatten(0, exact.shape[:2]) for x in ranked(exact.flatten(0, 1)))
        neurons = swaps.neurons.gather(2, order[:, :, :1]).squeeze(2)
        best = ordered[:, :, 0]
        bar = LEAST_GAIN * self.current.scores[rows].abs().unsqueeze(1)
        self._note(rows, (best - bar).abs())
        if self.length > 1:
            self._note(rows, best - ordered[:, :, 1], best > bar)
        return self._together(rows, torch.where(best > bar, best, 0), neurons, swaps.places)

    def _listed(self, rows: Int[Tensor, "n"], gains: Float[Tensor, "n L c1"]) -> Bool[Tensor, "n L c"]:
        """The swaps that may gain something all the same, as far as the allowance goes, the most promising first."""
        slack = self.slack * self.current.scores[rows].abs().view(-1, 1, 1)
        listed, behind = gains[:, :, :-1], gains[:, :, 1:]
        may_gain = listed > -slack
        self._note(rows, (listed + slack).abs())
        self._note(rows, (listed - behind)[:, :, -1], may_gain[:, :, -1])
        prices = torch.tensor([self.prices.swap(index) for index in range(listed.shape[1])]).to(self.cost)
        ordered, order = ranked(listed.masked_fill(~may_gain, -torch.inf).flatten(1))
        spent = (prices.repeat_interleave(self.length)[order] * ordered.isfinite()).cumsum(1)
        # Once they are made together the path has to be rated; the prefix before them is run once.
        left = (self.allowance - self.cost)[rows] - 2 * self.prices.path
        fits = spent <= left.unsqueeze(1) + 1e-6
        self._note(rows, ordered[:, :-1] - ordered[:, 1:], fits[:, :-1] & ~fits[:, 1:] & ordered[:, 1:].isfinite())
        return may_gain & torch.zeros_like(fits).scatter(1, order, fits).view_as(may_gain)

    def _price_of(self, is_listed: Bool[Tensor, "n L c"]) -> Float[Tensor, "n"]:
        swaps = torch.tensor([self.prices.swap(index) for index in range(is_listed.shape[1])]).to(self.cost)
        return is_listed.sum(2).to(swaps) @ swaps + self.prices.path * is_listed.flatten(1).any(1)

    def _exact(self, rows: Int[Tensor, "n"], is_listed: Bool[Tensor, "n L c"], swaps: Swaps) -> Float[Tensor, "n L c"]:
        """The scores of the paths with one listed swap each, −∞ for others; the blocks before are run once for all."""
        problem, measure = self.objective.problem, self.objective.measure
        scores = swaps.scores.new_full(is_listed.shape, -torch.inf)
        some = is_listed.flatten(1).any(1).nonzero().squeeze(1)
        if not len(some):
            return scores
        paths = self.current.paths[rows[some]]
        prefix = make_prefix(problem.take(self.current.rows[rows[some]], problem.quadrature), measure)
        goes = torch.arange(paths.shape[2], device=rows.device) == swaps.places[some].unsqueeze(2)
        for index in range(paths.shape[1]):
            for nth in range(self.length):
                at = is_listed[some, index, nth].nonzero().squeeze(1)
                if not len(at):
                    continue
                branch, swapped = prefix.take(at), paths[at]
                comes = swaps.neurons[some[at], index, nth].unsqueeze(1)
                swapped[:, index] = torch.where(goes[at, index], comes, swapped[:, index])
                for later in range(index, paths.shape[1]):
                    branch.choose(swapped[:, later])
                terms = partial_score(branch.problem, branch, swapped.unbind(1), measure)
                scores[some[at], index, nth] = integral(terms, 1)
            prefix.choose(paths[:, index])
        return scores

    def _note(self, rows: Int[Tensor, "n"], leads: Float[Tensor, "n *L"], counts: Tensor | None = None) -> None:
        """Remember the closest of some leads, where they count."""
        if not leads.flatten(1).shape[1]:  # one block alone
            return
        relative = leads.abs().flatten(1).nan_to_num(torch.inf) / self.current.scores[rows].abs().unsqueeze(1)
        if counts is not None:
            relative = relative.masked_fill(~counts.flatten(1), torch.inf)
        self.clearance[rows] = torch.minimum(self.clearance[rows], relative.amin(1))

    def _weigh(self, rows: Int[Tensor, "n"], leads: Float[Tensor, "*terms n"], bar: Tensor, counts: Tensor) -> None:
        """Remember how clearly a lead is above or below the bar, where it counts."""
        distance = (integral(leads, 1) - bar).abs()
        self._note(rows, distance.unsqueeze(1), counts.unsqueeze(1))
        if leads.ndim > 1:
            excess = distance - integration_error(leads, self.objective.problem.quadrature.n_steps)
            excess = (excess / self.current.scores[rows].abs()).masked_fill(~counts, torch.inf)
            self.resolution[rows] = torch.minimum(self.resolution[rows], excess)
