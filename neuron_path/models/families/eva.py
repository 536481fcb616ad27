"""timm's `Eva`: EVA-02, DINOv3, Perception Encoder, ViTs with rotary positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, families
from neuron_path.models.blocks import post_norm, pre_norm
from neuron_path.models.families.vision_transformer import scopes


@families.register("eva")
class EvaAdapter(Adapter):
    """`timm.models.eva.Eva`; positions turn queries and keys in every block, in "mixed" mode by angles of its own."""

    special = "rotary positions (also DINOv3's and mixed), registers, norms after the branches, gated FFNs"

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return type(model) is Eva

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._rope: Any = None  # (T, 2d), or (L, heads, T, 2d) where mixed
        is_mixed = getattr(model, "rope_mixed", False)
        self.blocks = [
            cut(block, lambda index=index: self._rope[index] if is_mixed else self._rope)
            for index, block in enumerate(model.blocks)
        ]
        reads_class_token = model.global_pool == "token"
        self.scope = self._choose_scope(token_scope, *scopes(model, reads_class_token=reads_class_token))
        self.head_rows = slice(0, 1) if reads_class_token else None

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x, self._rope = model._pos_embed(model.patch_embed(images))
        return getattr(model, "norm_pre", nn.Identity())(x)

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(h))


def cut(block: Any, rope: Callable[[], Tensor | None]) -> Block:
    """An EVA block of either kind; `rope` gives the angles of the moment."""

    def attend(attn: Any, y: Tensor) -> Tensor:
        return attn(y, rope=rope())

    if type(block) is EvaBlock:
        return pre_norm(block, attend)
    if type(block) is EvaBlockPostNorm:
        return post_norm(block, attend)
    raise NeuronPathError(f"A block of this model is a {type(block).__name__}, whose neurons are not known.")
