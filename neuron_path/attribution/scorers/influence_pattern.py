"""Baseline: influence patterns as the paper's authors run them (after Lu et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuron_path.attribution.live import live_gradients
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("influence_pattern")
@dataclass(frozen=True)
class InfluencePattern(Scorer):
    """∫ ∂f/∂a_j (α·x) dα: the live network's gradient on the line from the zero input to x, summed over tokens.

    One forward and one backward pass serve all blocks.
    """

    for_heads: ClassVar[bool] = False
    keeps_every_block: ClassVar[bool] = True

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Integrate all blocks' gradients at once."""
        sequences = Sequences(*problem.nodes(), problem.n_images, problem.micro_batch)
        # Summed over tokens at once: the pullback is linear, so (N, D) per block is all that must be kept.
        passes = [self._gradients(problem, images, alpha) for _, images, alpha in sequences.passes()]
        integrals = [sequences.integrate(torch.cat(parts)) for parts in zip(*passes, strict=True)]
        blocks = problem.adapter.blocks
        return BlockwiseScoring(problem, [block.pullback(g) for block, g in zip(blocks, integrals, strict=True)])

    @staticmethod
    def _gradients(problem: Problem, images: Tensor, alpha: Tensor) -> list[Tensor]:
        embedded = problem.adapter.embed(problem.images[images] * alpha.view(-1, 1, 1, 1))
        return [g.sum(1) for g in live_gradients(problem, embedded, images)]
