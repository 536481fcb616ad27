"""Linearised search: a few passes over the whole path, and arithmetic in between.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.exactness import ranked
from neuron_path.attribution.linear import Linear, Proposal
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import is_whole
from neuron_path.attribution.score import FEWEST
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.goal import Goal
from neuron_path.search.maximising import Maximising, candidates_of
from neuron_path.search.search import Doubt, Found, searches

# Of a path's value: what a step has to gain.
LEAST_GAIN = 1e-4
# The same to first order, which promises more than it keeps: a step that promises less is not tried.
_LEAST_PROMISE = 1e-3
_SWAPS = 4  # that are rated together at the end, with `polish`
_MOST_STEPS = {"joint": 64, "complete": 64, "effect": 3}


@searches.register("linearized")
@dataclass(frozen=True)
class Linearized(Maximising):
    """Go to the best path by what one forward and one backward pass say of all neurons, and again from there.

    A pass along a path gives its value and, to first order, that of every other path; the best one of these is rated
    next. Where it gains nothing, half of its changes are made, those that promise most, then a quarter, … The search
    ends where none of them gains anything. Successive linearisation of a set function is how FORCE prunes (de Jorge et
    al., 2021, arXiv 2006.09081) and Frank–Wolfe solves for a sparse explanation (Macdonald et al., 2022, arXiv
    2110.08105).

    Args:
        measure, operation, factor: what is maximised; see `Maximising`.
        n_steps: quadrature nodes on the way, each a pass; None: one, of a score with `polish` two, which tell a path
            from one that is nearly as good. The score of the path that is found takes as many as it needs.
        max_passes: passes after which an image takes the best path so far; None: any number.
        polish: begin from two or three paths in place of one, and at the end rate single swaps, too.

    Raises:
        NeuronPathError: an option out of range.
    """

    n_steps: int | None = None
    max_passes: int | None = None
    polish: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.polish, bool):
            raise NeuronPathError(f"search.polish is {self.polish!r}; expected True or False.")
        most = _MOST_STEPS[self.measure]
        if not is_whole(self.n_nodes) or not 1 <= self.n_nodes <= most:
            raise NeuronPathError(
                f"search.n_steps is {self.n_steps}; expected 1 … {most} nodes on the way of measure={self.measure}, "
                "or null for its own."
            )
        if self.max_passes is not None and (not is_whole(self.max_passes) or self.max_passes < self.n_nodes):
            raise NeuronPathError(
                f"search.max_passes is {self.max_passes}; expected at least {self.n_nodes}, which rating one path "
                "takes, or null for any number."
            )

    @property
    def n_nodes(self) -> int:
        """On the way."""
        if self.n_steps is not None:
            return self.n_steps
        return FEWEST if self.polish and self.measure != "effect" else 1

    def run(
        self,
        problem: Problem,
        scorer: Scorer,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found:
        """Climb from where the clean network's gradients point, and with `polish` from other paths."""
        return self._climbed(problem, None, None, top_k=top_k, per_block=per_block, keep_candidates=keep_candidates)

    def revise(
        self,
        problem: Problem,
        scorer: Scorer,
        draft: Found,
        doubt: Doubt,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found:
        """Search again, rating again those paths only about which a call was close; where the paths come out as they
        were, their scores are kept. Where the way turns, and comes to a close call about another path, again."""
        options: dict[str, Any] = {"top_k": top_k, "per_block": per_block, "keep_candidates": keep_candidates}
        if not isinstance(draft.trail, _Trail) or not doubt.blocks.any():
            return super().revise(problem, scorer, draft, doubt, **options)
        bar = doubt.close_call.masked_fill(doubt.scores, torch.inf)
        known, kept = draft.trail.clear(bar), None if doubt.scores.any() else draft
        while True:
            found = self._climbed(problem, known, kept, **options)
            assert isinstance(found.trail, _Trail)
            known = found.trail.clear(bar)
            if len(known.closest) == len(found.trail.closest):
                return replace(found, trail=None)

    def _climbed(
        self,
        problem: Problem,
        known: _Trail | None,
        draft: Found | None,
        *,
        top_k: int,
        per_block: bool,
        keep_candidates: bool,
    ) -> Found:
        """The search, with what is known of it, and paths whose scores hold."""
        goal = self.goal(problem, self.n_nodes, per_block=per_block)
        climb = _Climb(goal, self.max_passes, _SWAPS if self.polish else 0, known, keep_candidates=keep_candidates)
        starts = climb.starts(top_k, None if self.polish else 1)
        best = climb.up(problem.every_image, starts[0].paths)
        climb.note(problem.every_image, starts[0].clearance)
        for start in starts[1:]:
            rows = climb.affordable(problem.every_image)
            if len(rows):
                climb.note(rows, start.clearance[rows])
                best = climb.better(best, rows, climb.up(rows, start.paths[rows]))
        rows = problem.every_image if self.polish else problem.every_image[:0]
        while len(rows := climb.affordable(rows, _SWAPS)):
            rows, paths = climb.swapped(rows, best)
            if len(rows):
                best = climb.better(best, rows, climb.up(rows, paths))
        climb.note(problem.every_image, best.order, best.rating)
        return self.found(
            climb.goal,
            best.paths,
            best.values,
            passes=climb.passes,
            clearance=climb.clearance,
            margins=best.margins,
            candidates=best.candidates,
            along=best.along,
            trail=climb.trail(starts),
            draft=draft,
            keep_candidates=keep_candidates,
        )


@dataclass(frozen=True)
class _Rows:
    """Tensors, or groups of them, that each have a row for every one of some images."""

    def take(self, at: Tensor) -> Self:
        """Some of the rows."""
        return type(self)(*(part.take(at) if isinstance(part, _Rows) else part[at] for part in self._parts))

    def put(self, at: Int[Tensor, "r"], others: Self) -> Self:
        """The same with others in some rows."""
        pairs = zip(self._parts, others._parts, strict=True)
        return type(self)(*(a.put(at, b) if isinstance(a, _Rows) else a.index_copy(0, at, b) for a, b in pairs))

    def to(self, like: Tensor) -> Self:
        """On the device of `like`, floats in its type."""
        parts = (
            part.to(like if isinstance(part, _Rows) or part.is_floating_point() else like.device)
            for part in self._parts
        )
        return type(self)(*parts)

    @classmethod
    def cat(cls, several: Sequence[Self]) -> Self:
        """The rows of several."""
        pairs = zip(*(one._parts for one in several), strict=True)
        return cls(*(type(parts[0]).cat(parts) if isinstance(parts[0], _Rows) else torch.cat(parts) for parts in pairs))

    @property
    def _parts(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class _Top(_Rows):
    """Where the climbs of n images have ended.

    Attributes:
        paths: (n, L, k), each block's neurons in order.
        values: (n,).
        along: (n, 2, m); see `Rating`.
        margins: (n, L); see `PathResult`.
        order: (n,) how clear the order of each block's neurons is, relative to what the largest counts.
        candidates: (n, G) of all blocks side by side, G = 0 where they are not kept.
        swaps: (n, c, L, k) the paths that differ in the most promising swap, the next one, …
        gaps: (n,) by how much the last of these is more promising than the next, as a share of the value.
        rating: (n,) which of the climb's ratings, counted from the first, told all this.
    """

    paths: Int[Tensor, "n L k"]
    values: Float[Tensor, "n"]
    along: Float[Tensor, "n 2 m"]
    margins: Float[Tensor, "n L"]
    order: Float[Tensor, "n"]
    candidates: Float[Tensor, "n G"]
    swaps: Int[Tensor, "n c L k"]
    gaps: Float[Tensor, "n"]
    rating: Int[Tensor, "n"]


class _Climb:
    """Climbs of the images of one problem; no image's way depends on another's.

    Args:
        goal: what is maximised.
        max_passes: of an image.
        n_swaps: that a path is asked for.
        known: of the climbs before, what holds still.
        keep_candidates: see `_Top`.

    Attributes:
        passes: (B,) that each image has taken.
        clearance: (B,) its closest call.
    """

    def __init__(
        self, goal: Goal, max_passes: int | None, n_swaps: int, known: _Trail | None, *, keep_candidates: bool
    ) -> None:
        self.goal, self._most, self._n_swaps, self._keeps = goal, max_passes, n_swaps, keep_candidates
        self._known = known
        self.passes = torch.zeros_like(goal.problem.targets)
        self.clearance = goal.problem.clean.embedded.new_full((goal.problem.n_images,), torch.inf)
        self._ratings: list[_Ratings] = []
        self._closest = self.clearance[:0]  # of each rating, the closest call about it
        self._is_rough = self.clearance[:0].bool()  # whether it is by float32

    def starts(self, top_k: int, most: int | None) -> list[Proposal]:
        """The paths to begin from."""
        if self._known is not None and self._known.starts:
            return self._known.starts
        return [model.best(top_k) for model in islice(self.goal.starts(), most)]

    def trail(self, starts: list[Proposal]) -> _Trail:
        """What led to the paths."""
        return _Trail(starts, _Ratings.cat(self._ratings), self._closest, self._is_rough)

    def note(self, rows: Int[Tensor, "n"], leads: Float[Tensor, "n"], *ratings: Int[Tensor, "n"]) -> None:
        """Remember a call of the images `rows` if it is their closest, and the closest about the ratings behind it."""
        leads = leads.abs().nan_to_num(torch.inf, torch.inf)
        self.clearance[rows] = torch.minimum(self.clearance[rows], leads)
        for rating in ratings:
            self._closest[rating] = torch.minimum(self._closest[rating], leads)

    def affordable(self, rows: Int[Tensor, "n"], n_paths: int = 1) -> Int[Tensor, "r"]:
        """Those images that may rate so many more paths."""
        return rows if self._most is None else rows[self.passes[rows] + n_paths * self.goal.n_steps <= self._most]

    def up(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"]) -> _Top:
        """Climb from one path of each of some images, which can afford it."""
        # Every image climbs on its own: `at` is how many of its present steps (all changes, half of them, …) have
        # failed; a step that gains something makes new ones, and those that ran out of steps or passes drop out.
        top, steps = self._rate(rows, paths)
        self.note(rows, steps.clearance, top.rating)
        at = torch.zeros_like(rows)
        trials, cuts, counts = steps.paths.clone(), steps.cuts.clone(), steps.counts.clone()
        while True:
            left = (at < counts).nonzero().squeeze(1)
            left = left[torch.isin(rows[left], self.affordable(rows[left]))]
            if not len(left):
                return top
            now, which = rows[left], at[left]
            self.note(now, cuts[left, which], top.rating[left])
            other, steps = self._rate(now, trials[left, which])
            before = top.values[left]
            lead = (other.values - before) / before.abs() - LEAST_GAIN
            # A step that is only just better, or only just not, is a close call.
            self.note(now, lead, top.rating[left], other.rating)
            at[left] += 1
            better = lead > 0
            up, new = left[better], better.nonzero().squeeze(1)
            self.note(rows[up], steps.clearance[new], other.rating[new])
            top = top.put(up, other.take(new))
            trials[up], cuts[up], counts[up], at[up] = steps.paths[new], steps.cuts[new], steps.counts[new], 0

    def better(self, best: _Top, rows: Int[Tensor, "n"], other: _Top) -> _Top:
        """Of each image the better of two ends, the first where they are equal."""
        lead = (other.values - best.values[rows]) / best.values[rows].abs()
        differs = (other.paths.sort(2).values != best.paths[rows].sort(2).values).flatten(1).any(1)
        lead_told = (lead - LEAST_GAIN).masked_fill(~differs, torch.inf)
        self.note(rows, lead_told, best.rating[rows], other.rating)
        wins = (differs & (lead > LEAST_GAIN)).nonzero().squeeze(1)
        return best.put(rows[wins], other.take(wins))

    def swapped(self, rows: Int[Tensor, "n"], best: _Top) -> tuple[Int[Tensor, "r"], Int[Tensor, "r L k"]]:
        """The images for which one of the most promising swaps gains something, and their paths with the best one."""
        top = best.take(rows)
        n_swaps = top.swaps.shape[1]
        values = self.goal.values(rows.repeat_interleave(n_swaps), top.swaps.flatten(0, 1)).view(-1, n_swaps)
        self.passes[rows] += n_swaps * self.goal.n_steps
        ordered, order = ranked(values)
        scale = top.values.abs()
        lead = (ordered[:, 0] - top.values) / scale - LEAST_GAIN
        self.note(rows, top.gaps, top.rating)
        self.note(rows, lead, top.rating)
        gains = lead > 0
        if n_swaps > 1:
            self.note(rows, ((ordered[:, 0] - ordered[:, 1]) / scale).masked_fill(~gains, torch.inf))
        at = gains.nonzero().squeeze(1)
        return rows[at], top.swaps[at, order[at, 0]]

    def _rate(self, rows: Tensor, paths: Tensor) -> tuple[_Top, _Steps]:
        """The paths as ends of a climb, and the steps from there."""
        self.passes[rows] += self.goal.n_steps
        told = torch.full_like(rows, -1) if self._known is None else self._known.ratings.find(rows, paths)
        new = (told < 0).nonzero().squeeze(1)
        is_rough = torch.full_like(told, self.clearance.dtype != torch.float64, dtype=torch.bool)
        if len(new) == len(rows):
            ratings = self._rated(rows, paths)
        else:
            assert self._known is not None
            ratings = self._known.ratings.take(told.clamp(min=0))
            is_rough = (told >= 0) & self._known.is_rough[told]
            if len(new):
                ratings = ratings.put(new, self._rated(rows[new], paths[new]))
        numbers = len(self._closest) + torch.arange(len(rows), device=rows.device)
        top = replace(ratings.top, rating=numbers)
        self._ratings.append(replace(ratings, images=rows, top=top))
        self._closest = torch.cat((self._closest, torch.full_like(top.values, torch.inf)))
        self._is_rough = torch.cat((self._is_rough, is_rough))
        return top, ratings.steps

    def _rated(self, rows: Tensor, given: Tensor) -> _Ratings:
        rating = self.goal.rate(rows, given)
        model, paths = rating.model, rating.model.in_order(given)
        swaps, gaps = _swaps(model, paths, self._n_swaps)
        margins = model.margins(paths)
        candidates = candidates_of(model, paths) if self._keeps else margins[:, :0]
        counts = model.value(paths).view(-1, 1, 1) - torch.stack(model.without(paths), 1)
        apart = (counts[..., :-1] - counts[..., 1:]).abs().flatten(1) / counts.abs().amax((1, 2)).unsqueeze(1)
        order = F.pad(apart, (0, 1), value=torch.inf).amin(1)
        top = _Top(paths, rating.values, rating.along, margins, order, candidates, swaps, gaps, rows)
        return _Ratings(rows, given, top, _Steps.of(model, paths))


@dataclass(frozen=True)
class _Steps(_Rows):
    """What n images may try next: the model's best path, then with half of its changes, a quarter, …

    Attributes:
        paths: (n, T, L, k) in the order in which they are tried.
        cuts: (n, T) how clearly the changes that are made, of a neuron each, promise more than those that are not,
            relative to the most that one promises.
        counts: (n,) how many of them there are.
        clearance: (n,) the closest call behind the model's best path.
    """

    paths: Int[Tensor, "n T L k"]
    cuts: Float[Tensor, "n T"]
    counts: Int[Tensor, "n"]
    clearance: Float[Tensor, "n"]

    @staticmethod
    def of(model: Linear, current: Int[Tensor, "n L k"]) -> _Steps:
        """Those that the model around the current paths, each block's neurons in order, suggests."""
        proposal = model.best(current.shape[2], current)
        others = _aligned(model, current, proposal.paths)
        differs = others != current  # (n, L, k)
        value = model.value(current)
        gains = (model.exchanged(current, others) - value.view(-1, 1, 1)).flatten(1)
        ordered, order = ranked(gains.masked_fill(~differs.flatten(1), -torch.inf))
        rank, n_changes = order.argsort(1).view(differs.shape), differs.sum((1, 2))
        most, least = ordered[:, 0].abs(), _LEAST_PROMISE * value.abs()
        lead = gains.masked_fill(~differs.flatten(1), 0).clamp(min=0).sum(1) - least
        near = (lead.abs() / most).masked_fill(n_changes == 0, torch.inf).nan_to_num(torch.inf, torch.inf)
        clearance = torch.minimum(proposal.clearance, near)
        gaps = [] if current.shape[2] == 1 else [_gaps(model, one) for one in (current, others)]
        paths, cuts, valid = [], [], []
        size, last = n_changes, n_changes + 1
        for _ in range(differs[0].numel().bit_length()):
            made = rank < size.view(-1, 1, 1)
            paths.append(torch.where(made, others, current))
            first_left = ordered.gather(1, size.clamp(max=ordered.shape[1] - 1).unsqueeze(1)).squeeze(1)
            last_made = ordered.gather(1, (size - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
            cut = torch.minimum(last_made - first_left, _parted(gaps, made, differs & ~made))
            cuts.append((cut / most).masked_fill(size >= n_changes, torch.inf))
            valid.append((lead > 0) & (size > 0) & (size < last))
            last, size = size, size // 2
        # A halved number comes to 1 and then to 0: all that are valid come first.
        counts = torch.stack(valid, 1).sum(1)
        return _Steps(torch.stack(paths, 1), torch.stack(cuts, 1), counts, clearance)


@dataclass(frozen=True)
class _Ratings(_Rows):
    """N rated paths.

    Attributes:
        images: (N,) whose.
        given: (N, L, k) as they were given to be rated.
        top, steps: what was found.
    """

    images: Int[Tensor, "N"]
    given: Int[Tensor, "N L k"]
    top: _Top
    steps: _Steps

    def find(self, images: Int[Tensor, "n"], given: Int[Tensor, "n L k"]) -> Int[Tensor, "n"]:
        """Which of these rated the same paths of the same images; -1: none."""
        if not len(self.images):
            return torch.full_like(images, -1)
        same = (images.unsqueeze(1) == self.images) & (given.unsqueeze(1) == self.given).flatten(2).all(2)
        return torch.where(same.any(1), same.to(torch.uint8).argmax(1), -1)


@dataclass(frozen=True)
class _Trail:
    """What led to the paths of some images.

    Attributes:
        starts: where each image began.
        ratings: on the way.
        closest: (N,) of each rating the closest call that it led to.
        is_rough: (N,) whether it is by float32.
    """

    starts: list[Proposal]
    ratings: _Ratings
    closest: Float[Tensor, "N"]
    is_rough: Bool[Tensor, "N"]

    def take(self, rows: Int[Tensor, "b"], like: Tensor) -> _Trail:
        own = self.ratings.images.unsqueeze(1) == rows
        at = own.any(1).nonzero().squeeze(1)
        ratings = replace(self.ratings.take(at), images=own[at].to(torch.uint8).argmax(1)).to(like)
        starts = [Proposal(one.paths[rows].to(like.device), one.clearance[rows].to(like)) for one in self.starts]
        return _Trail(starts, ratings, self.closest[at].to(like), self.is_rough[at].to(like.device))

    def clear(self, bar: Float[Tensor, "b"]) -> _Trail:
        """What is left of it without what float32 leaves in doubt, by a call below the image's bar: no start where one
        is, and of a path that was rated twice, neither."""
        is_clear = all(bool((one.clearance > bar).all()) for one in self.starts)
        which = torch.cat((self.ratings.images.unsqueeze(1), self.ratings.given.flatten(1)), 1)
        same = which.unique(dim=0, return_inverse=True)[1]
        closest = torch.full_like(self.closest, torch.inf).scatter_reduce(0, same, self.closest, "amin")[same]
        at = (~self.is_rough | (closest > bar[self.ratings.images])).nonzero().squeeze(1)
        return _Trail(self.starts if is_clear else [], self.ratings.take(at), self.closest[at], self.is_rough[at])


def _aligned(model: Linear, current: Int[Tensor, "n L k"], others: Int[Tensor, "n L k"]) -> Int[Tensor, "n L k"]:
    """The other paths with what both have where the current ones have it: the neuron that counts most comes in for the
    one that is missed least, the next for the next."""
    if current.shape[2] == 1:
        return others
    others = model.in_order(others)
    same = current.unsqueeze(3) == others.unsqueeze(2)
    stays, is_known = same.any(3), same.any(2)
    new = others.gather(2, is_known.to(torch.uint8).sort(dim=2, stable=True).indices)  # those that come in first
    nth = (~stays).flip(2).cumsum(2).flip(2) - 1  # of those that go, counted from the last
    return torch.where(stays, current, new.gather(2, nth.clamp(min=0)))


def _gaps(model: Linear, paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n L k k"]:
    """How much more one neuron of a block counts than another, without a sign."""
    counts = torch.stack(model.without(paths), 1)
    return (counts.unsqueeze(3) - counts.unsqueeze(2)).abs()


def _parted(
    gaps: Sequence[Float[Tensor, "n L k k"]], made: Bool[Tensor, "n L k"], left: Bool[Tensor, "n L k"]
) -> Float[Tensor, "n"]:
    """The smallest difference, within a block, between what neurons whose change is made and is not count: were they in
    another order, other ones would go or come in."""
    found = torch.full(made.shape[:1], torch.inf, device=made.device)
    apart = made.unsqueeze(3) & left.unsqueeze(2)
    for every in gaps:
        found = torch.minimum(found.to(every), every.masked_fill(~apart, torch.inf).flatten(1).amin(1))
    return found


def _swaps(model: Linear, current: Int[Tensor, "n L k"], n_swaps: int) -> tuple[Tensor, Tensor]:
    """The paths with one of the most promising swaps each, and the gap behind the last of them."""
    value = model.value(current)
    if not n_swaps:
        return current.unsqueeze(1)[:, :0], torch.full_like(value, torch.inf)
    found = model.swaps(current, n_swaps + 1)
    length, every = found.scores.shape[2], torch.arange(len(current), device=current.device)
    scores, which = ranked(found.scores.flatten(1))
    paths = []
    for nth in range(n_swaps):
        block, at = which[:, nth] // length, which[:, nth] % length
        swapped = current.clone()
        swapped[every, block, found.places[every, block]] = found.neurons[every, block, at]
        exists = scores[:, nth].isfinite().view(-1, 1, 1)
        paths.append(torch.where(exists, swapped, current))
    return torch.stack(paths, 1), (scores[:, n_swaps - 1] - scores[:, n_swaps]) / value.abs()
