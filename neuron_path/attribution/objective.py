"""The final score of whole paths as what a search maximises, and what it would be with one neuron swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.forward import through
from neuron_path.attribution.linear import Linear, Product, Sum
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
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

    def rate(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"], rule: Quadrature | None = None) -> Rated:
        """Score n ≥ 1 paths, in passes of the problem's micro-batch.

        Args:
            rows: which image each path belongs to.
            paths: neurons, distinct within a block.
            rule: of the integral; the problem's own by default.
        """
        alpha, weights = self.problem.nodes(rule)
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

    def linear(self, rated: Rated) -> Linear:
        """The score to first order around rated paths, or around the clean point."""
        clean, blocks = self.problem.clean, self.problem.adapter.blocks
        w = [values[rated.rows] for values in clean.activations]
        if self.measure == "complete":
            parts = zip(blocks, w, rated.gradients, strict=True)
            return Sum([(a * block.pullback(g)).sum(1) for block, a, g in parts])
        w, gradients = ([self.problem.pooled(values) for values in every] for every in (w, rated.gradients))
        own = []
        if w[0].shape[1] > 1:
            own = [(a * block.pullback(g)).mean(1) for block, a, g in zip(blocks, w, gradients, strict=True)]
        return Product(blocks, w, gradients, own)

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
