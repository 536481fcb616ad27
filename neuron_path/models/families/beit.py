"""timm's `Beit`: BEiT and BEiT v2, whose attention is biased by relative positions."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.beit import Beit
from torch import Tensor

from neuron_path.models.adapter import Block, families
from neuron_path.models.blocks import pre_norm
from neuron_path.models.families.vision_transformer import PrefixAdapter


@families.register("beit")
class BeitAdapter(PrefixAdapter):
    """`timm.models.beit.Beit`; a bias that all blocks share is added to those of their own."""

    kind = Beit
    special = "relative position biases, of each block or shared"

    _bias: Tensor | None = None  # (heads, T, T)

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        self._bias = None if model.rel_pos_bias is None else model.rel_pos_bias()
        x = model.patch_embed(images)
        x = torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1)
        return model.pos_drop(x if model.pos_embed is None else x + model.pos_embed)

    def _cut(self, block: Any, index: int) -> Block:
        return pre_norm(block, lambda attn, y: attn(y, shared_rel_pos_bias=self._bias))
