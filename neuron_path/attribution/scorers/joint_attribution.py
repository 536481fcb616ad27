"""The paper's objective: a candidate's joint attribution together with the path before it.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import PathScores, joint_score, make_prefix
from neuron_path.attribution.scorer import Scorer, scorers


@scorers.register("joint_attribution")
@dataclass(frozen=True)
class JointAttribution(Scorer):
    """(W + w_j) · ∫ (G + ∂f/∂a_j) dα with the whole candidate block scaled, the mean over tokens in scope.

    f is the target function; W and G are the sums of clean activations and of gradients over the neurons chosen in
    earlier blocks (Wang et al., ICLR 2025).
    """

    blockwise = False

    def start(self, problem: Problem) -> JointAttributionScoring:
        """Begin with the images of one problem."""
        return JointAttributionScoring(problem)


class JointAttributionScoring:
    """Greedy state: the frozen prefix and W."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._prefix = make_prefix(problem)
        self._chosen_sum = torch.zeros_like(problem.values(0)[:, :, 0])

    def candidates(self, index: int, rows: Tensor | None = None) -> Tensor:
        """The objective of block `index`."""
        path_sum, at_projection = self._prefix.candidate_gradients(rows)
        gradient = self.problem.slopes(index, at_projection, rows)
        w = self._chosen_sum.unsqueeze(-1) + self.problem.values(index)
        w = w if rows is None else w[rows]
        return (w * (path_sum.unsqueeze(-1) + gradient)).mean(-2)

    def choose(self, index: int, neurons: Tensor) -> None:
        """Scale and count the chosen neurons from now on."""
        self._chosen_sum = self._chosen_sum + self.problem.chosen_sum(index, neurons)
        self._prefix.choose(neurons)

    def path_scores(self, paths: Tensor) -> PathScores:
        """Final JAS: the tangent is already there, only the head is left."""
        return joint_score(self.problem, self._prefix, paths)
