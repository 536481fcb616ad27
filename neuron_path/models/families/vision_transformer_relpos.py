"""timm's `VisionTransformerRelPos`: positions are known to attention alone, as a bias."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer_relpos import RelPosBlock, ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, families
from neuron_path.models.blocks import post_norm, pre_norm
from neuron_path.models.families.vision_transformer import scopes


@families.register("vision_transformer_relpos")
class RelPosAdapter(Adapter):
    """`timm.models.vision_transformer_relpos.VisionTransformerRelPos`; blocks have biases of their own or share one."""

    special = "relative position biases (tables or MLPs), of each block or shared; norms after the branches"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is VisionTransformerRelPos

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._bias: Tensor | None = None  # (1, heads, T, T)
        self.blocks = [self._cut(block) for block in model.blocks]
        reads_class_token = model.global_pool == "token"
        self.scope = self._choose_scope(token_scope, *scopes(model, reads_class_token=reads_class_token))
        self.head_rows = slice(0, 1) if reads_class_token else None

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        self._bias = None if model.shared_rel_pos is None else model.shared_rel_pos.get_bias()
        x = model.patch_embed(images)
        return x if model.cls_token is None else torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1)

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(h))

    def _cut(self, block: Any) -> Block:
        def attend(attn: Any, y: Tensor) -> Tensor:
            return attn(y, shared_rel_pos=self._bias)

        if type(block) is RelPosBlock:
            return pre_norm(block, attend)
        if type(block) is ResPostRelPosBlock:
            return post_norm(block, attend)
        raise NeuronPathError(f"A block of this model is a {type(block).__name__}, whose neurons are not known.")
