"""Layouts: the names that Google, Hugging Face and training wrappers give to the weights, turned into timm's.

A layout is recognised by a name that all its files have, whatever prefix a wrapper put before it. What remains is
timm's own work: its models' `checkpoint_filter_fn` knows DINOv2's, CLIP's and timm's older names and resizes the
position embeddings.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError

Weights = dict[str, Tensor]
Renaming = tuple[tuple[re.Pattern[str], str], ...]


@dataclass(frozen=True)
class Layout:
    """One way to name weights.

    Args:
        anchor: matches a name that every such file has; group 1 is a wrapper's prefix.
        convert: from its names, less the prefix, to timm's.
        resizing: how its position embeddings are resized, where not as timm does by default.
    """

    anchor: re.Pattern[str]
    convert: Callable[[Weights], Weights]
    resizing: Mapping[str, Any] = field(default_factory=dict)


def in_timm_names(weights: Weights, model: nn.Module, path: Path) -> tuple[Weights, list[str]]:
    """Rename a file's weights for a model.

    A prefix is taken off when all weights of the model but its head are found behind it, or when every name has it.

    Returns:
        The weights in timm's names, resized, and what lies beside a prefix and was left out.

    Raises:
        NeuronPathError: the model's weights are found behind several prefixes.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    layout = next((one for one in LAYOUTS if any(map(one.anchor.fullmatch, weights))), _timm(model))
    found = {match[1] for name in weights if (match := layout.anchor.fullmatch(name))}
    prefixes = sorted(found | {""}, key=lambda prefix: (len(prefix), prefix))
    views = {prefix: _view(weights, prefix, layout, model) for prefix in prefixes}
    prefix = _chosen(views, model, path)
    if prefix is None:  # it will not fit; a prefix of every name is taken off to tell why by the model's names
        prefix = [prefix for prefix in prefixes if all(name.startswith(prefix) for name in weights)][-1]
    return views[prefix], sorted({name.split(".")[0] for name in weights if not name.startswith(prefix)})


def _chosen(views: Mapping[str, Weights], model: nn.Module, path: Path) -> str | None:
    """The prefix of all weights of the model but its head; an average of them (EMA) beside it is passed over."""
    body = {name for name in model.state_dict() if not name.startswith(head_names(model))}
    complete = [prefix for prefix, view in views.items() if body <= view.keys()]
    if len(complete) > 1 and "" not in complete:
        complete = [prefix for prefix in complete if "ema" not in re.split(r"[._]", prefix)] or complete
        if len(complete) > 1:
            raise NeuronPathError(
                f"Checkpoint '{path}' holds several such models ({', '.join(complete)}): save the weights of one alone."
            )
    return complete[0] if complete else None


def head_names(model: nn.Module) -> tuple[str, ...]:
    """What the names of a model's head begin with."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    return tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))


def _view(weights: Weights, prefix: str, layout: Layout, model: nn.Module) -> Weights:
    """The weights behind a prefix, in timm's names and the model's size where timm can resize them."""
    inside = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    converted = _tried(layout.convert, inside)
    own = model.state_dict()
    if not any(name.startswith(head_names(model)) for name in own):
        unused = (*head_names(model), "pre_logits.")
        converted = {name: value for name, value in converted.items() if not name.startswith(unused)}
    patches = "patch_embed.proj.weight"
    resampled = patches in own and patches in converted and own[patches].shape[2:] != converted[patches].shape[2:]
    if (resampled and converted[patches].ndim == 4) or any("pre_logits" in name for name in converted):
        return converted  # timm would resample the patches, and drop the layer that the head reads
    adapt = _filter(model)
    takes = inspect.signature(adapt).parameters
    options = {**layout.resizing, "adapt_layer_scale": True}  # DeiT III's names; timm's models have no such ones
    return _tried(
        partial(adapt, model=model, **{key: value for key, value in options.items() if key in takes}), converted
    )


def _tried(convert: Callable[[Weights], Weights], weights: Weights) -> Weights:
    """Converted weights, or as they are where they have unforeseen shapes: what does not fit is told by name."""
    try:
        return convert(dict(weights))
    except Exception:  # a converter raises anything on another model's weights
        return weights


def _filter(model: nn.Module) -> Callable[..., Weights]:
    """The `checkpoint_filter_fn` of the timm module that defines a model, else one that changes nothing."""
    for kind in type(model).__mro__:
        found = getattr(sys.modules[kind.__module__], "checkpoint_filter_fn", None)
        if found is not None:
            return found
    return _unchanged


def _unchanged(weights: Weights, model: nn.Module) -> Weights:
    return weights


def _timm(model: nn.Module) -> Layout:
    anchor = max(model.state_dict(), key=len)
    return Layout(re.compile(rf"(.*?){re.escape(anchor)}"), dict)


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


def _from_google(weights: Weights) -> Weights:
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


def _from_hugging_face(weights: Weights) -> Weights:
    """Hugging Face's names; the pooler, which no classifier reads, is left out."""
    return _fused(
        {_renamed(name, _HUGGING_FACE): value for name, value in weights.items() if not _POOLER.fullmatch(name)}
    )


_POOLER = re.compile(r"(?:\w+\.)?pooler\.dense\.(?:weight|bias)")


def _fused(weights: Weights) -> Weights:
    """Query, key and value as timm's one matrix of each block."""
    fused = dict(weights)
    for name in weights:
        parts = [name.replace(".attn.query.", f".attn.{part}.") for part in ("query", "key", "value")]
        if ".attn.query." in name and all(part in fused for part in parts):
            fused[name.replace(".query.", ".qkv.")] = torch.cat([fused.pop(part) for part in parts])
    return fused


LAYOUTS = (
    # As timm's `load_pretrained` resizes these files.
    Layout(
        re.compile(r"(.*?)Transformer/encoderblock_0/LayerNorm_0/scale"),
        _from_google,
        {"interpolation": "bilinear", "antialias": False},
    ),
    Layout(
        re.compile(
            r"(.*?)(?:(?:vit|deit|dinov2|dinov2_with_registers)\.)?"
            r"encoder\.layer\.0\.attention\.attention\.query\.weight"
        ),
        _from_hugging_face,
    ),
)
