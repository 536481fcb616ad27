"""timm's `NaFlexVit`, for images as plain tensors: all patches of all images count, so nothing is masked."""

from __future__ import annotations

from typing import Any

from timm.models.eva import EvaBlock
from timm.models.naflexvit import NaFlexVit
from torch import Tensor, nn

from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.families import eva, vision_transformer


@families.register("naflexvit")
class NaFlexAdapter(Adapter):
    """`timm.models.naflexvit.NaFlexVit` with `VisionTransformer`'s blocks or, for rotary positions and more, EVA's."""

    special = "images of any size, with EVA's blocks or those of vision_transformer"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is NaFlexVit

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._rope: Any = None  # (T, 2d), or (L, heads, T, 2d) where mixed
        self.blocks = [self._cut(block, index) for index, block in enumerate(model.blocks)]
        reads_class_token = model.global_pool == "token"
        patch = Scope.patch(model.num_prefix_tokens)
        own = [Scope.cls(), patch] if reads_class_token else [patch, Scope.cls()]
        self.scope = self._choose_scope(token_scope, *(own if model.has_class_token else [patch]))
        self.head_rows = slice(0, 1) if reads_class_token else None

    def embed(self, images: Tensor) -> Tensor:
        # Without coordinates of patches timm takes one grid for all images; the angles know of no batch.
        embedded = self.model._forward_embeds(images, patch_coord=None, patch_valid=None, attn_mask=None)
        self._rope = embedded["rope_embeds"]
        return embedded["patches"]

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(h))

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self.model.in_chans, None, None

    def _cut(self, block: Any, index: int) -> Block:
        if type(block) is not EvaBlock:
            return vision_transformer.cut(block, index)
        return eva.cut(block, lambda: self._rope[index] if self.model.rope_is_mixed else self._rope)
