"""timm's `VisionTransformerSAM`: Segment Anything's encoder, with attention in windows."""

from __future__ import annotations

from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import Block as TimmBlock
from timm.models.vision_transformer_sam import VisionTransformerSAM, window_partition, window_unpartition
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.blocks import pre_norm


@families.register("vision_transformer_sam")
class SamAdapter(Adapter):
    """`timm.models.vision_transformer_sam.VisionTransformerSAM`; the convolutional neck is part of the head."""

    kind = VisionTransformerSAM
    special = "attention in windows, decomposed relative positions, a convolutional neck"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._grid: Any = model.patch_embed.grid_size
        self.blocks = [self._cut(block) for block in model.blocks]
        self.scope = self._choose_scope(token_scope, Scope.patch())

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x = model.patch_embed(images)
        self._grid = x.shape[1:3]
        if model.pos_embed is not None:
            x = x + resample_abs_pos_embed_nhwc(model.pos_embed, self._grid)
        return model.norm_pre(model.patch_drop(model.pos_drop(x))).flatten(1, 2)

    def head(self, h: Tensor) -> Tensor:
        model = self.model
        return model.forward_head(model.neck(h.unflatten(1, self._grid).permute(0, 3, 1, 2)))

    def input_shape(self) -> tuple[int, int | None, int | None]:
        channels, height, width = super().input_shape()
        if self.model.rope_global is not None:  # made for one size
            height, width = self.model.patch_embed.img_size
        return channels, height, width

    def _cut(self, block: Any) -> Block:
        if type(block) is not TimmBlock:
            raise NeuronPathError(f"A block of this model is a {type(block).__name__}, whose neurons are not known.")
        size = block.window_size

        def attend(attn: Any, y: Tensor) -> Tensor:
            y = y.unflatten(1, self._grid)
            if size == 0:
                return attn(y).flatten(1, 2)
            windows, padded = window_partition(y, size)
            return window_unpartition(attn(windows), size, self._grid, padded).flatten(1, 2)

        return pre_norm(block, attend)
