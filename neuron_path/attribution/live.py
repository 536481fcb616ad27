"""Gradients of the live network, in which nothing is frozen: one forward and one backward pass for all blocks."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.problem import Problem


def live_gradients(
    problem: Problem, embedded: Float[Tensor, "n T D"], images: Int[Tensor, "n"]
) -> list[Float[Tensor, "n S D"]]:
    """∂f/∂z of every block, z its projection in scope.

    Args:
        problem: the images' problem.
        embedded: the residual stream that enters the first block.
        images: which image each row belongs to.
    """
    adapter = problem.adapter
    projections: list[Tensor] = []

    def record(index: int, scoped: Tensor) -> Tensor:
        block = adapter.blocks[index]
        z = block.project(block.activations(scoped))
        # No gradient is asked for before the first projection: there the graph begins.
        projections.append(z if projections else z.detach().requires_grad_())
        return projections[-1]

    with torch.enable_grad():
        h = through(adapter, embedded, record)
        total = problem.target_values(adapter.head(h), images).sum()
    return list(torch.autograd.grad(total, projections))
