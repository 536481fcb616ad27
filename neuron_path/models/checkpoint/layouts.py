"""Layouts: which names a file gives to its weights, behind which wrapper, and which of them are the model's.

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
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.names import (
    Weights,
    from_dinov3,
    from_google,
    from_hugging_face,
    from_jeonsworld,
    from_torchvision,
)


@dataclass(frozen=True)
class Named:
    """A file's weights in timm's names and in the model's size.

    Attributes:
        weights: as the model may take them.
        left_out: what lies beside the model: first parts of names behind no prefix, and whole names.
        head: where the classifier was found, if it lay apart from the model.
        pixels: how the layout's library prepares pictures, as entries of `pretrained_cfg`.
    """

    weights: Weights
    left_out: list[str]
    head: str | None = None
    pixels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """One way to name weights.

    Args:
        anchor: matches a name that every such file has; group 1 is a wrapper's prefix.
        convert: from its names, less the prefix, to timm's.
        resizing: how its position embeddings are resized, where not as timm does by default.
        pixels: how its library prepares pictures, where the file alone says so, as entries of `pretrained_cfg`.
    """

    anchor: re.Pattern[str]
    convert: Callable[[Weights], Weights]
    resizing: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)


def layout_of(weights: Mapping[str, Tensor]) -> Layout | None:
    """The layout of a file, where it is none of timm's own."""
    return next((one for one in LAYOUTS if any(map(one.anchor.fullmatch, weights))), None)


def in_timm_names(weights: Weights, model: nn.Module, path: Path) -> Named:
    """Rename a file's weights for a model.

    A prefix is taken off when all weights of the model but its head are found behind it, or when every name has it.
    A linear head that lies apart, under a usual name, becomes the model's.

    Raises:
        NeuronPathError: the model's weights are found behind several prefixes.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    layout = layout_of(weights) or _timm(model)
    found = {match[1] for name in weights if (match := layout.anchor.fullmatch(name))}
    prefixes = sorted(found | {""}, key=lambda prefix: (len(prefix), prefix))
    views = {prefix: _view(weights, prefix, layout, model) for prefix in prefixes}
    prefix = _chosen(views, model, path)
    if prefix is None:  # it will not fit; a prefix of every name is taken off to tell why by the model's names
        prefix = [prefix for prefix in prefixes if all(name.startswith(prefix) for name in weights)][-1]
    inside, outside = views[prefix], {name: value for name, value in weights.items() if not name.startswith(prefix)}
    head = _place_head(inside, outside, model)
    own = model.state_dict()
    beside = [name for name in inside if name not in own and _is_beside(name, inside[name], model)]
    for name in beside:
        del inside[name]
    left_out = {name.split(".")[0] for name in outside} | {_BESIDE.sub(r"\1", name) for name in beside}
    return Named(inside, sorted(left_out), head, layout.pixels)


_HEADS = re.compile(r"(?:.*\.)?(?:head|heads|fc|classifier|cls_head|linear|linear_head|out|output)(?:\.(?:fc|\d+))?\.")
LIKE_A_HEAD = re.compile(r"(?:.*\.)?(?:\w*head\w*|\w*classifier\w*|\w*fc|\w*linear\w*)\.")
"""Names that are a head's in all likelihood: enough to leave them out or to tell of them, not to take them."""
# Parts that training needs, and a classifier does not read: a decoder, a masked token, a head for pretraining.
_BESIDE = re.compile(r"(decoder|decoder_\w+|mask_token|lm_head|head\.mlp|head\.last_layer)(?:\..*)?")


def _is_beside(name: str, value: Tensor, model: nn.Module) -> bool:
    """Whether something that is no weight of the model is passed over: a decoder, or a number such as the epoch."""
    is_number = value.ndim == 0 and "." not in name
    is_head = _HEADS.match(name) or LIKE_A_HEAD.match(name)
    is_unread = getattr(model, "num_classes", None) == 0 and is_head is not None and _is_apart(name, model)
    return is_number or is_unread or _BESIDE.fullmatch(name) is not None


def _is_apart(name: str, model: nn.Module) -> bool:
    """Whether a name lies in no part of a model, or in its head."""
    parts = {own.partition(".")[0] for own in model.state_dict()}
    return name.partition(".")[0] not in parts or name.startswith(head_names(model))


