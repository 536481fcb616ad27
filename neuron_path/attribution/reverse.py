"""The prefix in reverse mode: a backward through visited blocks that keeps the tokens in scope apart."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.tail import tail_value
from neuron_path.types import Measure


class ReversePrefix(Prefix):
    """Runs the visited blocks again for each open block, the projections in scope leaves; see `Prefix`.

    In scope the graph of a visited block holds attention alone: the backward crosses no FFN there, and ∂f/∂a_n is read
    off the gradient at block n's projection with the chosen neurons' columns only. Not for pooled tokens, whose number
    differs between blocks: there a tangent serves.
    """

    def __init__(self, problem: Problem, measure: Measure = "joint", *, at_zero: bool = False) -> None:
        super().__init__(problem, measure, at_zero=at_zero)
        self._visited: list[tuple[Tensor, Tensor]] = []

    def candidate_gradients(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        path_sum, at_projection = [], []
        for _, images, alpha in self.sequences.passes(rows):
            _, gradients = self._gradients(images, alpha, n_blocks=self.depth + 1)
            path_sum.append(self._path_sum(gradients, images))
            at_projection.append(gradients[self.depth])
        return self.sequences.integrate(torch.cat(path_sum)), self.sequences.integrate(torch.cat(at_projection))

    def choose(self, neurons: Tensor) -> None:
        self._visited.append(self._written(self.depth, neurons))
        self.depth += 1

    def path_gradient(self) -> tuple[Float[Tensor, "*terms B S"], Float[Tensor, "m B"]]:
        sums, values = [], []
        for _, images, alpha in self.sequences.passes():
            f, gradients = self._gradients(images, alpha, n_blocks=self.depth)
            sums.append(self._path_sum(gradients, images))
            values.append(f)
        path_sum = self.sequences.integrate(torch.cat(sums))
        return path_sum, torch.cat(values).unflatten(0, (-1, self.problem.n_images))

    def _gradients(
        self, images: Int[Tensor, "n"], alpha: Float[Tensor, "n"], n_blocks: int
    ) -> tuple[Float[Tensor, "n"], tuple[Float[Tensor, "n S D"], ...]]:
        """f, and its gradients at the projections of the first `n_blocks` blocks; the block after the path is open."""
        leaves: list[Tensor] = []

        def leaf(index: int, scoped: Tensor) -> Tensor:
            if index == self.depth:
                z = self.problem.scaled_projection(index, images, alpha)
            else:
                written, _ = self._visited[index]
                z = self.problem.clean.projected[index][images] - (1 - alpha).view(-1, 1, 1) * written[images]
            leaves.append(z.requires_grad_())
            return z

        with torch.enable_grad():
            h = through(self.adapter, self.problem.clean.embedded[images], leaf, n_blocks)
            f = tail_value(self.problem, h, n_blocks, images)
            total = f.sum()
        return f.detach(), torch.autograd.grad(total, leaves)

    def _path_sum(self, gradients: tuple[Tensor, ...], images: Int[Tensor, "n"]) -> Float[Tensor, "n S"]:
        total = torch.zeros_like(self.problem.clean.projected[0][images, :, 0])
        for (_, direction), gradient in zip(self._visited, gradients, strict=False):  # the open block adds nothing
            total = total + (gradient * direction[images]).sum(-1)
        return total
