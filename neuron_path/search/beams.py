"""Partial paths that grow block by block, several for each image, scored exactly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.exactness import largest, ranked
from neuron_path.attribution.objective import Objective
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.score import make_prefix, partial_score
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.prices import Prices


class Beams:
    """The w best partial paths of each of B images, image by image, the best first.

    A partial path is scored with its own blocks visited and those behind them live.

    Args:
        objective: what is maximised.
        scorer: proposes candidates, behind each partial path.
        top_k: neurons a block.

    Attributes:
        paths: (B·w, l, k).
        width: w, the same for all images.
        cost: of an image so far, in greedy searches.
        clearance: (B,) the closest call so far, relative to the scores compared.
    """

    def __init__(self, objective: Objective, scorer: Scorer, top_k: int) -> None:
        problem = objective.problem
        self.objective, self.top_k, self.width = objective, top_k, 1
        self.prices, self.cost = Prices.of(problem), 0.0
        self.paths = problem.targets.new_empty((problem.n_images, 0, top_k))
        self.clearance = problem.clean.embedded.new_full((problem.n_images,), torch.inf)
        self._scoring = scorer.start(problem)
        self._own: Prefix | None = None
        if self._scoring.carries(objective.measure) is None:
            self._own = make_prefix(problem, objective.measure)

    def grow_greedily(self) -> None:
        """Go on with each image's best partial path and the scorer's best neurons alone."""
        if self.width > 1:
            self._take(torch.arange(0, len(self.paths), self.width, device=self.paths.device))
        ratings = self._ratings()
        self._note_cut(ratings, self.top_k)
        self.cost += self.prices.candidate(self.paths.shape[1])
        self._choose(ranked(ratings)[1][:, : self.top_k])

    def grow(self, length: int, width: int) -> None:
        """Score the scorer's first `length` candidates behind each partial path, and keep the best `width` paths.

        With k > 1 neurons a block, candidates are scored one at a time, and a path goes on with the k − 1 best and one
        of those behind them.
        """
        self.cost += self.price(length, width)
        ratings, k = self._ratings(), self.top_k
        rated, listed = (values[:, :length] for values in ranked(ratings))
        self._note_cut(ratings, length)
        scores, places = ranked(self._scored(listed.unsqueeze(2)).masked_fill(rated == -torch.inf, -torch.inf))
        n_children = min(width, length - k + 1)
        self._note_cut(scores, k - 1 + n_children)
        last = torch.arange(k - 1, k - 1 + n_children, device=places.device).unsqueeze(1)
        first = torch.arange(k - 1, device=places.device).expand(n_children, -1)
        children = listed.gather(1, places)[:, torch.cat((first, last), 1)]  # (B·w, n_children, k)
        scores = scores[:, :n_children]
        if k > 1 and width > 1:
            self._note_cut(scores, k - 1)
            scores = self._scored(children)
        by_image = scores.reshape(-1, self.width * n_children)
        best = ranked(by_image)[1][:, :width]
        self._note_cut(by_image, width)
        starts = torch.arange(len(best), device=best.device).unsqueeze(1) * self.width
        parents = (starts + best // n_children).flatten()
        neurons = children[parents, (best % n_children).flatten()]
        if best.shape[1] != self.width or self.width > 1:
            self._take(parents)
        self._choose(neurons)

    def price(self, length: int, width: int) -> float:
        """What `grow` costs now."""
        n_sets = min(width, length - self.top_k + 1) if self.top_k > 1 and width > 1 else 0
        return self.width * (1 + length + n_sets) * self.prices.candidate(self.paths.shape[1])

    @property
    def _prefix(self) -> Prefix:
        prefix = self._own or self._scoring.carries(self.objective.measure)
        assert prefix is not None
        return prefix

    def _ratings(self) -> Float[Tensor, "n F"]:
        return integral(self._scoring.candidates(self.paths.shape[1]), 2)

    def _scored(self, neurons: Int[Tensor, "n c k"]) -> Float[Tensor, "n c"]:
        """The scores of the partial paths with each of these choices in the next block."""
        scores = []
        for choice in neurons.unbind(1):
            branch = self._prefix.branch()
            branch.choose(choice)
            chosen = [*self.paths.unbind(1), choice]
            scores.append(integral(partial_score(branch.problem, branch, chosen, self.objective.measure), 1))
        return torch.stack(scores, 1)

    def _take(self, rows: Int[Tensor, "r"]) -> None:
        self.width = len(rows) // len(self.clearance)
        self.paths, self._scoring = self.paths[rows], self._scoring.take(rows)
        self._own = None if self._own is None else self._own.take(rows)

    def _choose(self, neurons: Int[Tensor, "n k"]) -> None:
        self._scoring.choose(self.paths.shape[1], neurons)
        if self._own is not None:
            self._own.choose(neurons)
        self.paths = torch.cat((self.paths, neurons.unsqueeze(1)), 1)

    def _note_cut(self, values: Float[Tensor, "n c"], at: int) -> None:
        """Remember the closest call where the first `at` of some values are told from the rest."""
        if values.shape[1] > at > 0:
            ordered = ranked(values)[0]
            gaps = ((ordered[:, at - 1] - ordered[:, at]).nan_to_num(torch.inf) / largest(values)).to(self.clearance)
            self.clearance = torch.minimum(self.clearance, gaps.view(len(self.clearance), -1).amin(1))
