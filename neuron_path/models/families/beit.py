"""timm's `Beit`: BEiT and BEiT v2, whose attention is biased by relative positions."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from neuron_path.models.adapter import Adapter, Block, families
from neuron_path.models.blocks import pre_norm
from neuron_path.models.families.vision_transformer import scopes


@families.register("beit")
class BeitAdapter(Adapter):
    """`timm.models.beit.Beit`; a bias that all blocks share is added to those of their own."""

    special = "relative position biases, of each block or shared"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is Beit

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._bias: Tensor | None = None  # (heads, T, T)
        self.blocks = [self._cut(block) for block in model.blocks]
        reads_class_token = model.global_pool == "token"
        self.scope = self._choose_scope(token_scope, *scopes(model, reads_class_token=reads_class_token))
        self.head_rows = slice(0, 1) if reads_class_token else None

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        self._bias = None if model.rel_pos_bias is None else model.rel_pos_bias()
        x = model.patch_embed(images)
        x = torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1)
        return model.pos_drop(x if model.pos_embed is None else x + model.pos_embed)

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(h))

    def _cut(self, block: Any) -> Block:
        return pre_norm(block, lambda attn, y: attn(y, shared_rel_pos_bias=self._bias))
