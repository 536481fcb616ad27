"""XCiT: attention between channels and a local convolution over patches, then class attention."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.xcit import Xcit
from torch import Tensor, nn

from neuron_path.models.adapter import Adapter, families
from neuron_path.models.blocks import Ffn, ResidualBlock, gamma_of, scale
from neuron_path.models.families.cait import late_scopes


@families.register("xcit")
class XcitAdapter(Adapter):
    """`timm.models.xcit.Xcit`: `patch` runs over the main blocks, `cls` over those of class attention."""

    kind = Xcit
    special = "attention between channels, local convolution; class attention behind the main blocks"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self._class_blocks: list[Any] = list(model.cls_attn_blocks or ())
        self.scope = self._choose_scope(token_scope, *late_scopes(model, self._class_blocks))
        # The stem halves height and width, rounding up, as often as the patch size asks for.
        patch_embed = model.patch_embed
        height, width = (-(-size // patch_embed.patch_size) for size in patch_embed.img_size)
        self._grid = (height, width)
        if self.scope.name == "cls":
            self.blocks = [ClassAttentionBlock(block) for block in self._class_blocks]
            self.head_rows = slice(0, 1)
        else:
            self.blocks = [CrossCovarianceBlock(block, self._grid) for block in model.blocks]

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x, _ = model.patch_embed(images)
        if model.pos_embed is not None:
            x = x + model.pos_embed(len(x), *self._grid).flatten(2).transpose(1, 2)
        x = model.pos_drop(x)
        if self.scope.name == "patch":
            return x
        for block in model.blocks:
            x = block(x, *self._grid)
        return self._join(x)

    def head(self, h: Tensor) -> Tensor:
        if self.scope.name == "patch" and self.model.cls_token is not None:
            h = self._join(h)
            for block in self._class_blocks:
                h = block(h)
        return super().head(h)

    def _join(self, x: Tensor) -> Tensor:
        """The class token before the patches."""
        return torch.cat((self.model.cls_token.expand(len(x), -1, -1), x), dim=1)


class CrossCovarianceBlock(ResidualBlock):
    """Attention between channels, then a 3 × 3 convolution between neighbouring patches, then the FFN."""

    def __init__(self, block: Any, grid: tuple[int, int]) -> None:
        ffn = Ffn(block.mlp, gamma_of(block, 2))
        super().__init__(block.attn, ffn, block.norm1, scale(gamma_of(block, 1)), block.norm2)
        self._block, self._grid, self._after3 = block, grid, scale(gamma_of(block, 3))

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        x = super().mix(x)
        u = x + self._after3(self._block.local_mp(self._block.norm3(x), *self._grid))
        return u if rows is None else u[:, rows]


class ClassAttentionBlock(ResidualBlock):
    """Attention from the class token to all tokens, then a norm, then an FFN on the class token.

    The FFN's residual is behind the norm. Patches pass two residuals with nothing of their own to add: attention's adds
    their first norm to them, the FFN's doubles what comes out; in between they are normalised only if `tokens_norm`.
    """

    feeds_all = False

    def __init__(self, block: Any) -> None:
        ffn = Ffn(block.mlp, gamma_of(block, 2))
        super().__init__(block.attn, ffn, block.norm1, scale(gamma_of(block, 1)), nn.Identity())
        self._block = block

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        block, y = self._block, self.before1(x)
        x = x + self._after1(torch.cat((self._attend(y), y[:, 1:]), dim=1))
        patches = block.norm2(x[:, 1:]) if block.tokens_norm else x[:, 1:]
        u = torch.cat((block.norm2(x[:, :1]), 2 * patches), dim=1)
        return u if rows is None else u[:, rows]
