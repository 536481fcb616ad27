"""Hiera: attention in windows, and tokens pooled from stage to stage while the stream widens."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.hiera import Hiera
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Scope, families
from neuron_path.models.blocks import Ffn, ResidualBlock, gamma_of, scale


@families.register("hiera")
class HieraAdapter(Adapter):
    """`timm.models.hiera.Hiera`; tokens are in the order of its windows, and their number falls between stages."""

    kind = Hiera
    special = "windows, tokens pooled between stages"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        n_dimensions = model.patch_embed.spatial_dims
        if n_dimensions != 2:
            raise NeuronPathError(f"This Hiera takes inputs of {n_dimensions} dimensions; only images are supported.")
        self.blocks = [PoolingBlock(block) for block in model.blocks]
        self.scope = self._choose_scope(token_scope, Scope.patch(pooled=True))

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        return model.unroll(model._pos_embed(model.patch_embed(images)))

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(h)

    def input_shape(self) -> tuple[int, int | None, int | None]:
        model = self.model
        height, width = (
            size * stride for size, stride in zip(model.tokens_spatial_shape, model.patch_stride, strict=True)
        )
        return model.patch_embed.proj.in_channels, height, width


class PoolingBlock(ResidualBlock):
    """Attention, then the FFN; in a stage's first block attention and its residual pool tokens and widen them."""

    def __init__(self, block: Any) -> None:
        ffn = Ffn(block.mlp, gamma_of(block, 2))
        super().__init__(block.attn, ffn, block.norm1, scale(gamma_of(block, 1)), block.norm2)
        self._block = block

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        y = self.before1(x)
        u = self._shortcut(x, y) + self._after1(self._attend(y))
        return u if rows is None else u[:, rows]

    def _shortcut(self, x: Tensor, y: Tensor) -> Tensor:
        """What attention is added to, from the stream `x` and its norm `y`."""
        block = self._block
        if not block.do_expand:
            return x
        cells = (x if block.proj is None else block.proj(y)).unflatten(1, (block.attn.q_stride, -1))
        largest = cells.amax(dim=1)
        return largest if block.proj is not None else torch.cat((largest, cells.mean(dim=1)), dim=-1)
