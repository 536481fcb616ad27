"""The final score of whole paths as what a search maximises, and what it would be with one neuron swapped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.exactness import ranked
from neuron_path.attribution.forward import through
from neuron_path.attribution.problem import Problem
from neuron_path.types import Measure


@dataclass(frozen=True)
class Rated:
    """n paths, their scores, and the gradients that these follow from.

    Attributes:
        rows: (n,) which image of the problem each path belongs to.
        paths: (n, L, k).
        terms: (n,) final scores; with the `adaptive` rule (4, n), the scores first.
        gradients: per block (n, S, D): ∫ ∂f/∂z dα, z the block's projection in scope.
    """

    rows: Int[Tensor, "n"]
    paths: Int[Tensor, "n L k"]
    terms: Float[Tensor, "*terms n"]
    gradients: list[Float[Tensor, "n S D"]]

    @property
    def scores(self) -> Float[Tensor, "n"]:
        """The scores alone."""
        return integral(self.terms, 1)

    def take(self, which: Int[Tensor, "r"]) -> Rated:
        """Some of the paths."""
        gradients = [values[which] for values in self.gradients]
        return Rated(self.rows[which], self.paths[which], self.terms[..., which], gradients)

    def put(self, which: Tensor, others: Rated) -> Rated:
        """The same with other paths in some places."""
        gradients = [old.index_copy(0, which, new) for old, new in zip(self.gradients, others.gradients, strict=True)]
        paths = self.paths.index_copy(0, which, others.paths)
        return Rated(self.rows, paths, self.terms.index_copy(-1, which, others.terms), gradients)


class Swaps(NamedTuple):
    """The c most promising swaps in each block of n paths.

    Attributes:
        scores: (n, L, c) what the path's score would be, to first order, in descending order.
        neurons: (n, L, c) the neuron that comes in.
        places: (n, L) the place, among the block's k, of the one that goes: the one that is missed least.
    """

    scores: Float[Tensor, "n L c"]
    neurons: Int[Tensor, "n L c"]
    places: Int[Tensor, "n L"]

    def take(self, which: Int[Tensor, "r"]) -> Swaps:
        """Those of some of the paths."""
        return Swaps(*(values[which] for values in self))


class Along(NamedTuple):
    """What is integrated, of n paths at m nodes: both scores are weighted sums over the nodes.

    Attributes:
        joint: (m, n) the mean over tokens of (Σ w) · Σ ∂f/∂a.
        complete: (m, n) the sum over tokens of Σ w · ∂f/∂a.
    """

    joint: Float[Tensor, "m n"]
    complete: Float[Tensor, "m n"]

    def take(self, which: Int[Tensor, "r"]) -> Along:
        """Some of the paths."""
        return Along(self.joint[:, which], self.complete[:, which])

    def with_more(self, others: Along) -> Along:
        """The same paths at these nodes and others."""
        return Along(torch.cat((self.joint, others.joint)), torch.cat((self.complete, others.complete)))

    def integrals(self, weights: Float[Tensor, "m"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """The joint and the complete scores."""
        return weights @ self.joint, weights @ self.complete


@dataclass(frozen=True)
class Objective:
    """The final score of paths, by a measure, on the images of one problem.

    One forward and one backward pass of the frozen graph, all blocks visited, give a path's score and the gradient at
    every neuron of every block; to first order in a swap these give the score of each path that differs in one neuron.
    """

    problem: Problem
    measure: Measure = "joint"

    def rate(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"]) -> Rated:
        """Score n ≥ 1 paths, in passes of the problem's micro-batch.

        Args:
            rows: which image each path belongs to.
            paths: neurons, distinct within a block.
        """
        alpha, weights = self.problem.nodes()
        n_paths, n_nodes = max(1, self.problem.micro_batch // len(alpha)), self.problem.micro_batch
        parts: list[Rated] = []
        for run in torch.arange(len(rows), device=rows.device).split(n_paths):
            total: list[Tensor] = []
            for nodes in torch.arange(len(alpha), device=alpha.device).split(n_nodes):
                found = self._gradients(rows[run], paths[run], alpha[nodes])
                sums = [torch.tensordot(weights[..., nodes], g.unflatten(0, (len(nodes), -1)), dims=1) for g in found]
                total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
            terms = self._terms(rows[run], paths[run], total)
            parts.append(Rated(rows[run], paths[run], terms, [integral(values, 3) for values in total]))
        gradients = [torch.cat(values) for values in zip(*(part.gradients for part in parts), strict=True)]
        return Rated(rows, paths, torch.cat([part.terms for part in parts], -1), gradients)

    def of(self, rated: Rated) -> Float[Tensor, "n"]:
        """The score by this measure of paths that were rated by any."""
        return self._terms(rated.rows, rated.paths, rated.gradients)

    def along(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"], alpha: Float[Tensor, "m"]) -> Along:
        """What is integrated at the given nodes, of paths of the images `rows`."""
        n_paths = max(1, self.problem.micro_batch // len(alpha))
        parts = []
        for run in torch.arange(len(rows), device=rows.device).split(n_paths):
            nodes = [self._along(rows[run], paths[run], part) for part in alpha.split(self.problem.micro_batch)]
            parts.append(Along(*(torch.cat(values) for values in zip(*nodes, strict=True))))
        return Along(*(torch.cat(values, 1) for values in zip(*parts, strict=True)))

    def _along(self, rows: Tensor, paths: Tensor, alpha: Tensor) -> Along:
        """The same in one pass."""
        by_block = []
        for index, gradient in enumerate(self._gradients(rows, paths, alpha)):
            neurons = paths[:, index]
            w = self.problem.clean.chosen(index, neurons, rows)  # (n, S, k)
            columns = self.problem.adapter.blocks[index].columns(neurons)  # (n, k, D)
            g = gradient.unflatten(0, (len(alpha), -1)) @ columns.mT  # (m, n, S, k)
            weight, slope = (self.problem.pooled(values).sum(-1) for values in (w, g))
            by_block.append((weight, slope, (w * g).sum((-2, -1))))
        weight, slope, complete = (torch.stack(values).sum(0) for values in zip(*by_block, strict=True))
        return Along((weight * slope).mean(-1), complete)

    @torch.no_grad()
    def zeroed(self, paths: Int[Tensor, "B L k"]) -> Float[Tensor, "B"]:
        """f in the frozen graph with each image's path at 0."""
        problem, rows = self.problem, self.problem.every_image
        return torch.cat(
            [
                self._frozen(run, paths[run], paths.new_zeros(1).to(problem.clean.embedded))[0]
                for run in rows.split(problem.micro_batch)
            ]
        )

    def swaps(self, rated: Rated, length: int) -> Swaps:
        """The most promising swaps of each path, `length` in each block."""
        weight, slope, chosen = self._sums(rated)
        found = []
        for index, ((w, g), without) in enumerate(zip(chosen, self._without(rated), strict=True)):
            every_w = self.problem.clean.activations[index][rated.rows]
            every_g = self.problem.adapter.blocks[index].pullback(rated.gradients[index])
            place = ranked(without)[1][:, :1]
            if self.measure == "joint":
                every_w, every_g = self.problem.pooled(every_w), self.problem.pooled(every_g)
                goes = place.unsqueeze(1)
                rest_w, rest_g = (
                    whole - part.gather(2, goes.expand(-1, part.shape[1], 1))
                    for whole, part in ((weight, w), (slope, g))
                )
                scores = ((rest_w + every_w) * (rest_g + every_g)).mean(1)
            else:
                scores = without.gather(1, place) + (every_w * every_g).sum(1)
            found.append(self._best(scores.scatter(1, rated.paths[:, index], -torch.inf), place, length))
        return Swaps(*(torch.stack(values, 1) for values in zip(*found, strict=True)))

    def in_order(self, rated: Rated) -> Rated:
        """The same paths, each block's neurons in descending order of what the score would lose without them."""
        places = [ranked(-without)[1] for without in self._without(rated)]
        paths = torch.stack([rated.paths[:, index].gather(1, place) for index, place in enumerate(places)], 1)
        return replace(rated, paths=paths)

    @staticmethod
    def _best(scores: Tensor, place: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        values, order = ranked(F.pad(scores, (0, max(0, length - scores.shape[1])), value=-torch.inf))
        return values[:, :length], order[:, :length], place.squeeze(1)

    def _sums(self, rated: Rated) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Σ w and Σ ∫ ∂f/∂a over the path, (n, s, 1) each, and both of each block's neurons, (n, s, k)."""
        chosen = [self._chosen(rated.rows, rated.paths, index, g) for index, g in enumerate(rated.gradients)]
        if self.measure == "complete":  # its tokens need not be as many in each block
            return torch.empty(0), torch.empty(0), chosen
        weight, slope = (
            torch.stack([x.sum(2, keepdim=True) for x in parts]).sum(0) for parts in zip(*chosen, strict=True)
        )
        return weight, slope, chosen

    def _without(self, rated: Rated) -> list[Float[Tensor, "n k"]]:
        """Per block, to first order, the scores without each of its neurons."""
        weight, slope, chosen = self._sums(rated)
        if self.measure == "complete":
            return [rated.scores.unsqueeze(1) - (w * g).sum(1) for w, g in chosen]
        return [((weight - w) * (slope - g)).mean(1) for w, g in chosen]

    def _chosen(
        self, rows: Tensor, paths: Tensor, index: int, gradient: Float[Tensor, "*terms n S D"]
    ) -> tuple[Float[Tensor, "n s k"], Float[Tensor, "*terms n s k"]]:
        """Clean activations of the path's neurons in one block, and the gradient there, as the measure takes them."""
        neurons = paths[:, index]
        w = self.problem.clean.chosen(index, neurons, rows)
        g = gradient @ self.problem.adapter.blocks[index].columns(neurons).mT
        return (self.problem.pooled(w), self.problem.pooled(g)) if self.measure == "joint" else (w, g)

    def _terms(self, rows: Tensor, paths: Tensor, gradients: list[Tensor]) -> Float[Tensor, "*terms n"]:
        chosen = [self._chosen(rows, paths, index, gradient) for index, gradient in enumerate(gradients)]
        if self.measure == "complete":
            return torch.stack([(w * g).sum((-2, -1)) for w, g in chosen]).sum(0)
        weight, slope = (torch.stack([x.sum(-1) for x in parts]).sum(0) for parts in zip(*chosen, strict=True))
        return (weight * slope).mean(-1)

    def _gradients(self, rows: Tensor, paths: Tensor, alpha: Tensor) -> tuple[Float[Tensor, "N S D"], ...]:
        """∂f/∂z of every block, at every node, node by node."""
        with torch.enable_grad():
            values, leaves = self._frozen(rows, paths, alpha)
            total = values.sum()
        return torch.autograd.grad(total, leaves)

    def _frozen(self, rows: Tensor, paths: Tensor, alpha: Tensor) -> tuple[Float[Tensor, "N"], list[Tensor]]:
        """f in the frozen graph of the paths at every node, node by node, and its leaves: each block's projection."""
        problem, adapter = self.problem, self.problem.adapter
        images, missing = rows.repeat(len(alpha)), (1 - alpha).repeat_interleave(len(rows)).view(-1, 1, 1)
        leaves: list[Tensor] = []

        def project(index: int, _: Tensor) -> Tensor:
            written = problem.clean.chosen(index, paths[:, index], rows) @ adapter.blocks[index].columns(
                paths[:, index]
            )
            z = problem.clean.projected[index][images] - missing * written.repeat(len(alpha), 1, 1)
            leaves.append(z.requires_grad_())
            return z

        scoped, live = (part[images] for part in problem.first_split)
        h = through(adapter, scoped, project, first=(scoped, live))
        return problem.target_values(adapter.head(h), images), leaves
