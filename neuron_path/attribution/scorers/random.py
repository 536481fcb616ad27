"""Null: neurons drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_path.attribution.draws import uniform
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("random")
@dataclass(frozen=True)
class Random(Scorer):
    """Uniform scores keyed by (seed, sample id), so that an image's path is the same in any batch.

    Args:
        seed: another seed draws other paths.
    """

    by_nodes = False

    seed: int = 0

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Draw every image's scores from a generator of its own."""
        return BlockwiseScoring(problem, uniform(problem, f"{self.seed}"))
