"""The seam of searches: what one takes and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

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
        clearance: (B,) the closest call of any decision behind an image's path, relative to the largest score
            compared: where it is down at rounding, another batch could decide otherwise.
        candidates: per block (B, F) the objective of every candidate, or None when not kept.
    """

    paths: Int[Tensor, "B L k"]
    scores: Float[Tensor, "B"]
    margins: Float[Tensor, "B L"]
    clearance: Float[Tensor, "B"]
    candidates: list[Float[Tensor, "B F"]] | None


class Search(ABC):
    """Options of a search; `run` picks a path for every image of a problem. Its `name` is the registered one."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """Pick `top_k` neurons a block; ties go to the lowest index."""


searches: Registry[Search] = Registry("search", "neuron_path.search.searches")
