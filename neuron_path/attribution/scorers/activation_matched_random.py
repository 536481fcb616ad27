"""Null: neurons drawn at random among those about as active as a reference path's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.draws import uniform
from neuron_path.attribution.exactness import ranked
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers
from neuron_path.attribution.scorers.activation import activation
from neuron_path.errors import NeuronPathError


@scorers.register("activation_matched_random")
@dataclass(frozen=True)
class ActivationMatchedRandom(Scorer):
    """A random neuron of each block whose activation ranks near that of the reference method's neuron.

    What is left of an effect against this null is not owed to the activations' size. The draw is uniform over the
    window of ranks (of Σ w over tokens in scope) around the reference's neuron, moved inwards where it would reach past
    the first or the last; the reference's own neurons of that block are left out. It is keyed by (seed, sample id). In
    float64, so that no rounding moves a rank.

    Args:
        seed: another seed draws other paths.
        band: width of the window, as a share of the block's neurons; at least two ranks for each of the reference's.
        reference: the scorer whose path is matched.
    """

    by_nodes = False
    in_double = True

    seed: int = 0
    band: float = 0.1
    reference: str | None = "joint_attribution"

    def __post_init__(self) -> None:
        if not 0 < self.band <= 1:
            raise NeuronPathError(f"band is {self.band}; expected a share of the neurons, above 0 and up to 1.")
        if self.reference is None:
            raise NeuronPathError(
                f"{self.name} needs a reference, the scorer whose path is matched, as reference='joint_attribution'."
            )

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Draw every image's neurons from a generator of its own."""
        assert problem.reference is not None, "the finder gives the reference path"
        parts = zip(
            activation(problem),
            problem.reference.unbind(1),
            uniform(problem, f"{self.name}/{self.seed}"),
            strict=True,
        )
        return BlockwiseScoring(problem, [self._matched(*part) for part in parts])

    def _matched(
        self, w: Float[Tensor, "B F"], reference: Int[Tensor, "B k"], draw: Float[Tensor, "B F"]
    ) -> Float[Tensor, "B F"]:
        """Scores whose k best are the k draws, one for each neuron of the reference; 0 for all others."""
        n, k = w.shape[1], reference.shape[1]
        if 2 * k > n:
            raise NeuronPathError(
                f"top_k is {k}; {self.name} takes as many others, and a block has {n} neurons: expected 1 … {n // 2}."
            )
        width = min(n, max(2 * k, round(self.band * n)))
        rank = ranked(w)[1].argsort(dim=1)
        first = (rank.gather(1, reference) - width // 2).clamp(0, n - width)
        taken = torch.zeros_like(draw, dtype=torch.bool).scatter(1, reference, True)
        scores = torch.zeros_like(draw)
        for slot in range(k):
            start = first[:, slot : slot + 1]
            free = (rank >= start) & (rank < start + width) & ~taken
            best = draw.masked_fill(~free, -1).argmax(1, keepdim=True)
            taken = taken.scatter(1, best, True)
            scores = scores.scatter(1, best, float(k - slot))
        return scores
