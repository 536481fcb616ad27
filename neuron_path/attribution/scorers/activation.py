"""Baseline: the most active neuron of each block."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("activation")
@dataclass(frozen=True)
class Activation(Scorer):
    """w_j, the clean activation, summed over tokens in scope; of a head the norm of its output."""

    by_nodes = False

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Read the clean pass: nothing more to compute."""
        return BlockwiseScoring(problem, activation(problem))


def activation(problem: Problem) -> list[Float[Tensor, "B F"]]:
    """The ratings of all blocks."""
    parts = zip(problem.adapter.blocks, problem.clean.activations, strict=True)
    return [block.strength(w).sum(1) for block, w in parts]
