"""timm's `Qwen3VitClassifier`: the vision encoder of Qwen3-VL."""

from __future__ import annotations

from typing import Any

from timm.models.qwen3_vit import Qwen3VitClassifier
from torch import Tensor, nn

from neuron_path.models.adapter import Adapter, Scope, families
from neuron_path.models.families.eva import cut


@families.register("qwen3_vit")
class Qwen3Adapter(Adapter):
    """`timm.models.qwen3_vit.Qwen3VitClassifier`; the encoder's projector, if it has one, is part of the head."""

    special = "rotary and learned positions"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is Qwen3VitClassifier

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._grid: Any = model.encoder.patch_embed.grid_size
        self._rope: Tensor | None = None  # (T, 2d)
        self.blocks = [cut(block, lambda: self._rope) for block in model.encoder.blocks]
        self.scope = self._choose_scope(token_scope, Scope.patch())

    def embed(self, images: Tensor) -> Tensor:
        encoder = self.model.encoder
        x = encoder.patch_embed(images)
        self._grid = x.shape[1:3]
        x, self._rope = encoder._pos_embed(x)
        return x

    def head(self, h: Tensor) -> Tensor:
        merger = self.model.encoder.merger
        h = h.unflatten(1, self._grid)
        return self.model.forward_head(h if merger is None else merger(h))

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self.model.in_chans, None, None
