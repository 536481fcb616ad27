"""Attention heads as what a path consists of, in place of FFN neurons or beside them.

A head's output, its slice of what the output projection reads, takes the place of a neuron's activation: the model is
cut at the output projections, and all else stays as the family has it. Which heads those are: docs/measures.md.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.adapter import Adapter, Block
from neuron_path.models.blocks import BranchBlock, Heads, ResidualBlock
from neuron_path.types import UnitsName


class HeadsBlock(BranchBlock):
    """From what leaves a block's attention to what leaves the next one's, ``mix`` carrying stream and heads' outputs.

    Args:
        heads: the attention's heads.
        before: the norm before it.
        last: the FFN between the two, as the block before; None: there is none.
    """

    def __init__(self, heads: Heads, block: ResidualBlock, last: Block | None) -> None:
        super().__init__(heads, heads.after)
        self.heads, self._block, self._last = heads, block, last
        self.n_neurons, self.channels = heads.n_heads, heads.width // heads.n_heads

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        x = x if self._last is None else self._last.feed(x)
        a = self.heads.outputs(self._block.before1(x), rows)
        return torch.cat((x if rows is None else x[:, rows], a), dim=-1)

    def residual(self, u: Tensor) -> Tensor:
        return u[..., : -self.width]

    def activations(self, u: Tensor) -> Tensor:
        return u[..., -self.width :]


class FfnBlock(BranchBlock):
    """A block's FFN alone, behind its attention, whose heads are a block of their own."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__(block.ffns[0], block.after)
        self.block = block
        self.n_neurons = block.n_neurons

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        return x if rows is None else x[:, rows]

    def activations(self, u: Tensor) -> Tensor:
        return self.block.activations(u)


class HeadsAdapter(Adapter):
    """Another family's adapter whose blocks are attention's, or attention's and FFNs in turn.

    Args:
        family: the model by its FFN neurons.
        units: "heads" or "ffn+heads".

    Raises:
        NeuronPathError: the heads of a block are not known.
    """

    def __init__(self, family: Adapter, units: UnitsName) -> None:
        super().__init__(family.model)
        self.name, self.special, self.closeness = family.name, family.special, family.closeness  # pyright: ignore[reportAttributeAccessIssue]
        self.scope, self.head_rows, self.units = family.scope, family.head_rows, units
        self._family = family
        blocks: list[Block] = []
        for index, block in enumerate(family.blocks):
            if type(block) is not ResidualBlock or block.heads is None:
                raise NeuronPathError(
                    f"The heads of block {index} of this {type(family.model).__name__} are not known: of the family "
                    f"'{family.name}' a path can consist of FFN neurons only; use units=ffn."
                )
            last = family.blocks[index - 1] if units == "heads" and index else None
            blocks.append(HeadsBlock(block.heads(), block, last))
            if units != "heads":
                blocks.append(FfnBlock(block))
        self.blocks = blocks

    def embed(self, images: Tensor) -> Tensor:
        return self._family.embed(images)

    def head(self, h: Tensor) -> Tensor:
        return self._family.head(self._family.blocks[-1].feed(h) if self.units == "heads" else h)

    def logits(self, images: Tensor) -> Tensor:
        return self._family.logits(images)

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self._family.input_shape()

    def check_images(self, images: Tensor) -> None:
        self._family.check_images(images)


def with_heads(family: Adapter, units: str) -> HeadsAdapter:
    """The adapter for heads of a model, from that for its FFN neurons.

    Raises:
        NeuronPathError: no such units, or a model whose heads are not known.
    """
    for known in get_args(UnitsName):
        if known == units:
            return HeadsAdapter(family, known)
    raise unknown_name("choice of units", units, get_args(UnitsName))
