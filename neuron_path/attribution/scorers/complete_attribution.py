"""The complete variant of the paper's objective: a candidate's integrated gradient given the path before it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import PathScores, joint_score, one_sum, path_scores
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.attribution.tangent import TangentPrefix


@scorers.register("complete_attribution")
@dataclass(frozen=True)
class CompleteAttribution(Scorer):
    """w_j · ∫ ∂f/∂a_j dα with the whole candidate block scaled, summed over tokens in scope.

    As in `joint_attribution` the neurons chosen in earlier blocks are scaled too; they add the same to every candidate,
    so the sum over them is left out.
    """

    blockwise = False

    def start(self, problem: Problem) -> CompleteAttributionScoring:
        """Begin with the images of one problem."""
        return CompleteAttributionScoring(problem)


class CompleteAttributionScoring:
    """Greedy state: the frozen prefix; its tangent only where it makes the final score free."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._prefix = TangentPrefix(problem, with_sum=one_sum(problem))

    def candidates(self, index: int, rows: Tensor | None = None) -> Tensor:
        """The objective of block `index`."""
        _, at_projection = self._prefix.candidate_gradients(rows)
        block, w = self.problem.adapter.blocks[index], self.problem.clean.activations[index]
        return block.per_neuron(((w if rows is None else w[rows]) * block.pullback(at_projection)).sum(-2))

    def choose(self, index: int, neurons: Tensor) -> None:
        """Scale the chosen neurons from now on."""
        self._prefix.choose(neurons)

    def path_scores(self, paths: Tensor) -> PathScores:
        """Final JAS."""
        if one_sum(self.problem):
            return joint_score(self.problem, self._prefix, paths)
        return path_scores(self.problem, paths)
