"""The seam of searches: what one takes and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import PathScores
from neuron_path.attribution.scorer import Scorer
from neuron_path.registry import Registry


class Trail(Protocol):
    """What led a search to the paths of some images, in its own terms: see `Search.revise`."""

    def take(self, rows: Int[Tensor, "b"], like: Tensor) -> Trail:
        """That of some images, as `Found.take`."""
        ...


@dataclass(frozen=True)
class Found:
    """The paths of one problem.

    Attributes:
        paths: (B, L, k) in descending order of the objective; see `PathResult`.
        scored: their final scores.
        margins: (B, L) (last chosen − best left out) / |last chosen|.
        clearance: (B, L) each block's closest call, relative to the largest score compared: where it is down at
            rounding, another batch could decide otherwise.
        resolution: (B, L) by how much, relative to the same, each block's leads exceed their estimated error as
            integrals: below 0 more nodes could decide otherwise; +∞ where the rule gives no estimate.
        candidates: per block (B, F) the objective of every candidate, or None when not kept.
        objectives: (B,) what the search maximised, of each path; None: nothing of the whole path.
        passes: (B,) forward and backward passes that it took beside the clean one and scoring; None as before.
        trail: what led to the paths, of a search that can tell a part of it again.
    """

    paths: Int[Tensor, "B L k"]
    scored: PathScores
    margins: Float[Tensor, "B L"]
    clearance: Float[Tensor, "B L"]
    resolution: Float[Tensor, "B L"]
    candidates: list[Float[Tensor, "B F"]] | None
    objectives: Float[Tensor, "B"] | None = None
    passes: Int[Tensor, "B"] | None = None
    trail: Trail | None = None

    def take(self, rows: Int[Tensor, "b"], like: Tensor) -> Found:
        """Some images' paths, with floats of the type and device of `like`."""

        def taken(values: Tensor) -> Tensor:
            chosen = values[rows].to(like.device)
            return chosen.to(like.dtype) if chosen.is_floating_point() else chosen

        kept = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        candidates = None if self.candidates is None else [taken(scores) for scores in self.candidates]
        trail = None if self.trail is None else self.trail.take(rows, like)
        parts = {"scored": self.scored.take(rows, like), "candidates": candidates, "trail": trail}
        return replace(self, **{name: taken(value) for name, value in kept.items()}, **parts)


@dataclass(frozen=True)
class Doubt:
    """What is to be told again of the images of a draft.

    Attributes:
        blocks: (B, L) whose choice.
        scores: (B,) whose final score, whatever becomes of the choices.
        close_call: (B,) the clearance below which a call of the draft is in doubt; +∞: all of them.
    """

    blocks: Bool[Tensor, "B L"]
    scores: Bool[Tensor, "B"]
    close_call: Float[Tensor, "B"]

    def take(self, rows: Int[Tensor, "b"], like: Tensor) -> Doubt:
        """That of some images, on the device of `like`."""
        return Doubt(*(values[rows].to(like.device) for values in vars(self).values()))


class Search(ABC):
    """Options of a search; `run` picks a path for every image of a problem. Its `name` is the registered one.

    Attributes:
        any_blocks: whether it can also pick neurons of any blocks, in place of some in each.
        asks_scorer: whether a scorer rates the neurons; else the search has a measure of its own.
    """

    name: ClassVar[str]
    asks_scorer: ClassVar[bool] = True
    any_blocks: ClassVar[bool] = False

    @property
    def maximises(self) -> str:
        """What the search maximises; of one that asks a scorer, what the path is scored by."""
        return "joint"

    @property
    def borrows(self) -> str | None:
        """What it needs of other images: "reference_images", whose mean activations, or "donor_images"."""
        return None

    def n_rated(self, n_blocks: int) -> int:
        """Paths of an image of which the gradients at every block are held at once."""
        return 0

    @abstractmethod
    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """Pick `top_k` neurons a block; ties go to the lowest index.

        A search that is `any_blocks` also takes `per_block`, here and in `revise`: False for as many of any blocks.
        """

    def revise(
        self,
        problem: Problem,
        scorer: Scorer,
        draft: Found,
        doubt: Doubt,
        *,
        top_k: int = 1,
        keep_candidates: bool = False,
    ) -> Found:
        """The same more exactly, for images that are in doubt.

        Args:
            problem: these images, in float64 or with more nodes.
            scorer: rates the neurons.
            draft: what was found before.
            doubt: what is in doubt. A search that can keep the rest saves most of the work.
            top_k, keep_candidates: as for `run`.
        """
        return self.run(problem, scorer, top_k=top_k, keep_candidates=keep_candidates)


searches: Registry[Search] = Registry("search", "neuron_path.search.searches")
