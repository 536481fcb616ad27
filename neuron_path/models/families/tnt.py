"""TNT: a transformer over the pixels of each patch inside the blocks of one over patches."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.tnt import TNT
from torch import Tensor

from neuron_path.models.adapter import Block, families
from neuron_path.models.blocks import Ffn, ResidualBlock, identity
from neuron_path.models.families.vision_transformer import PrefixAdapter


@families.register("tnt")
class TntAdapter(PrefixAdapter):
    """`timm.models.tnt.TNT`: neurons are those of the outer FFNs; each token carries its patch's pixels along.

    The class token's pixels are zeros.
    """

    kind = TNT
    special = "a transformer over each patch's pixels runs inside; only the outer FFNs' neurons count"

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        pixels = model.pixel_embed(images, model.pixel_pos).reshape(len(images), model.num_patches, -1)
        patches = model.norm2_proj(model.proj(model.norm1_proj(pixels)))
        patches = torch.cat((model.cls_token.expand(len(images), -1, -1), patches), dim=1)
        return _carry(model.pos_drop(patches + model.patch_pos), pixels)

    def head(self, h: Tensor) -> Tensor:
        return super().head(h[..., : self.model.embed_dim])

    def input_shape(self) -> tuple[int, int | None, int | None]:
        pixel_embed = self.model.pixel_embed
        return (pixel_embed.proj.in_channels, *pixel_embed.img_size)

    def _cut(self, block: Any, index: int) -> Block:
        return OuterBlock(block)


class OuterBlock(ResidualBlock):
    """Both transformers' attention and the inner FFN, then the outer FFN, on tokens of D numbers and their pixels."""

    def __init__(self, block: Any) -> None:
        super().__init__(block.attn_out, Ffn(block.mlp), block.norm_out, identity, block.norm_mlp)
        self._block, self._width = block, block.mlp.fc2.out_features

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        block, patches, pixels = self._block, x[..., : self._width], x[:, 1:, self._width :]
        n_inner = block.attn_in.proj.in_features
        inner = pixels.reshape(-1, pixels.shape[-1] // n_inner, n_inner)
        inner = inner + block.attn_in(block.norm_in(inner))
        inner = inner + block.mlp_in(block.norm_mlp_in(inner))
        pixels = inner.reshape(pixels.shape)
        if getattr(block, "norm2_proj", None) is None:
            inner_projected = block.proj(block.norm1_proj(inner).reshape(pixels.shape))
        else:
            inner_projected = block.norm2_proj(block.proj(block.norm1_proj(pixels)))
        u = super().mix(patches + F.pad(inner_projected, (0, 0, 1, 0)))
        u = _carry(u, pixels)
        return u if rows is None else u[:, rows]

    def activations(self, u: Tensor) -> Tensor:
        return super().activations(u[..., : self._width])

    def project(self, a: Tensor) -> Tensor:
        return self._widen(super().project(a))

    def pullback(self, g: Tensor) -> Tensor:
        return super().pullback(g[..., : self._width])

    def columns(self, places: Tensor) -> Tensor:
        return self._widen(super().columns(places))

    def _widen(self, z: Tensor) -> Tensor:
        """Zeros where the pixels are."""
        return F.pad(z, (0, self._block.proj.in_features))


def _carry(patches: Tensor, pixels: Tensor) -> Tensor:
    """Each token with its patch's pixels behind it, the class token with zeros."""
    return torch.cat((patches, F.pad(pixels, (0, 0, 1, 0))), dim=-1)
