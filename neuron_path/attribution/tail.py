"""The tail: the live blocks after the one whose neurons are looked at, down to the target function.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem


def tail_value(problem: Problem, h: Float[Tensor, "n T D"], start: int, images: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Target values from the residual stream that enters block `start` (past the last block: its output)."""
    adapter, run = problem.adapter, problem.arithmetic.runner(problem.adapter)
    with problem.arithmetic.forwards(h.device):
        for index in range(start, len(adapter.blocks)):
            h = run(index, h)
    return problem.target_values(adapter.head(h.to(problem.images.dtype)), images)


def tail_gradients(
    problem: Problem,
    index: int,
    residual: Float[Tensor, "n S D"],
    live: Float[Tensor, "n R D"],
    z: Float[Tensor, "n S D"],
    images: Int[Tensor, "n"],
) -> tuple[Float[Tensor, "n T D"], Float[Tensor, "n S D"]]:
    """∂f/∂out and ∂f/∂z of block `index`, whose projection in scope is z; the blocks after it are live.

    Args:
        problem: the images' problem.
        index: the block.
        residual: what the projection is added to, in scope.
        live: the block's output at live tokens.
        z: the projection.
        images: which image each row belongs to.
    """
    z = z.requires_grad_()
    with problem.arithmetic.both_ways():
        with torch.enable_grad():
            out = problem.scope.join(residual + problem.adapter.blocks[index].after(z), live)
            total = tail_value(problem, out, index + 1, images).sum()
        at_out, at_z = torch.autograd.grad(total, (out, z))
    return at_out, at_z
