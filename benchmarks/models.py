"""Vision transformers with random weights, in the shapes that the benchmarks need."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor


class Shape(NamedTuple):
    """A vision transformer and how many images it gets."""

    width: int
    depth: int
    heads: int
    image: int = 224
    patch: int = 32
    pool: Literal["token", "avg"] = "token"
    n_images: int = 1

    @property
    def n_tokens(self) -> int:
        """With the class token."""
        return 1 + (self.image // self.patch) ** 2


def random_vit(shape: Shape) -> VisionTransformer:
    """A model of that shape with timm's own initial weights, always the same."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=shape.image,
        patch_size=shape.patch,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        num_classes=100,
        global_pool=shape.pool,
    )
    return model.eval().requires_grad_(False)


def random_images(shape: Shape) -> tuple[Tensor, Tensor]:
    """Images and their targets, always the same."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(shape.n_images, 3, shape.image, shape.image, generator=generator)
    return images, torch.arange(shape.n_images) % 100
