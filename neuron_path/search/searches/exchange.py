"""Coordinate ascent: from the greedy path, swap neurons until no swap helps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.quadrature import is_number, is_whole
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.climb import Reach, climb, climb_from_random
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.search import searches


@searches.register("exchange")
@dataclass(frozen=True)
class Exchange(Improving):
    """Make the swaps that the current path's gradients promise most of, until none gains anything.

    Args:
        swaps: of each block that are scored one by one before a climb ends.
        slack: share of the score that these may lose, to first order. On the digits nine tenths of the swaps that gain
            in truth, though to first order none does, lose less than 0.03.
        restarts: climbs from random paths beside that from the greedy one: what these find more tells how far it is
            from the best.
        seed: of the random paths.
        measure, budget: see `Improving`.
    """

    swaps: int = 2
    slack: float = 0.03
    restarts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_climb(self.swaps, self.slack, self.restarts)

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """Climb from the greedy path, then from random ones."""
        reach = Reach(self.swaps, self.slack)
        best = climb(objective, start, reach, allowance)
        return climb_from_random(objective, best, reach, allowance, self.restarts, self.seed)


def check_climb(swaps: int, slack: float, restarts: int) -> None:
    """Raise a NeuronPathError unless these options of a climb are in range."""
    if not is_whole(swaps) or swaps < 1:
        raise NeuronPathError(f"search.swaps is {swaps}; expected at least 1 swap of each block.")
    if not is_number(slack) or not slack >= 0:
        raise NeuronPathError(f"search.slack is {slack}; expected a share of the score, 0 or more.")
    if not is_whole(restarts) or restarts < 0:
        raise NeuronPathError(f"search.restarts is {restarts}; expected a whole number, 0 or more.")
