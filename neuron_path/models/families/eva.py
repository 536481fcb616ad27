"""timm's `Eva`: EVA-02, DINOv3, Perception Encoder, ViTs with rotary positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Block, families
from neuron_path.models.blocks import post_norm, pre_norm
from neuron_path.models.families.vision_transformer import PrefixAdapter


@families.register("eva")
class EvaAdapter(PrefixAdapter):
    """`timm.models.eva.Eva`; positions turn queries and keys in every block, in "mixed" mode by angles of its own."""

    kind = Eva
    special = "rotary positions (also DINOv3's and mixed), registers, norms after the branches, gated FFNs"

    _rope: Any = None  # (T, 2d), or (L, heads, T, 2d) where mixed

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x, self._rope = model._pos_embed(model.patch_embed(images))
        return getattr(model, "norm_pre", nn.Identity())(x)

    def _cut(self, block: Any, index: int) -> Block:
        is_mixed = getattr(self.model, "rope_mixed", False)
        return cut(block, lambda: self._rope[index] if is_mixed else self._rope)


def cut(block: Any, rope: Callable[[], Tensor | None]) -> Block:
    """An EVA block of either kind; `rope` gives the angles of the moment."""

    def attend(attn: Any, y: Tensor) -> Tensor:
        return attn(y, rope=rope())

    if type(block) is EvaBlock:
        return pre_norm(block, attend)
    if type(block) is EvaBlockPostNorm:
        return post_norm(block, attend)
    raise NeuronPathError(f"A block of this model is a {type(block).__name__}, whose neurons are not known.")
