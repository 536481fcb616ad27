"""Greedy search by exact scores: a beam of one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.search import searches
from neuron_path.search.searches.beam import check_beam, improve_by_beams


@searches.register("rerank")
@dataclass(frozen=True)
class Rerank(Improving):
    """Before each choice score the scorer's best candidates exactly, behind the path so far; see `Beam`.

    Args:
        candidates: neurons of each block that are scored; None: all. With 1 it is the greedy search.
        measure, budget: see `Improving`. What does not fit the budget goes on as a greedy search.
    """

    candidates: int | None = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beam(1, self.candidates)

    @property
    def n_prefixes(self) -> int:
        """As a beam of one."""
        return 4

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """A beam of width one."""
        return improve_by_beams(objective, scorer, start, allowance, 1, self.candidates)
