"""timm's `NaFlexVit`, for images as plain tensors: all patches of all images count, so nothing is masked."""

from __future__ import annotations

from typing import Any

from timm.models.eva import EvaBlock
from timm.models.naflexvit import NaFlexVit
from torch import Tensor

from neuron_path.models.adapter import Block, families
from neuron_path.models.families import eva, vision_transformer


@families.register("naflexvit")
class NaFlexAdapter(vision_transformer.PrefixAdapter):
    """`timm.models.naflexvit.NaFlexVit` with `VisionTransformer`'s blocks or, for rotary positions and more, EVA's."""

    kind = NaFlexVit
    special = "images of any size, with EVA's blocks or those of vision_transformer"

    _rope: Any = None  # (T, 2d), or (L, heads, T, 2d) where mixed

    def embed(self, images: Tensor) -> Tensor:
        # Without coordinates of patches timm takes one grid for all images; the angles know of no batch.
        embedded = self.model._forward_embeds(images, patch_coord=None, patch_valid=None, attn_mask=None)
        self._rope = embedded["rope_embeds"]
        return embedded["patches"]

    def input_shape(self) -> tuple[int, int | None, int | None]:
        return self.model.in_chans, None, None

    def _cut(self, block: Any, index: int) -> Block:
        if type(block) is not EvaBlock:
            return vision_transformer.cut(block, index)
        return eva.cut(block, lambda: self._rope[index] if self.model.rope_is_mixed else self._rope)
