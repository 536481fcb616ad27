"""ConViT: its first blocks see patches alone, through gated positional attention; the class token joins after them."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.convit import ConVit
from torch import Tensor

from neuron_path.models.adapter import Adapter, Scope, families
from neuron_path.models.blocks import pre_norm


@families.register("convit")
class ConVitAdapter(Adapter):
    """`timm.models.convit.ConVit`: `patch` runs over the blocks before the class token joins, `cls` over the others."""

    kind = ConVit
    special = "gated positional attention; the class token joins late"

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        n_early = model.local_up_to_layer
        self._early, self._late = list(model.blocks)[:n_early], list(model.blocks)[n_early:]
        reads_class_token = model.global_pool == "token"
        scopes = [Scope.patch(0 if self._early else 1), Scope.cls()] if self._late else [Scope.patch()]
        if not self._early and reads_class_token:
            scopes.reverse()
        self.scope = self._choose_scope(token_scope, *scopes)
        self._starts_late = not self._early or self.scope.name == "cls"
        self.blocks = [pre_norm(block) for block in (self._late if self._starts_late else self._early)]
        self.head_rows = slice(0, 1) if self._starts_late and reads_class_token else None

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x = model.patch_embed(images)
        if model.use_pos_embed:
            x = x + model.pos_embed
        self._place(x.shape[1])
        x = model.pos_drop(x)
        if self._starts_late:
            for block in self._early:
                x = block(x)
            x = self._join(x)
        return x

    def head(self, h: Tensor) -> Tensor:
        if self._late and not self._starts_late:
            h = self._join(h)
            for block in self._late:
                h = block(h)
        return super().head(h)

    def _join(self, x: Tensor) -> Tensor:
        """The class token before the patches."""
        return torch.cat((self.model.cls_token.expand(len(x), -1, -1), x), dim=1)

    def _place(self, n_patches: int) -> None:
        """Relative positions as a forward pass leaves them.

        timm's attention makes them in its first forward pass: in forward-mode differentiation or inference mode they
        would stay in the model as tensors that nothing can copy or differentiate.
        """
        for block in self._early:
            attn = block.attn
            if attn.rel_indices.shape[1] != n_patches or attn.rel_indices.is_inference():
                with torch.inference_mode(mode=False):
                    attn.rel_indices = attn.get_rel_indices(n_patches)
