"""Baseline: the most active neuron of each block."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("activation")
@dataclass(frozen=True)
class Activation(Scorer):
    """w_j, the clean activation, summed over tokens in scope."""

    by_nodes = False

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Read the clean pass: nothing more to compute."""
        return BlockwiseScoring(problem, [w.sum(1) for w in problem.clean.activations])
