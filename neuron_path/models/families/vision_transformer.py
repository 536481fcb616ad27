"""timm's `VisionTransformer`, which most of today's models are built from, with all its heads and blocks."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import vision_transformer as timm_vit
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Block, Scope, families
from neuron_path.models.blocks import Ffn, ParallelBlock, gamma_of, post_norm, pre_norm, scale


class PrefixAdapter(Adapter):
    """A model whose class and register tokens, if any, come first: its scopes by what the head reads."""

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        super().__init__(model)
        self.blocks = [self._cut(block, index) for index, block in enumerate(model.blocks)]
        reads_class_token = model.global_pool == "token" and getattr(model, "attn_pool", None) is None
        patch = Scope.patch(model.num_prefix_tokens)
        own = [Scope.cls(), patch] if reads_class_token else [patch, Scope.cls()]
        has_class_token = getattr(model, "cls_token", None) is not None or getattr(model, "has_class_token", False)
        self.scope = self._choose_scope(token_scope, *(own if has_class_token else [patch]))
        self.head_rows = slice(0, 1) if reads_class_token else None

    @abstractmethod
    def _cut(self, block: Any, index: int) -> Block:
        """A block, cut at its neurons."""


@families.register("vision_transformer")
class VisionTransformerAdapter(PrefixAdapter):
    """`timm.models.vision_transformer.VisionTransformer`, which CLIP, DINOv2, DeiT-III, SigLIP and MAE are too."""

    special = "registers, layer scale, q/k norm, parallel and gated FFNs, hybrid stems"
    modules = ("vision_transformer", "vision_transformer_hybrid", "vitamin")

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        timms, kind = timm_vit.VisionTransformer, type(model)
        parts = ("forward", "forward_features", "forward_head")
        return isinstance(model, timms) and all(getattr(kind, part) is getattr(timms, part) for part in parts)

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        x = model.patch_drop(model._pos_embed(model.patch_embed(images)))
        return model.norm_pre(x)

    def _cut(self, block: Any, index: int) -> Block:
        return cut(block, index)


def cut(block: Any, index: int) -> Block:
    """The block of whichever kind, cut at its neurons."""
    kind = type(block)
    if kind is timm_vit.Block:
        return pre_norm(block)
    if kind is timm_vit.ResPostBlock:
        return post_norm(block)
    if kind is timm_vit.ParallelThingsBlock:
        ffns = [(part.norm, Ffn(part.mlp, gamma_of(part, ""))) for part in block.ffns]
        return ParallelBlock(lambda x: torch.stack([attn(x) for attn in block.attns]).sum(0), ffns)
    if kind in (timm_vit.ParallelScalingBlock, timm_vit.DiffParallelScalingBlock):
        return ScalingBlock(block)
    raise NeuronPathError(f"Block {index} of this model is a {kind.__name__}, whose neurons are not known.")


class ScalingBlock(Block):
    """Attention and FFN side by side, both fed by ``norm(x)`` through one joint layer (ViT-22B).

    `mix` returns the stream behind attention beside the stream before it, which the FFN reads.
    """

    def __init__(self, block: Any) -> None:
        self.block = block
        self.n_neurons = block.in_split[0]
        self._is_plain = isinstance(block, timm_vit.ParallelScalingBlock)
        self._gamma = gamma_of(block, "")
        self._scale = scale(self._gamma)

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        u = x + self._scale(self._attend(x))
        both = torch.cat((u, x), dim=-1)
        return both if rows is None else both[:, rows]

    def residual(self, u: Tensor) -> Tensor:
        return u.chunk(2, dim=-1)[0]

    def activations(self, u: Tensor) -> Tensor:
        block = self.block
        y = self._read(u.chunk(2, dim=-1)[1], slice(0, self.n_neurons))
        return block.mlp_act(y if block.mlp_bias is None else y + block.mlp_bias)

    def project(self, a: Tensor) -> Tensor:
        weight, bias = self._second_layer()
        return self._scale(F.linear(a, weight, bias))

    def pullback(self, g: Tensor) -> Tensor:
        return self._scale(g) @ self._second_layer()[0]

    def columns(self, places: Tensor) -> Tensor:
        return self._scale(self._second_layer()[0].t()[places])

    def _read(self, x: Tensor, outputs: slice) -> Tensor:
        """Some outputs of the joint first layer."""
        layer = self.block.in_proj
        bias = None if layer.bias is None else layer.bias[outputs]
        return F.linear(self.block.in_norm(x), layer.weight[outputs], bias)

    def _attend(self, x: Tensor) -> Tensor:
        """What attention adds, but for the layer scale; a joint second layer's bias goes with the FFN."""
        block, n_tokens = self.block, x.shape[1]
        q, k, v = self._read(x, slice(self.n_neurons, None)).chunk(3, dim=-1)
        if self._is_plain:
            q, k, v = (part.view(len(x), n_tokens, block.num_heads, -1).transpose(1, 2) for part in (q, k, v))
            out = F.scaled_dot_product_attention(block.q_norm(q), block.k_norm(k), v)
        else:
            # Two maps of attention per head, on halves of its queries and keys; their difference is what counts.
            q, k = (part.view(len(x), n_tokens, 2 * block.num_heads, -1).transpose(1, 2) for part in (q, k))
            v = v.view(len(x), n_tokens, block.num_heads, -1).transpose(1, 2)
            (q1, q2), (k1, k2) = (part.unflatten(1, (-1, 2)).unbind(2) for part in (block.q_norm(q), block.k_norm(k)))
            attend = F.scaled_dot_product_attention
            out = attend(q1, k1, v) - block._compute_lambda().type_as(q) * attend(q2, k2, v)
            out = block.sub_norm(out) * (1 - block.lambda_init)
        out = out.transpose(1, 2).flatten(2)
        joint = getattr(block, "out_proj", None)
        return block.attn_out_proj(out) if joint is None else F.linear(out, joint.weight[:, : out.shape[-1]])

    def _second_layer(self) -> tuple[Tensor, Tensor | None]:
        block = self.block
        joint = getattr(block, "out_proj", None)
        if joint is not None:
            return joint.weight[:, -self.n_neurons :], joint.bias
        return block.mlp_out_proj.weight, block.mlp_out_proj.bias
