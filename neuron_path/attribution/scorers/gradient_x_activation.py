"""Baseline: the gradient at the clean point times the activation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.live import live_gradients
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("gradient_x_activation")
@dataclass(frozen=True)
class GradientXActivation(Scorer):
    """w_j · ∂f/∂a_j at the clean point of the live network, summed over tokens in scope.

    To first order what removing the neuron costs. One forward and one backward pass serve all blocks.
    """

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Take all blocks' gradients at once."""
        return BlockwiseScoring(problem, gradient_x_activation(problem))


def gradient_x_activation(problem: Problem) -> list[Float[Tensor, "B F"]]:
    """The ratings of all blocks."""
    one = torch.ones_like(problem.clean.embedded[0, 0, :1])
    blocks, w = problem.adapter.blocks, problem.clean.activations
    parts = []
    for run, images, _ in Sequences(one, one, problem.n_images, problem.micro_batch).passes():
        gradients = live_gradients(problem, problem.clean.embedded[run], images)
        parts.append([(w[n][run] * block.pullback(gradients[n])).sum(1) for n, block in enumerate(blocks)])
    return [torch.cat(rows) for rows in zip(*parts, strict=True)]
