"""Names: how Google, Hugging Face, torchvision and others call a vision transformer's weights, turned into timm's.

Each converter takes and gives a mapping of names to tensors, without a model; names that it does not know stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Renaming = tuple[tuple[re.Pattern[str], str], ...]


def _renamed(name: str, renaming: Renaming) -> str:
    """The name by the first pattern that matches all of it, else as it is."""
    for pattern, new in renaming:
        if found := pattern.fullmatch(name):
            return found.expand(new)
    return name


def _compiled(prefix: str, names: Mapping[str, str]) -> Renaming:
    return tuple((re.compile(prefix + old), new) for old, new in names.items())


_BLOCK = r"Transformer/encoderblock_(\d+)/"
_GOOGLE = _compiled(
    "",
    {
        "cls": "cls_token",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
        r"embedding/(\w+)": r"patch_embed.proj.\1",
        r"Transformer/encoder_norm/(\w+)": r"norm.\1",
        r"pre_logits/(\w+)": r"pre_logits.fc.\1",
        r"head/(\w+)": r"head.\1",
        _BLOCK + r"LayerNorm_0/(\w+)": r"blocks.\1.norm1.\2",
        _BLOCK + r"LayerNorm_2/(\w+)": r"blocks.\1.norm2.\2",
        _BLOCK + r"MultiHeadDotProductAttention_1/(query|key|value)/(\w+)": r"blocks.\1.attn.\2.\3",
        _BLOCK + r"MultiHeadDotProductAttention_1/out/(\w+)": r"blocks.\1.attn.proj.\2",
        _BLOCK + r"MlpBlock_3/Dense_0/(\w+)": r"blocks.\1.mlp.fc1.\2",
        _BLOCK + r"MlpBlock_3/Dense_1/(\w+)": r"blocks.\1.mlp.fc2.\2",
    },
)
_HUGGING_FACE = _compiled(
    r"(?:(?:vit|deit|dinov2|dinov2_with_registers)\.)?",
    {
        r"embeddings\.cls_token": "cls_token",
        r"embeddings\.distillation_token": "dist_token",
        r"embeddings\.mask_token": "mask_token",
        r"embeddings\.register_tokens": "register_tokens",
        r"embeddings\.position_embeddings": "pos_embed",
        r"embeddings\.patch_embeddings\.projection\.(\w+)": r"patch_embed.proj.\1",
        r"layernorm\.(\w+)": r"norm.\1",
        r"(?:cls_)?classifier\.(\w+)": r"head.\1",
        r"distillation_classifier\.(\w+)": r"head_dist.\1",
        r"encoder\.layer\.(\d+)\.(?:layernorm_before|norm1)\.(\w+)": r"blocks.\1.norm1.\2",
        r"encoder\.layer\.(\d+)\.(?:layernorm_after|norm2)\.(\w+)": r"blocks.\1.norm2.\2",
        r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)": r"blocks.\1.attn.\2.\3",
        r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)": r"blocks.\1.attn.proj.\2",
        r"encoder\.layer\.(\d+)\.(?:intermediate\.dense|mlp\.fc1)\.(\w+)": r"blocks.\1.mlp.fc1.\2",
        r"encoder\.layer\.(\d+)\.(?:output\.dense|mlp\.fc2)\.(\w+)": r"blocks.\1.mlp.fc2.\2",
        r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(\w+)": r"blocks.\1.mlp.w12.\2",
        r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(\w+)": r"blocks.\1.mlp.w3.\2",
        r"encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1": r"blocks.\1.ls\2.gamma",
    },
)
_ENCODER = r"encoder\.layers\.encoder_layer_(\d+)\."
_TORCHVISION = _compiled(
    "",
    {
        "class_token": "cls_token",
        r"conv_proj\.(\w+)": r"patch_embed.proj.\1",
        r"encoder\.pos_embedding": "pos_embed",
        r"encoder\.ln\.(\w+)": r"norm.\1",
        r"heads\.pre_logits\.(\w+)": r"pre_logits.fc.\1",
        r"heads\.head\.(\w+)": r"head.\1",
        _ENCODER + r"ln_(\d)\.(\w+)": r"blocks.\1.norm\2.\3",
        _ENCODER + r"self_attention\.in_proj_(\w+)": r"blocks.\1.attn.qkv.\2",
        _ENCODER + r"self_attention\.out_proj\.(\w+)": r"blocks.\1.attn.proj.\2",
        _ENCODER + r"mlp\.(?:0|linear_1)\.(\w+)": r"blocks.\1.mlp.fc1.\2",
        _ENCODER + r"mlp\.(?:3|linear_2)\.(\w+)": r"blocks.\1.mlp.fc2.\2",
    },
)
_JEONSWORLD = _compiled(
    r"(?:transformer\.)?",
    {
        r"embeddings\.cls_token": "cls_token",
        r"embeddings\.position_embeddings": "pos_embed",
        r"embeddings\.patch_embeddings\.(\w+)": r"patch_embed.proj.\1",
        r"encoder\.encoder_norm\.(\w+)": r"norm.\1",
        r"encoder\.layer\.(\d+)\.attention_norm\.(\w+)": r"blocks.\1.norm1.\2",
        r"encoder\.layer\.(\d+)\.ffn_norm\.(\w+)": r"blocks.\1.norm2.\2",
        r"encoder\.layer\.(\d+)\.attn\.out\.(\w+)": r"blocks.\1.attn.proj.\2",
        r"encoder\.layer\.(\d+)\.attn\.(query|key|value)\.(\w+)": r"blocks.\1.attn.\2.\3",
        r"encoder\.layer\.(\d+)\.ffn\.(fc\d)\.(\w+)": r"blocks.\1.mlp.\2.\3",
    },
)
_LAYER = r"layer\.(\d+)\."
_DINOV3 = _compiled(
    r"(?:dinov3_vit\.)?(?:model\.)?",
    {
        r"embeddings\.cls_token": "cls_token",
        r"embeddings\.mask_token": "mask_token",
        r"embeddings\.register_tokens": "reg_token",
        r"embeddings\.patch_embeddings\.(\w+)": r"patch_embed.proj.\1",
        r"norm\.(\w+)": r"norm.\1",
        _LAYER + r"norm(\d)\.(\w+)": r"blocks.\1.norm\2.\3",
        _LAYER + r"attention\.q_proj\.(\w+)": r"blocks.\1.attn.query.\2",
        _LAYER + r"attention\.k_proj\.(\w+)": r"blocks.\1.attn.key.\2",
        _LAYER + r"attention\.v_proj\.(\w+)": r"blocks.\1.attn.value.\2",
        _LAYER + r"attention\.o_proj\.(\w+)": r"blocks.\1.attn.proj.\2",
        _LAYER + r"layer_scale(\d)\.lambda1": r"blocks.\1.gamma_\2",
        _LAYER + r"mlp\.gate_proj\.(\w+)": r"blocks.\1.mlp.fc1_g.\2",
        _LAYER + r"mlp\.up_proj\.(\w+)": r"blocks.\1.mlp.fc1.\2",
        _LAYER + r"mlp\.down_proj\.(\w+)": r"blocks.\1.mlp.fc2.\2",
    },
)


# In memory, transformers 5 calls some of a block's parts otherwise than in the files that it saves.
_IN_MEMORY = re.compile(
    r"((?:.*\.)?)(encoder\.layer|(?<!encoder\.)layers)\.(\d+)\."
    r"(attention\.[qkvo]_proj|layernorm_(?:before|after)|mlp\.fc[12]|lambda_[12])(|\..*)"
)
_SAVED = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}
_SAVED_FFN = {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}  # but DINOv2's


def as_saved(weights: Mapping[str, Tensor]) -> Weights:
    """Names as models have them in memory, in a bare state dict, turned into those of published files.

    Of transformers 5, and of Meta's training of DINOv2, which keeps blocks in chunks.
    """
    saved = {_as_saved(name): value for name, value in _unchunked(weights).items()}
    for name in [name for name in saved if _GATE.search(name)]:  # DINOv2's two halves are one layer in a file
        if (up := name.replace(".gate_proj.", ".up_proj.")) in saved and ".lora_" not in name:
            saved[name.replace(".gate_proj.", ".weights_in.")] = torch.cat([saved.pop(name), saved.pop(up)])
    return saved


_GATE = re.compile(r"encoder\.layer\.\d+\.mlp\.gate_proj\.")


_CHUNKED = re.compile(r"((?:.*\.)?blocks\.)\d+\.(\d+\..*)")


def _unchunked(weights: Mapping[str, Tensor]) -> Weights:
    """DINOv2's `blocks.CHUNK.BLOCK.…`, where all blocks are named so, without the chunk."""
    found = {name: _CHUNKED.fullmatch(name) for name in weights if re.search(r"(?:^|\.)blocks\.\d+\.", name)}
    plain = {name: match[1] + match[2] for name, match in found.items() if match is not None}
    if len(plain) < len(found) or len(set(plain.values())) < len(plain):
        return dict(weights)
    return {plain.get(name, name): value for name, value in weights.items()}


