"""Remove and enhance: multiply the path neurons' activations in scope, in a fully live network."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import edited_logits
from neuron_path.errors import unknown_name
from neuron_path.models.adapter import Adapter

FACTORS = {"remove": 0.0, "enhance": 2.0}


def factor_of(operation: str) -> float:
    """What an operation multiplies the path neurons by.

    Raises:
        NeuronPathError: no such operation.
    """
    if operation not in FACTORS:
        raise unknown_name("operation", operation, FACTORS)
    return FACTORS[operation]


def scaled_logits(
    adapter: Adapter,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L k"],
    factor: float,
) -> Float[Tensor, "B C"]:
    """Logits with every path neuron multiplied by `factor` at the tokens in scope; everything else is live."""

    def edit(index: int, a: Float[Tensor, "B S F"]) -> Float[Tensor, "B S F"]:
        scale = torch.ones_like(a[:, :1]).scatter(2, paths[:, index].unsqueeze(1), factor)
        return a * scale

    return edited_logits(adapter, images, edit)
