"""Baseline: the gradient at the clean point times the activation."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("gradient_x_activation")
@dataclass(frozen=True)
class GradientXActivation(Scorer):
    """w_j · ∂f/∂a_j at the clean point of the live network, summed over tokens in scope.

    To first order what removing the neuron costs. One forward and one backward pass serve all blocks.
    """

    by_nodes = False

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Take all blocks' gradients at once."""
        return BlockwiseScoring(problem, gradient_x_activation(problem))


def gradient_x_activation(problem: Problem) -> list[Float[Tensor, "B F"]]:
    """The ratings of all blocks."""
    parts = zip(problem.adapter.blocks, problem.clean.activations, problem.clean_gradients, strict=True)
    return [block.per_neuron((w * block.pullback(gradient)).sum(1)) for block, w, gradient in parts]
