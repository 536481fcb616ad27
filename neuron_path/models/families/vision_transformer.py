"""timm's standard `VisionTransformer`: pre-norm blocks, class-token or average-pool head."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, families


class PreNormBlock(Block):
    """``u = x + ls1(attn(norm1(x)))``, ``a = norm(act(fc1(norm2(u))))``, ``ffn(a) = ls2(fc2(a))``."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.mlp = block.mlp
        self.fc2: nn.Linear = block.mlp.fc2
        self.n_neurons = self.fc2.in_features
        self._gamma = getattr(block.ls2, "gamma", None)

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        block = self.block
        y = block.norm1(x)
        if rows is None:
            return x + block.ls1(block.attn(y))
        return x[:, rows] + block.ls1(_attend(block.attn, y, rows))

    def activations(self, u: Tensor) -> Tensor:
        mlp = self.mlp
        return mlp.norm(mlp.act(mlp.fc1(self.block.norm2(u))))

    def ffn(self, a: Tensor) -> Tensor:
        return self.block.ls2(self.fc2(a))

    def pullback(self, g: Tensor) -> Tensor:
        return (g if self._gamma is None else g * self._gamma) @ self.fc2.weight

    def columns(self, neurons: Tensor) -> Tensor:
        columns = self.fc2.weight.t()[neurons]
        return columns if self._gamma is None else columns * self._gamma


def _attend(attn: Any, y: Tensor, rows: slice) -> Tensor:
    """Attention whose queries are `rows` only; keys and values come from every token."""
    if type(attn) is not Attention or getattr(attn, "gate", None) is not None:
        return attn(y)[:, rows]
    n_tokens, width = y.shape[1], attn.num_heads * attn.head_dim
    weight, bias = attn.qkv.weight, attn.qkv.bias
    q = F.linear(y[:, rows], weight[:width], None if bias is None else bias[:width])
    kv = F.linear(y, weight[width:], None if bias is None else bias[width:])
    q = q.unflatten(-1, (attn.num_heads, attn.head_dim)).transpose(1, 2)
    k, v = kv.view(-1, n_tokens, 2, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    out = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v)
    out = out.transpose(1, 2).flatten(2)
    return attn.proj(getattr(attn, "norm", nn.Identity())(out))


@families.register("vision_transformer")
class VisionTransformerAdapter(Adapter):
    """`timm.models.vision_transformer.VisionTransformer` with `global_pool` "token" or "avg"."""

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        own = (VisionTransformer.forward, VisionTransformer.forward_features, VisionTransformer.forward_head)
        return isinstance(model, VisionTransformer) and own == (
            type(model).forward,
            type(model).forward_features,
            type(model).forward_head,
        )

    def __init__(self, model: Any) -> None:
        self.model = model
        _check(model)
        self.blocks = [PreNormBlock(block) for block in model.blocks]
        self.n_classes = model.num_classes
        self.n_prefix_tokens = model.num_prefix_tokens
        self.has_class_token = model.cls_token is not None
        reads_class_token = model.global_pool == "token"
        self.head_rows = slice(0, 1) if reads_class_token else None
        self.default_scope = "cls" if reads_class_token else "patch"

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        self._check_images(images)
        x = model.patch_drop(model._pos_embed(model.patch_embed(images)))
        return model.norm_pre(x)

    def head(self, h: Tensor) -> Tensor:
        return self.model.forward_head(self.model.norm(h))

    def _check_images(self, images: Tensor) -> None:
        patch = self.model.patch_embed
        # The first convolution sees the image: the patches' own, or that of a hybrid's backbone.
        channels = next(module.in_channels for module in patch.modules() if isinstance(module, nn.Conv2d))
        size = None if self.model.dynamic_img_size or not patch.strict_img_size else patch.img_size
        expected = f"(B, {channels}, {size[0]}, {size[1]})" if size else f"(B, {channels}, H, W)"
        fits = images.ndim == 4 and images.shape[1] == channels
        if not fits or (size is not None and tuple(images.shape[2:]) != tuple(size)):
            raise NeuronPathError(
                f"Images have shape {tuple(images.shape)}, but this model takes {expected}: resize them, or load the "
                "model with another img_size."
            )


def _check(model: Any) -> None:
    """Name the first part of the model that this family does not cover."""
    if model.attn_pool is not None or model.global_pool not in ("token", "avg"):
        pool = "map" if model.attn_pool is not None else model.global_pool
        raise NeuronPathError(f"Heads with global_pool='{pool}' are not supported. Supported: 'token' and 'avg'.")
    if model.num_classes < 2:
        raise NeuronPathError(
            f"The model's head has {model.num_classes} classes; a path drives one class against others: load the "
            "model with its classifier (num_classes >= 2)."
        )
    for index, block in enumerate(model.blocks):
        if type(block) is not TimmBlock:
            raise NeuronPathError(f"Block {index} is a {type(block).__name__}; only the pre-norm Block is supported.")
        if type(block.mlp) is not Mlp or not isinstance(block.mlp.fc2, nn.Linear):
            raise NeuronPathError(
                f"The FFN of block {index} is a {type(block.mlp).__name__}; only the two-layer Mlp is supported."
            )
