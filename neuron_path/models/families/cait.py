"""CaiT: talking-heads attention over patches, then class attention, where only the class token changes."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.cait import Cait, LayerScaleBlock, LayerScaleBlockClassAttn
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Scope, families
from neuron_path.models.blocks import Ffn, ResidualBlock, gamma_of, pre_norm, scale


@families.register("cait")
class CaitAdapter(Adapter):
    """`timm.models.cait.Cait`: `patch` runs over the main blocks, `cls` over those of class attention."""

    kind = Cait
    special = "talking heads; class attention behind the main blocks"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._class_blocks: list[Any] = list(model.blocks_token_only or ())
        for kind, blocks in ((LayerScaleBlock, model.blocks), (LayerScaleBlockClassAttn, self._class_blocks)):
            for block in blocks:
                if type(block) is not kind:
                    raise NeuronPathError(
                        f"A block of this model is a {type(block).__name__}, whose neurons are not known; expected a "
                        f"{kind.__name__}."
                    )
        self.scope = self._choose_scope(token_scope, *late_scopes(model, self._class_blocks))
        if self.scope.name == "cls":
            self.blocks = [ClassAttentionBlock(block) for block in self._class_blocks]
            self.head_rows = slice(0, 1)
        else:
            self.blocks = [pre_norm(block) for block in model.blocks]

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x = model.pos_drop(model.patch_embed(images) + model.pos_embed)
        if self.scope.name == "patch":
            return x
        for block in model.blocks:
            x = block(x)
        return torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1)

    def head(self, h: Tensor) -> Tensor:
        model = self.model
        if self.scope.name == "patch" and model.cls_token is not None:
            cls_token = model.cls_token.expand(len(h), -1, -1)
            for block in self._class_blocks:
                cls_token = block(h, cls_token)
            h = torch.cat((cls_token, h), dim=1)
        return super().head(h)


def late_scopes(model: Any, class_blocks: list[Any]) -> list[Scope]:
    """The scopes of a model with class attention; class tokens that the head does not read have no neurons."""
    return [Scope.patch(), Scope.cls()] if class_blocks and model.global_pool == "token" else [Scope.patch()]


class ClassAttentionBlock(ResidualBlock):
    """Attention from the class token to all tokens, then an FFN on the class token; patches stay as they are."""

    feeds_all = False

    def __init__(self, block: Any) -> None:
        ffn = Ffn(block.mlp, gamma_of(block, 2))
        super().__init__(block.attn, ffn, block.norm1, scale(gamma_of(block, 1)), block.norm2)

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        cls_token = x[:, :1] + self._after1(self._attend(self.before1(x)))
        u = torch.cat((cls_token, x[:, 1:]), dim=1)
        return u if rows is None else u[:, rows]