def _as_saved(name: str) -> str:
    if found := re.fullmatch(r"((?:.*\.)?encoder\.layer\.\d+\.mlp)\.down_proj(\..*)", name):
        return f"{found[1]}.weights_out{found[2]}"
    if (found := _IN_MEMORY.fullmatch(name)) is None:
        return name
    before, blocks, block, part, after = found.groups()
    known = _SAVED if blocks == "encoder.layer" else _SAVED | _SAVED_FFN
    return f"{before}encoder.layer.{block}.{known.get(part, part)}{after}"


def from_google(weights: Weights) -> Weights:
    """Google's names and axes: kernels are (in, out), convolutions (height, width, in, out), heads an axis apart."""
    return _fused({_weight_or_bias(_renamed(name, _GOOGLE)): _turned(name, value) for name, value in weights.items()})


def _weight_or_bias(name: str) -> str:
    return re.sub(r"\.(kernel|scale)$", ".weight", name)


def _turned(name: str, value: Tensor) -> Tensor:
    if re.search(r"/(query|key|value)/", name):  # (in, heads, per head), and the bias (heads, per head)
        return value.flatten(1).T if name.endswith("/kernel") else value.flatten()
    if name.endswith("/out/kernel"):  # (heads, per head, out)
        return value.flatten(0, -2).T
    if name.endswith("/kernel"):
        return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T
    return value


