"""The part of the network behind the candidate block, up to the target value."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem


def tail_value(problem: Problem, h: Float[Tensor, "n T D"], start: int, images: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Target values from the residual stream that enters block `start` (past the last block: its output)."""
    adapter = problem.adapter
    for index in range(start, len(adapter.blocks)):
        h = adapter.run(index, h)
    return problem.target_values(adapter.head(h), images)
