"""Every path, one after another: the truth, for tiny models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, islice, product

import torch

from neuron_path.attribution.exactness import TIE, ranked
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.maximising import Maximising
from neuron_path.search.search import Found, searches

_MOST_PATHS = 1_000_000
_TOGETHER = 256  # paths of each image


@searches.register("exhaustive")
@dataclass(frozen=True)
class Exhaustive(Maximising):
    """Rate every path there is and take the best; ties go to the first in lexicographic order.

    Args:
        measure, operation, factor: what is maximised; see `Maximising`.

    Raises:
        NeuronPathError: a model with more than a million paths.
    """

    def n_rated(self, n_blocks: int) -> int:
        """Those that are rated together, and what they are compared with."""
        return _TOGETHER + 8

    def run(
        self,
        problem: Problem,
        scorer: Scorer,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found:
        """All paths in lexicographic order."""
        goal, every = self.goal(problem, per_block=per_block), problem.every_image
        widths = [block.n_neurons for block in problem.adapter.blocks]
        widths = widths if per_block else [sum(widths)]
        n_paths = math.prod(math.comb(width, top_k) for width in widths)
        if n_paths > _MOST_PATHS:
            raise NeuronPathError(
                f"search=exhaustive would rate {n_paths:.1e} paths of each image; it is for models with at most "
                f"{_MOST_PATHS:,}: use search=linearized (search='linearized' in Python)."
            )
        paths = product(*(combinations(range(width), top_k) for width in widths))
        best = problem.targets.new_zeros((len(every), len(widths), top_k))
        values = problem.clean.embedded.new_full((len(every),), -torch.inf)
        second = values.clone()
        while some := list(islice(paths, _TOGETHER)):
            listed = torch.tensor(some, device=every.device)
            found = goal.exactly(every.repeat_interleave(len(some)), listed.repeat(len(every), 1, 1))
            ordered, order = ranked(found.view(len(every), -1))
            leads = ordered[:, 0] - values > TIE * ordered[:, 0].abs()
            second = torch.where(leads, values, torch.maximum(second, ordered[:, 0]))
            if len(some) > 1:
                second = torch.maximum(second, ordered[:, 1])
            best[leads], values = listed[order[leads, 0]], torch.where(leads, ordered[:, 0], values)
        return self.found(
            goal,
            best,
            values,
            passes=torch.full_like(every, n_paths * (1 if self.measure == "effect" else problem.quadrature.most_steps)),
            clearance=((values - second) / values.abs()).nan_to_num(torch.inf, torch.inf),
            keep_candidates=keep_candidates,
        )
