"""The prefix in reverse mode: a backward through visited blocks that keeps the tokens in scope apart."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.tail import tail_probability
from neuron_path.types import Measure


class ReversePrefix(Prefix):
    """Runs the visited blocks again for each open block, the FFN in scope a constant; see `Prefix`.

    In scope the graph of a visited block holds attention alone: the backward crosses no FFN there, and ∂p_y/∂a_n is
    read off the gradient at block n's output with the chosen neurons' columns only.
    """

    def __init__(self, problem: Problem, measure: Measure = "joint", *, at_zero: bool = False) -> None:
        super().__init__(problem, measure, at_zero=at_zero)
        self._paths: list[Tensor] = []
        self._shares: list[Tensor] = []

    def candidate_gradients(self) -> tuple[Tensor, Tensor]:
        path_sum, at_output = [], []
        for run in self.sequences.passes():
            _, gradients = self._gradients(*run[1:], n_visited=self.depth + 1)
            path_sum.append(self._path_sum(gradients, run[1]))
            at_output.append(gradients[self.depth][:, self.adapter.in_scope(self.depth, self.scope)])
        integral = self.sequences.integrate(torch.cat(at_output))
        block = self.adapter.blocks[self.depth]
        return self.sequences.integrate(torch.cat(path_sum)), block.pullback(integral)

    def choose(self, neurons: Tensor) -> None:
        columns = self.adapter.blocks[self.depth].columns(neurons)
        self._paths.append(neurons)
        self._shares.append(self.problem.clean.chosen(self.depth, neurons) @ columns)
        self.depth += 1

    def path_gradient(self) -> tuple[Float[Tensor, "B S"], Float[Tensor, "m B"]]:
        sums, probabilities = [], []
        for _, images, alpha in self.sequences.passes():
            p, gradients = self._gradients(images, alpha, n_visited=self.depth)
            sums.append(self._path_sum(gradients, images))
            probabilities.append(p)
        path_sum = self.sequences.integrate(torch.cat(sums))
        return path_sum, torch.cat(probabilities).unflatten(0, (-1, self.problem.n_images))

    def _gradients(
        self, images: Int[Tensor, "n"], alpha: Float[Tensor, "n"], n_visited: int
    ) -> tuple[Float[Tensor, "n"], tuple[Float[Tensor, "n T D"], ...]]:
        """p_y, and its gradients at the outputs of the first `n_visited` blocks; the block after the path is open."""
        h = self.problem.clean.embedded[images]
        outputs = []
        with torch.enable_grad():
            for index in range(n_visited):
                scoped, live = self._split(index, h)
                h = self.scope.join(scoped + self._leaf_ffn(index, images, alpha), live)
                if index == 0:
                    h = h.detach().requires_grad_()
                outputs.append(h)
            p = tail_probability(self.adapter, self.scope, h, n_visited, self.problem.targets[images])
            total = p.sum()
        return p.detach(), torch.autograd.grad(total, outputs)

    def _leaf_ffn(self, index: int, images: Tensor, alpha: Tensor) -> Float[Tensor, "n S D"]:
        if index == self.depth:
            return self._candidate_ffn(images, alpha)
        return self.problem.clean.ffn[index][images] - (1 - alpha).view(-1, 1, 1) * self._shares[index][images]

    def _path_sum(self, gradients: tuple[Tensor, ...], images: Int[Tensor, "n"]) -> Float[Tensor, "n S"]:
        total = torch.zeros_like(self.problem.clean.ffn[0][images, :, 0])
        for index, neurons in enumerate(self._paths):
            if self.measure == "complete":
                written = self._shares[index][images]
            else:
                written = self.adapter.blocks[index].columns(neurons[images]).sum(1, keepdim=True)
            total = total + (gradients[index][:, self.adapter.in_scope(index, self.scope)] * written).sum(-1)
        return total
