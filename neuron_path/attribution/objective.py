"""The final score of whole paths as what a search maximises, and what it would be with one neuron swapped.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.linear import Linear, Product, Sum
from neuron_path.attribution.problem import Problem
from neuron_path.types import Measure


class Along(NamedTuple):
    """What is integrated, of n paths at m nodes: both scores are weighted sums over them.

    Attributes:
        joint: (m, n) the mean over tokens of (Σ w) · Σ ∂f/∂a.
        complete: (m, n) the sum over tokens of Σ w · ∂f/∂a.
    """

    joint: Float[Tensor, "*m n"]
    complete: Float[Tensor, "*m n"]

    def take(self, which: Int[Tensor, "r"]) -> Along:
        """Some of the paths."""
        return Along(self.joint[..., which], self.complete[..., which])

    def with_more(self, others: Along) -> Along:
        """The same paths at these nodes and others."""
        return Along(torch.cat((self.joint, others.joint)), torch.cat((self.complete, others.complete)))

    def integrals(self, weights: Float[Tensor, "*terms m"]) -> Along:
        """The joint and the complete scores by a rule's weights, each (*terms, n)."""
        return Along(weights @ self.joint, weights @ self.complete)


@dataclass(frozen=True)
class Rated:
    """n paths with what their score follows from, and that of paths near them.

    Attributes:
        rows: (n,) which image of the problem each path belongs to.
        along: what is integrated, at each node.
        scores: (n,) by the objective's measure.
        gradients: per block (n, S, D): ∫ ∂f/∂z dα, z the block's projection in scope.
    """

    rows: Int[Tensor, "n"]
    along: Along
    scores: Float[Tensor, "n"]
    gradients: list[Float[Tensor, "n S D"]]


@dataclass(frozen=True)
class Objective:
    """The final score of paths, by a measure, on the images of one problem.

    One forward and one backward pass of the frozen graph, all blocks visited, give a path's score and the gradient at
    every neuron of every block; to first order in a swap these give the score of each path that differs in one neuron.
    """

    problem: Problem
    measure: Measure = "joint"

    def rate(
        self,
        rows: Int[Tensor, "n"],
        paths: Int[Tensor, "n L k"],
        alpha: Float[Tensor, "m"],
        weights: Float[Tensor, "m"],
    ) -> Rated:
        """Score n ≥ 1 paths, in passes of the problem's micro-batch.

        Args:
            rows: which image each path belongs to.
            paths: neurons, distinct within a block.
            alpha, weights: nodes and weights of the integral.
        """
        parts, gradients = [], []
        for run in self._runs(rows, len(alpha)):  # some paths at all nodes; where one path's nodes are too many,
            nodes, total = [], []  # these are split, too, and the gradients summed
            for some in torch.arange(len(alpha), device=alpha.device).split(self.problem.micro_batch):
                found = self._gradients(rows[run], paths[run], alpha[some])
                nodes.append(self._on_path(rows[run], paths[run], found))
                sums = [torch.tensordot(weights[some], g.unflatten(0, (len(some), -1)), dims=1) for g in found]
                total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
            parts.append(Along(*(torch.cat(values) for values in zip(*nodes, strict=True))))
            gradients.append(total)
        along = Along(*(torch.cat(values, 1) for values in zip(*parts, strict=True)))
        scores = getattr(along.integrals(weights), self.measure)
        return Rated(rows, along, scores, [torch.cat(values) for values in zip(*gradients, strict=True)])

    def along(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"], alpha: Float[Tensor, "m"]) -> Along:
        """What is integrated at the given nodes, of paths of the images `rows`."""
        parts = []
        for run in self._runs(rows, len(alpha)):
            own = rows[run], paths[run]
            nodes = [self._on_path(*own, self._gradients(*own, some)) for some in alpha.split(self.problem.micro_batch)]
            parts.append(Along(*(torch.cat(values) for values in zip(*nodes, strict=True))))
        return Along(*(torch.cat(values, 1) for values in zip(*parts, strict=True)))

    def _runs(self, rows: Int[Tensor, "n"], n_nodes: int) -> Sequence[Int[Tensor, "r"]]:
        """Which paths are rated together, so that a pass holds no more than the micro-batch."""
        return torch.arange(len(rows), device=rows.device).split(max(1, self.problem.micro_batch // n_nodes))

    def _on_path(self, rows: Tensor, paths: Tensor, gradients: Sequence[Float[Tensor, "N S D"]]) -> Along:
        """What is integrated, from the gradients at the projections of every block, node by node."""
        by_block = []
        for index, gradient in enumerate(gradients):  # (m·n, S, D), all paths at the first node, then at the second, …
            neurons, block = paths[:, index], self.problem.adapter.blocks[index]
            places = block.places(neurons)
            w = self.problem.clean.chosen(index, places, rows)  # (n, S, c), c = k where each neuron has one activation
            # −1 stands for no neuron: it has no activation, and its column is to have no part either.
            columns = block.columns(places) * (places >= 0).unsqueeze(2)  # (n, c, D)
            g = gradient.unflatten(0, (-1, len(rows))) @ columns.mT  # (m, n, S, c)
            complete = (w * g).sum((-2, -1))
            if self.problem.adapter.gated:  # the values are 1, and their gradients w · ∂f/∂a
                g, w = w * g, (neurons >= 0).to(w).unsqueeze(1)
            weight, slope = (self.problem.pooled(values).sum(-1) for values in (w, g))
            by_block.append((weight, slope, complete))
        # (n, s), (m, n, s) and (m, n): sums over the blocks, s = 1 where tokens are pooled.
        weight, slope, complete = (torch.stack(values).sum(0) for values in zip(*by_block, strict=True))
        return Along((weight * slope).mean(-1), complete)

    @torch.no_grad()
    def zeroed(self, paths: Int[Tensor, "B L k"]) -> Float[Tensor, "B"]:
        """f in the frozen graph with each image's path at 0."""
        problem, rows = self.problem, self.problem.every_image
        return torch.cat(
            [
                self._frozen(run, paths[run], paths.new_zeros(1).to(problem.clean.embedded))[0]
                for run in self._runs(rows, 1)
            ]
        )

    def linear(self, rows: Int[Tensor, "n"], gradients: Sequence[Float[Tensor, "n S D"]]) -> Linear:
        """The score to first order around the point where the gradients at every block's projection are these."""
        clean, blocks = self.problem.clean, self.problem.adapter.blocks
        w = [values[rows] for values in clean.activations]
        parts = zip(blocks, w, gradients, strict=True)
        if self.measure == "complete" or self.problem.adapter.gated:  # of which the joint score is a multiple
            return Sum([block.per_neuron((a * block.pullback(g)).sum(1)) for block, a, g in parts])
        w, gradients = ([self.problem.pooled(values) for values in every] for every in (w, gradients))
        own = []
        if w[0].shape[1] > 1:
            own = [(a * block.pullback(g)).mean(1) for block, a, g in zip(blocks, w, gradients, strict=True)]
        return Product(blocks, w, gradients, own)

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
            block = adapter.blocks[index]
            places = block.places(paths[:, index])
            written = problem.clean.chosen(index, places, rows) @ block.columns(places)
            z = problem.clean.projected[index][images] - missing * written.repeat(len(alpha), 1, 1)
            leaves.append(z.requires_grad_())
            return z

        scoped, live = (part[images] for part in problem.first_split)
        h = through(adapter, scoped, project, first=(scoped, live))
        return problem.target_values(adapter.head(h), images), leaves
