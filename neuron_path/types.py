"""The records that pass between stages, and the glossary.

======================  =============================================================================================
word                    meaning
======================  =============================================================================================
block                   one transformer block; L of them, numbered 0 … L−1 from input to output
neuron                  one unit of a block's FFN; F of them; its *activation* is the input of the FFN's second linear
                        layer (post-GELU; for a gated FFN, post-gate)
neuron path             one neuron (or k) per block, from input to output
target                  the class that is attributed, one per image; the *target function* says what of it: its softmax
                        probability, its logit or its margin (log-odds) over the other classes
token scope             the tokens at which activations count as neurons' values: ``cls`` or ``patch``
quadrature              the rule that integrates a gradient from 0 to the clean activation: nodes α and weights ω
scorer, search          what rates a candidate neuron; what picks a path by those ratings
JAS                     joint attribution score of a path
margin                  relative gap between the chosen neuron and the best one left out
sequence                one (quadrature node, image) pair: the unit that micro-batches count
======================  =============================================================================================

Shape letters, everywhere: B images, T tokens, S tokens in scope, D embedding width, F neurons of a block, L blocks,
C classes, k neurons a block, m quadrature nodes, N sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Measure = Literal["joint", "complete"]
TokenScopeName = Literal["cls", "patch"]
OperationName = Literal["remove", "enhance", "mean_ablation", "resample_ablation", "keep_only"]
TokensName = Literal["scope", "all"]
TargetName = Literal["probability", "logit", "margin", "sigmoid", "contrast"]


@dataclass(frozen=True)
class PathResult:
    """The neuron paths of a batch of images.

    Attributes:
        paths: (B, L), or (B, L, k) for `top_k` > 1: chosen neurons, in descending order of the scorer's objective. Of
            k neurons of any blocks (`per_block=False`) each block has its own first, and −1 in the places left.
        scores: (B,) the final joint attribution score of `paths`, whatever the scorer, in units of the target
            function; see `neuron_path.score_paths`.
        margins: (B, L) how far each block's choice is from changing: (last chosen − best left out) / |last chosen|,
            which for one neuron a block is the relative gap of best to runner-up. Of searches other than `greedy`:
            how much of the final score the most promising swap in the block, of neurons of any blocks the most
            promising of all, would cost, to first order.
        targets: (B,) the attributed class of each image.
        predictions: (B,) the class the untouched model predicts.
        target_probabilities: (B,) softmax probability of the target class, untouched model; with target="sigmoid" the
            sigmoid of its logit.
        n_steps: (B,) quadrature nodes of each image: the most that a block or the score took.
        score_errors: (B,) the estimated error of `scores` as integrals, in the same units; None where the rule gives
            none, which is any but `adaptive`, for scorers that have integrated along the path.
        rounding: (B,) ρ, how much float32 rounds on the image, measured: the largest gradients of a block are right to
            about ρ. Scores of paths that are searched for are right to ten times that, and to 1e-4 at least. The score
            of a path of small gradients, or of terms that cancel, as a random one's, is right to as much of what the
            largest would give. None where all was computed in another type.
        complete_scores: (B,) the complete variant of `scores`, where it came along: for scorers that rate each block on
            its own; else None, see `neuron_path.score_paths`.
        convergence_deltas: (B,) what is missing from `complete_scores`; None as before.
        measure: what a search other than `greedy` maximised: "joint", "complete" or "effect of …" with the operation.
        objectives: (B,) its value, of `paths`, in units of the target function; None of the greedy search.
        passes: (B,) forward and backward passes of the network that the search took, beside the clean one and those of
            `scores`; None as before.
        candidate_scores: (B, L, F) the scorer's objective for every candidate neuron, or None when not kept. Blocks
            narrower than the widest are padded with NaN.
    """

    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"]
    scores: Float[Tensor, "B"]
    margins: Float[Tensor, "B L"]
    targets: Int[Tensor, "B"]
    predictions: Int[Tensor, "B"]
    target_probabilities: Float[Tensor, "B"]
    n_steps: Int[Tensor, "B"]
    score_errors: Float[Tensor, "B"] | None = None
    rounding: Float[Tensor, "B"] | None = None
    complete_scores: Float[Tensor, "B"] | None = None
    convergence_deltas: Float[Tensor, "B"] | None = None
    measure: str = "joint"
    objectives: Float[Tensor, "B"] | None = None
    passes: Int[Tensor, "B"] | None = None
    candidate_scores: Float[Tensor, "B L F"] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def cpu(self) -> PathResult:
        """The same result with every tensor in main memory."""
        return self.to(torch.device("cpu"))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> PathResult:
        """The same result on another device, its floats of another type where one is given."""

        def moved(values: Any) -> Any:
            if not isinstance(values, Tensor):
                return values
            return values.to(device, dtype if values.is_floating_point() else None)

        return PathResult(**{name: moved(values) for name, values in vars(self).items()})

    @staticmethod
    def cat(parts: list[PathResult]) -> PathResult:
        """Join the results of consecutive chunks of images."""
        columns: dict[str, list[Any]] = {name: [vars(part)[name] for part in parts] for name in vars(parts[0])}
        joined: dict[str, Any] = {
            name: torch.cat(values) if isinstance(values[0], Tensor) else values[0] for name, values in columns.items()
        }
        return PathResult(**joined)
