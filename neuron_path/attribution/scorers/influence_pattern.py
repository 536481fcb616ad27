"""Baseline: influence patterns as the paper's authors run them (after Lu et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_path.attribution.forward import target_probability
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("influence_pattern")
@dataclass(frozen=True)
class InfluencePattern(Scorer):
    """∫ ∂p_y/∂a_j (α·x) dα: the live network's gradient on the line from the zero input to x, summed over tokens.

    One forward and one backward pass serve all blocks.
    """

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Integrate all blocks' gradients at once."""
        sequences = Sequences(*problem.nodes(), problem.n_images, problem.micro_batch)
        # Summed over tokens at once: the pullback is linear, so (N, D) per block is all that must be kept.
        passes = [_output_gradients(problem, images, alpha) for _, images, alpha in sequences.passes()]
        integrals = [sequences.integrate(torch.cat(parts)) for parts in zip(*passes, strict=True)]
        blocks = problem.adapter.blocks
        return BlockwiseScoring(problem, [block.pullback(g) for block, g in zip(blocks, integrals, strict=True)])


def _output_gradients(problem: Problem, images: Tensor, alpha: Tensor) -> list[Tensor]:
    """∂p_y/∂out of every block, summed over tokens in scope, for inputs α·x: each (n, D)."""
    adapter, scope = problem.adapter, problem.scope
    h = adapter.embed(problem.images[images] * alpha.view(-1, 1, 1, 1))
    outputs: list[Tensor] = []
    with torch.enable_grad():
        for index, block in enumerate(adapter.blocks):
            h = block(h, adapter.rows(index, scope))
            if index == 0:
                h = h.detach().requires_grad_()
            outputs.append(h)
        total = target_probability(adapter.head(h), problem.targets[images]).sum()
    gradients = torch.autograd.grad(total, outputs)
    return [g[:, adapter.in_scope(index, scope)].sum(1) for index, g in enumerate(gradients)]
