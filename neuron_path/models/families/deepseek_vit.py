"""timm's `DeepseekVitClassifier`: the vision encoder of DeepSeek V4."""

from __future__ import annotations

from typing import Any

from timm.models.deepseek_vit import DeepseekVitClassifier
from torch import Tensor

from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.blocks import pre_norm


@families.register("deepseek_vit")
class DeepseekAdapter(Adapter):
    """`timm.models.deepseek_vit.DeepseekVitClassifier`; the encoder's projector, if it has one, is part of the head."""

    kind = DeepseekVitClassifier
    special = "rotary positions, gated FFNs, norms in float32"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._grid: Any = model.encoder.patch_embed.grid_size
        self._rope: Tensor | None = None  # (T, 2d)
        self.blocks = [self._cut(block) for block in model.encoder.blocks]
        self.scope = self._choose_scope(token_scope, Scope.patch())

    def embed(self, images: Tensor) -> Tensor:
        encoder = self.model.encoder
        x = encoder.patch_embed(images)
        self._grid = x.shape[1:3]
        x, self._rope = encoder._pos_embed(x)
        return x

    def head(self, h: Tensor) -> Tensor:
        encoder = self.model.encoder
        h = encoder.norm(h).unflatten(1, self._grid)
        return self.model.forward_head(h if encoder.aligner is None else encoder.aligner(h))

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self.model.in_chans, None, None

    def _cut(self, block: Any) -> Block:
        return pre_norm(block, lambda attn, y: attn(y, rope=self._rope))
