"""timm's distilled DeiT: a class and a distillation token, each with a head of its own."""

from __future__ import annotations

from typing import Any

from timm.models.deit import VisionTransformerDistilled
from torch import Tensor

from neuron_path.models.adapter import Adapter, Scope, families
from neuron_path.models.blocks import pre_norm


@families.register("deit")
class DistilledAdapter(Adapter):
    """`timm.models.deit.VisionTransformerDistilled`; both prefix tokens are in scope, their heads are averaged."""

    kind = VisionTransformerDistilled
    special = "class and distillation token, two heads"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self.blocks = [pre_norm(block) for block in model.blocks]
        self.scope = self._choose_scope(token_scope, Scope.cls(2), Scope.patch(2))
        self.head_rows = self.scope.tokens if self.scope.name == "cls" else None

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
