"""Every neuron's activations at every token that the FFN sees, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from neuron_path.models.adapter import Adapter


def block_activations(
    adapter: Adapter, embedded: Float[Tensor, "N T D"]
) -> Iterator[tuple[Float[Tensor, "N _T _F"], Float[Tensor, "N _R D"]]]:
    """Yield each block's activations (N, T, F) in the untouched network, at all tokens that its FFN sees, and what
    leaves the block."""
    h = embedded
    for index, block in enumerate(adapter.blocks):
        u, live = (block.mix(h), None) if block.feeds_all else adapter.split(index, h)
        a = block.activations(u)
        fed = block.residual(u) + block.after(block.project(a))
        h = fed if live is None else adapter.scope.join(fed, live)
        yield a, h
