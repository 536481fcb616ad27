"""The seam of searches: what one takes and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.registry import Registry


@dataclass(frozen=True)
class Found:
    """The paths of one problem.

    Attributes:
        paths: (B, L, k) in descending order of the objective.
        scores: (B,) final joint attribution scores.
        margins: (B, L) (last chosen − best left out) / |last chosen|.
        clearance: (B, L) each block's closest call, relative to the largest score compared: where it is down at
            rounding, another batch could decide otherwise.
        candidates: per block (B, F) the objective of every candidate, or None when not kept.
    """

    paths: Int[Tensor, "B L k"]
    scores: Float[Tensor, "B"]
    margins: Float[Tensor, "B L"]
    clearance: Float[Tensor, "B L"]
    candidates: list[Float[Tensor, "B F"]] | None

    def draft(self, rows: Int[Tensor, "b"], device: torch.device) -> Found:
        """Some images' paths, to be settled in float64 on `device`."""

        def take(values: Tensor) -> Tensor:
            chosen = values[rows].to(device)
            return chosen.double() if chosen.is_floating_point() else chosen

        candidates = None if self.candidates is None else [take(scores) for scores in self.candidates]
        return Found(take(self.paths), take(self.scores), take(self.margins), take(self.clearance), candidates)


class Search(ABC):
    """Options of a search; `run` picks a path for every image of a problem. Its `name` is the registered one."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """Pick `top_k` neurons a block; ties go to the lowest index."""

    def settle(
        self, problem: Problem, scorer: Scorer, draft: Found, *, top_k: int = 1, keep_candidates: bool = False
    ) -> Found:
        """The same in float64, for images that float32 left in doubt.

        Args:
            problem: these images, in float64.
            scorer: rates the neurons.
            draft: what float32 found; a block with a `clearance` below `CLOSE_CALL` is in doubt. A search that can
                keep the other blocks' choices saves most of the work.
            top_k, keep_candidates: as for `run`.
        """
        return self.run(problem, scorer, top_k=top_k, keep_candidates=keep_candidates)


searches: Registry[Search] = Registry("search", "neuron_path.search.searches")
