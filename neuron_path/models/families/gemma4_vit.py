"""timm's `Gemma4VitClassifier`: the vision encoder of Gemma 4."""

from __future__ import annotations

from typing import Any

from timm.models.gemma4_vit import Gemma4VitClassifier
from torch import Tensor

from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.blocks import Ffn, ResidualBlock


@families.register("gemma4_vit")
class Gemma4Adapter(Adapter):
    """`timm.models.gemma4_vit.Gemma4VitClassifier`; where the encoder pools its tokens, that is part of the head."""

    kind = Gemma4VitClassifier
    special = (
        "norms before and after each branch, clipped linear layers, rotary positions in two dimensions, gated FFNs"
    )

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._positions: Any = None  # (1, T, 2)
        self._rope: Any = ()  # cosines and sines, both (1, T, d)
        self.blocks = [self._cut(block) for block in model.encoder.blocks]
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

    def _cut(self, block: Any) -> Block:
        second = block.mlp.down_proj

        def attend(y: Tensor) -> Tensor:
            return block.attn(y, *self._rope)

        def clip(z: Tensor) -> Tensor:
            return block.norm4(z.clamp(second.output_min, second.output_max))

        after = clip if second.use_clipped else block.norm4
        return ResidualBlock(attend, Ffn(block.mlp), block.norm1, block.norm2, block.norm3, after)
