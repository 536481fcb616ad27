"""timm's `VisionTransformerRelPos`: positions are known to attention alone, as a bias."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer_relpos import RelPosBlock, ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Block, families
from neuron_path.models.blocks import post_norm, pre_norm
from neuron_path.models.families.vision_transformer import PrefixAdapter


@families.register("vision_transformer_relpos")
class RelPosAdapter(PrefixAdapter):
    """`timm.models.vision_transformer_relpos.VisionTransformerRelPos`; blocks have biases of their own or share one."""

    kind = VisionTransformerRelPos
    special = "relative position biases (tables or MLPs), of each block or shared; norms after the branches"

    _bias: Tensor | None = None  # (1, heads, T, T)

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        self._bias = None if model.shared_rel_pos is None else model.shared_rel_pos.get_bias()
        x = model.patch_embed(images)
        return x if model.cls_token is None else torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1)

    def _cut(self, block: Any, index: int) -> Block:
        def attend(attn: Any, y: Tensor) -> Tensor:
            return attn(y, shared_rel_pos=self._bias)

        if type(block) is RelPosBlock:
            return pre_norm(block, attend)
        if type(block) is ResPostRelPosBlock:
            return post_norm(block, attend)
        raise NeuronPathError(f"A block of this model is a {type(block).__name__}, whose neurons are not known.")
