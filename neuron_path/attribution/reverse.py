"""The prefix in reverse mode: a backward through visited blocks that keeps the tokens in scope apart.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.tail import tail_gradients, tail_value


@dataclass
class _Visited:
    """Visited blocks of the sequences of one pass, as a graph from their projections in scope to the stream.

    Attributes:
        images, alpha: which image and node each sequence belongs to.
        h: (n, T, D) the stream behind the visited blocks.
        leaves: the projection of each.
        opened: of the block that comes next, what its projection is added to, and its live tokens.
    """

    images: Int[Tensor, "n"]
    alpha: Float[Tensor, "n"]
    h: Tensor
    leaves: list[Tensor] = field(default_factory=list)
    opened: tuple[Tensor, Tensor] | None = None


class ReversePrefix(Prefix):
    """Goes back from the open block through the visited ones, whose projections in scope are leaves; see `Prefix`.

    In scope the graph of a visited block holds attention alone: the backward crosses no FFN there, and ∂f/∂a_n is read
    off the gradient at block n's projection with the chosen neurons' columns only. Where memory allows it the graph of
    the visited blocks is kept, and none is run twice; else they run again for each open block. Not for pooled tokens,
    whose number differs between blocks: there a tangent serves.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._chosen: list[tuple[Tensor, Tensor]] = []
        self._kept: list[_Visited] | None = None
        if problem.keeps_graphs:
            self._kept = [self._begin(images, alpha) for _, images, alpha in self.sequences.passes()]

    def candidate_gradients(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        path_sum, at_projection = [], []
        for visited, is_kept in self._passes(rows):
            residual, live = self._open(visited)  # still attached to the graph of the visited blocks
            z = self.problem.scaled_projection(self.depth, visited.images, visited.alpha)
            at_out, at_z = tail_gradients(self.problem, self.depth, residual.detach(), live.detach(), z, visited.images)
            at_projection.append(at_z)
            # Two stages: the tail's backward ended at the open block's output; now on through the visited blocks.
            at_parts = at_out[:, self.scope.tokens], at_out[:, self.scope.live]
            path_sum.append(self._back((residual, live), at_parts, visited, is_kept))
        return self.sequences.integrate(torch.cat(path_sum)), self.sequences.integrate(torch.cat(at_projection))

    def choose(self, neurons: Tensor) -> None:
        self._chosen.append(self._written(self.depth, neurons))
        self.depth += 1

    def path_gradient(self) -> Float[Tensor, "*terms B S"]:
        sums = []
        for visited, is_kept in self._passes(None):
            h = visited.h.detach().requires_grad_()
            with torch.enable_grad():
                total = tail_value(self.problem, h, self.depth, visited.images).sum()
            (at_h,) = torch.autograd.grad(total, (h,))
            sums.append(self._back((visited.h,), (at_h,), visited, is_kept))
        return self.sequences.integrate(torch.cat(sums))

    def _passes(self, rows: Tensor | None) -> Iterator[tuple[_Visited, bool]]:
        """The sequences of each pass behind the blocks visited so far, and whether their graph is kept."""
        if self._kept is not None and rows is None:
            for visited in self._kept:
                self._visit(visited)
                yield visited, True
        else:
            for _, images, alpha in self.sequences.passes(rows):
                visited = self._begin(images, alpha)
                self._visit(visited)
                yield visited, False

    def _begin(self, images: Tensor, alpha: Tensor) -> _Visited:
        return _Visited(images, alpha, self.problem.clean.embedded[images])

    def _visit(self, visited: _Visited) -> None:
        """Run the blocks that were chosen since."""
        # As many leaves as blocks were visited: those that were chosen since the last call follow.
        for index in range(len(visited.leaves), self.depth):
            residual, live = self._open(visited)
            written, _ = self._chosen[index]
            missing = (1 - visited.alpha).view(-1, 1, 1) * written[visited.images]
            z = (self.problem.clean.projected[index][visited.images] - missing).requires_grad_()
            with torch.enable_grad():
                visited.h = self.scope.join(residual + self.adapter.blocks[index].after(z), live)
            visited.leaves.append(z)
            visited.opened = None

    def _open(self, visited: _Visited) -> tuple[Tensor, Tensor]:
        """Run the block after the visited ones, but for its FFN in scope."""
        if visited.opened is None:
            index = len(visited.leaves)
            with torch.enable_grad():
                scoped, live = self.adapter.split(index, visited.h)
                visited.opened = self.adapter.blocks[index].residual(scoped), live
        return visited.opened

    def _back(
        self, outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...], visited: _Visited, is_kept: bool
    ) -> Float[Tensor, "n S"]:
        """The path sum of visited blocks, from the gradient at what follows them."""
        total = torch.zeros_like(self.problem.clean.projected[0][visited.images, :, 0])
        if not visited.leaves:
            return total
        # Behind the first block live tokens may not depend on any leaf: autograd takes no output without a graph.
        pairs = [(out, g) for out, g in zip(outputs, gradients, strict=True) if out.requires_grad]
        outs, at_outs = zip(*pairs, strict=True)
        at_leaves = torch.autograd.grad(outs, visited.leaves, at_outs, retain_graph=is_kept)
        for (_, direction), gradient in zip(self._chosen, at_leaves, strict=True):
            # ⟨∂f/∂z, column⟩ summed over the block's chosen neurons, by token: (n, S, D) · (n, 1 or S, D) → (n, S).
            total = total + (gradient * direction[visited.images]).sum(-1)
        return total
