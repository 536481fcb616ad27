"""The part of the network behind the candidate block: forward, and backward for its input only."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import target_probability
from neuron_path.models.adapter import Adapter, Scope


def tail_probability(
    adapter: Adapter, scope: Scope, h: Float[Tensor, "N T D"], start: int, targets: Int[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """Target probability from the residual stream that enters block `start` (past the last block: its output)."""
    for index in range(start, len(adapter.blocks)):
        h = adapter.blocks[index](h, adapter.rows(index, scope))
    return target_probability(adapter.head(h), targets)


def tail_gradient(
    adapter: Adapter, scope: Scope, h: Float[Tensor, "N T D"], start: int, targets: Int[Tensor, "N"]
) -> Float[Tensor, "N T D"]:
    """∂p_y/∂h at the input of block `start`: one forward and one input-only backward over what follows."""
    h = h.detach().requires_grad_()
    with torch.enable_grad():
        total = tail_probability(adapter, scope, h, start, targets).sum()
    return torch.autograd.grad(total, h)[0]