def from_hugging_face(weights: Weights) -> Weights:
    """Hugging Face's names; the pooler, which no classifier reads, is left out."""
    return _fused(
        {_renamed(name, _HUGGING_FACE): value for name, value in weights.items() if not _POOLER.fullmatch(name)}
    )


def from_torchvision(weights: Weights) -> Weights:
    """torchvision's names; its query, key and value are one matrix already."""
    return {_renamed(name, _TORCHVISION): value for name, value in weights.items()}


def from_jeonsworld(weights: Weights) -> Weights:
    """The names of jeonsworld's port of Google's code."""
    return _fused({_renamed(name, _JEONSWORLD): value for name, value in weights.items()})


def from_dinov3(weights: Weights) -> Weights:
    """Hugging Face's names of DINOv3 for timm's EVA, whose keys have no bias; the mask token is left out."""
    renamed = {_renamed(name, _DINOV3): value for name, value in weights.items()}
    renamed.pop("mask_token", None)
    if "reg_token" in renamed and not renamed["reg_token"].numel():
        del renamed["reg_token"]  # of no registers
    for name in [name for name in renamed if name.endswith(".mlp.fc1_g.weight")]:  # gated, so the other half is named x
        for part in ("weight", "bias"):
            other = name.replace("fc1_g.weight", f"fc1.{part}")
            if other in renamed:
                renamed[other.replace(".fc1.", ".fc1_x.")] = renamed.pop(other)
    for name in [name for name in renamed if re.fullmatch(r"blocks\.\d+\.attn\.(query|value)\.bias", name)]:
        if name.replace(".query.", ".key.").replace(".value.", ".key.") not in renamed:
            renamed[name.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias")] = renamed.pop(name)
    return _fused(renamed)


_POOLER = re.compile(r"(?:\w+\.)?pooler\.dense\.(?:weight|bias)")


def _fused(weights: Weights) -> Weights:
    """Query, key and value as timm's one matrix of each block."""
    fused = dict(weights)
    for name in weights:
        parts = [name.replace(".attn.query.", f".attn.{part}.") for part in ("query", "key", "value")]
        if ".attn.query." in name and all(part in fused for part in parts):
            fused[name.replace(".query.", ".qkv.")] = torch.cat([fused.pop(part) for part in parts])
    return fused
