"""The frozen graph of a growing path: what is common to the two ways of carrying its visited blocks.

Blocks are *opened* (their candidates can be rated), then *chosen* (their path neurons are fixed), one after another.
Both ways give the same numbers: `TangentPrefix` carries a forward-mode tangent and needs a backward over later blocks
only; `ReversePrefix` keeps tokens apart, which one tangent cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.types import Measure


class Prefix(ABC):
    """Visited blocks of the frozen graph, at all quadrature nodes, for the images of one problem.

    The *path sum* is Σ_l Σ_i c_{l,i} ∂p_y/∂a_{l,j_{l,i}} over the chosen neurons of visited blocks, with c = 1 for the
    measure `joint` and c = w for `complete`.

    Args:
        problem: images, targets, model and quadrature.
        measure: which sum is carried along.
        at_zero: also carry the node α = 0, with weight 0, for the convergence delta.
    """

    def __init__(self, problem: Problem, measure: Measure = "joint", *, at_zero: bool = False) -> None:
        self.problem = problem
        self.adapter = problem.adapter
        self.scope = problem.scope
        self.measure: Measure = measure
        alpha, weights = problem.nodes()
        if at_zero:
            alpha, weights = torch.cat((alpha, alpha.new_zeros(1))), torch.cat((weights, weights.new_zeros(1)))
        self.sequences = Sequences(alpha, weights, problem.n_images, problem.micro_batch)
        self.depth = 0

    @abstractmethod
    def candidate_gradients(self) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B S F"]]:
        """With the whole next block scaled: the integrals of the path sum and of ∂p_y/∂a of that block's neurons."""

    @abstractmethod
    def choose(self, neurons: Int[Tensor, "B k"]) -> None:
        """Fix the next block's path neurons and pass on to the block after it."""

    @abstractmethod
    def path_gradient(self) -> tuple[Float[Tensor, "B S"], Float[Tensor, "m B"]]:
        """After the last block: the integral of the path sum per token, and p_y at every node.

        A tangent cannot tell tokens apart: it gives their sum, with S = 1.
        """

    def _candidate_ffn(self, images: Int[Tensor, "n"], alpha: Float[Tensor, "n"]) -> Float[Tensor, "n S D"]:
        """FFN output in scope with the whole open block scaled by α: the FFN is affine, so two values give it."""
        block, clean = self.adapter.blocks[self.depth], self.problem.clean
        bias = block.ffn(clean.embedded.new_zeros(1, 1, block.n_neurons))
        return torch.lerp(bias, clean.ffn[self.depth][images], alpha.view(-1, 1, 1))

    def _split(self, index: int, h: Float[Tensor, "n T D"]) -> tuple[Float[Tensor, "n S D"], Float[Tensor, "n R D"]]:
        """A visited block but for its leaf FFN: the tokens in scope before the FFN, the live tokens after it."""
        block, rows = self.adapter.blocks[index], self.adapter.rows(index, self.scope)
        u = block.mix(h, rows)
        if rows is not None:
            return u, u[:, :0]
        live = u[:, self.scope.live]
        if live.shape[1]:
            live = live + block.ffn(block.activations(live))
        return u[:, self.scope.tokens], live
