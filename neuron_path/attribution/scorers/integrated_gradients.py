"""Baseline: integrated gradients of each block's layer of neurons (Sundararajan et al., ICML 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neuron_path.attribution.forward import clean_blocks
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers
from neuron_path.attribution.tail import tail_gradients


@scorers.register("integrated_gradients")
@dataclass(frozen=True)
class IntegratedGradients(Scorer):
    """w_j · ∫ ∂f/∂a_j dα with that block's whole layer in scope scaled, earlier blocks clean, summed over tokens.

    A block's ratings add up to f(clean) − f(layer zeroed).
    """

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Integrate block by block; nothing depends on a choice."""
        sequences = Sequences(*problem.nodes(), problem.n_images, problem.micro_batch)
        scores = []
        for index, residual, live in clean_blocks(problem.adapter, problem.clean):
            parts = []
            for _, images, alpha in sequences.passes():
                z = problem.scaled_projection(index, images, alpha)
                parts.append(tail_gradients(problem, index, residual[images], live[images], z, images)[1])
            block = problem.adapter.blocks[index]
            gradient = block.pullback(sequences.integrate(torch.cat(parts)))
            scores.append(block.per_neuron((problem.clean.activations[index] * gradient).sum(-2)))
        return BlockwiseScoring(problem, scores)
