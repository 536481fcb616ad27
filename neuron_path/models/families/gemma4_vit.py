"""timm's `Gemma4VitClassifier`: the vision encoder of Gemma 4."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.gemma4_vit import Gemma4VitClassifier
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.blocks import Ffn, ResidualBlock


@families.register("gemma4_vit")
class Gemma4Adapter(Adapter):
    """`timm.models.gemma4_vit.Gemma4VitClassifier`; where the encoder pools its tokens, that is part of the head."""

    special = "norms before and after each branch, rotary positions in two dimensions, gated FFNs"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is Gemma4VitClassifier

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._positions: Any = None  # (1, T, 2)
        self._rope: Any = ()  # cosines and sines, both (1, T, d)
        self.blocks = [self._cut(block, index) for index, block in enumerate(model.encoder.blocks)]
        self.scope = self._choose_scope(token_scope, Scope.patch())

    def embed(self, images: Tensor) -> Tensor:
        encoder = self.model.encoder
        x, positions, _ = encoder.patch_embed(images)
        self._positions = positions[:1]
        self._rope = encoder.rotary_emb(x[:1], self._positions)
        return x

    def head(self, h: Tensor) -> Tensor:
        encoder = self.model.encoder
        if encoder.global_pool == "soft":
            h, _ = encoder.pooler(h, self._positions, None)
            h = h if encoder.std_bias is None else (h - encoder.std_bias) * encoder.std_scale
        return self.model.forward_head(h)

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self.model.in_chans, None, None

    def _cut(self, block: Any, index: int) -> Block:
        if _clips(block.mlp.down_proj):
            raise NeuronPathError(
                f"The second FFN layer of block {index} clips its values, so what neurons add does not sum up: turn "
                "all clipping of the model off with model.set_clamp_enabled(False), if its logits may change."
            )

        def attend(y: Tensor) -> Tensor:
            return block.attn(y, *self._rope)

        return ResidualBlock(attend, Ffn(block.mlp), block.norm1, block.norm2, block.norm3, block.norm4)


def _clips(layer: Any) -> bool:
    """Whether a layer's bounds are finite; those on the meta device are not known."""
    if not layer.use_clipped or layer.input_min.is_meta:
        return False
    bounds = torch.stack((layer.input_min, layer.input_max, layer.output_min, layer.output_max))
    return bool(bounds.isfinite().any())