def _place_head(inside: Weights, outside: Weights, model: nn.Module) -> str | None:
    """Give the view the one linear head that lies apart from the model and has a usual name; where it was found.

    A model with two heads, or with none, gets none.
    """
    own = model.state_dict()
    heads = [name for name in own if name.startswith(head_names(model)) and name.endswith(".weight")]
    if len(heads) != 1 or heads[0] in inside or own[heads[0]].ndim != 2:
        return None
    found = [
        (names, name)
        for names in (inside, outside)
        for name in linear_heads(names)
        if name not in own and _is_apart(name, model) and names[name].shape[1] == own[heads[0]].shape[1]
    ]
    if len(found) != 1:
        return None
    names, name = found[0]
    for part in ("weight", "bias"):
        theirs, ours = name.replace("weight", part), heads[0].removesuffix("weight") + part
        if (value := names.pop(theirs, None)) is not None:
            inside[ours] = value
        elif part == "bias" and ours in own:
            inside[ours] = torch.zeros_like(own[ours])
    return name.removesuffix(".weight")


def linear_heads(weights: Weights) -> list[str]:
    """The weights (classes, features) that are alone under the name of a head; the layers of an MLP are not."""
    return [names[0] for names in head_layers(weights).values() if len(names) == 1]


def head_layers(weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The weights of linear layers under each name of a head, where these are all that lies there."""
    roots: dict[str, list[str]] = {}
    for name in weights:
        if found := _HEADS.match(name):
            roots.setdefault(re.sub(r"\d+\.$", "", found[0]), []).append(name)
    return {root: layers for root, names in roots.items() if (layers := _linear_layers(names, weights))}


def _linear_layers(names: list[str], weights: Mapping[str, Tensor]) -> list[str]:
    """The weights among these names, if there are linear layers alone."""
    layers = sorted(name for name in names if name.endswith("weight") and weights[name].ndim == 2)
    known = {name.removesuffix("weight") + part for name in layers for part in ("weight", "bias")}
    return layers if set(names) <= known else []


def _chosen(views: Mapping[str, Weights], model: nn.Module, path: Path) -> str | None:
    """The prefix of all weights of the model but its head; an average of them (EMA) beside it is passed over."""
    body = {name for name in model.state_dict() if not name.startswith(head_names(model))}
    complete = [prefix for prefix, view in views.items() if body <= view.keys()]
    if len(complete) > 1 and "" not in complete:
        complete = [prefix for prefix in complete if "ema" not in re.split(r"[._]", prefix)] or complete
        if len(complete) > 1:
            key = complete[-1].rstrip(".")
            raise NeuronPathError(
                f"Checkpoint '{path}' holds several such models ({', '.join(complete)}): choose one with "
                f"model.checkpoint_key={key} (checkpoint_key='{key}' in Python)."
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
    _fit_tokens_and_biases(converted, own)
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


def _fit_tokens_and_biases(weights: Weights, own: Mapping[str, Tensor]) -> None:
    """Two ways of timm to make one model: DeiT's second token without a head, and biases that are zero or not there."""
    if "dist_token" in weights and "dist_token" not in own and "reg_token" in own:
        weights["reg_token"] = weights.pop("dist_token")
    for name in [name for name in weights if name.endswith((".q_bias", ".v_bias"))]:
        if name not in own and not weights[name].any():
            del weights[name]


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


LAYOUTS = (
    # As timm's `load_pretrained` resizes these files.
    Layout(
        re.compile(r"(.*?)Transformer/encoderblock_0/LayerNorm_0/scale"),
        from_google,
        {"interpolation": "bilinear", "antialias": False},
    ),
    # transformers resizes DINOv2's in every forward pass, without antialiasing.
    Layout(
        re.compile(r"(.*?)(?:(?:dinov2|dinov2_with_registers)\.)?encoder\.layer\.0\.layer_scale1\.lambda1"),
        from_hugging_face,
        {"antialias": False},
    ),
    Layout(
        re.compile(r"(.*?)(?:(?:vit|deit)\.)?encoder\.layer\.0\.attention\.attention\.query\.weight"),
        from_hugging_face,
    ),
    Layout(
        re.compile(r"(.*?)(?:dinov3_vit\.)?(?:model\.)?layer\.0\.attention\.q_proj\.weight"),
        from_dinov3,
    ),
    Layout(
        re.compile(r"(.*?)(?:transformer\.)?encoder\.layer\.0\.attn\.query\.weight"),
        from_jeonsworld,
    ),
    # What torchvision's own weights say, and what most who train with torchvision do.
    Layout(
        re.compile(r"(.*?)encoder\.layers\.encoder_layer_0\.ln_1\.weight"),
        from_torchvision,
        pixels={
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
        },
    ),
)
