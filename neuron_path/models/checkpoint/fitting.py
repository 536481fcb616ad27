"""Fitting: a file's weights into a model, or one readable line on what does not fit and what to give instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.layouts import LIKE_A_HEAD, head_layers, head_names

State = Mapping[str, Tensor]


def fit(model: nn.Module, weights: State, path: Path, file: State | None = None) -> None:
    """Load weights into a model; every name, shape and kind of number must fit.

    Args:
        model: takes the weights.
        weights: in its names.
        path: of the file, for messages.
        file: everything in it by its own names, where these are others.

    Raises:
        NeuronPathError: something does not; the model is as it was.
    """
    own = model.state_dict()
    problems = _problems(own, weights)
    if problems:
        messages = [
            f"Checkpoint '{path}' does not fit the model: {'; '.join(problems)}.",
            *_advice(model, own, weights, file or weights, path),
        ]
        raise NeuronPathError(" ".join(messages))
    model.load_state_dict(weights)


def _problems(own: State, weights: State) -> list[str]:
    common = sorted(own.keys() & weights.keys())
    kinds = {
        "missing": sorted(own.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
            for name in common
            if weights[name].shape != own[name].shape
        ],
        "of another type": [
            f"{name} is {weights[name].dtype}, expected {own[name].dtype}"
            for name in common
            if weights[name].is_floating_point() != own[name].is_floating_point()
        ],
    }
    messages = [
        f"{len(found)} {kind} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for kind, found in kinds.items()
        if found
    ]
    if any(weights[name].dtype in (torch.int8, torch.uint8) and own[name].is_floating_point() for name in common):
        messages.append("its weights are quantised: dequantise them where that was done, and save them as floats")
    return messages


def _advice(model: nn.Module, own: State, weights: State, file: State, path: Path) -> list[str]:
    """What to give instead: another model when less than half fits, else the options that differ."""
    fitting = sum(name in weights and weights[name].shape == own[name].shape for name in own)
    if 2 * fitting < len(own):
        looks = f"It looks like a checkpoint of another model{_kind(weights)}: {fitting} of {len(own)} weights fit."
        return list(filter(None, [looks, _size_advice(own, weights), _name_advice(weights)]))
    heads = head_names(model)
    messages = [
        _size_advice(own, weights),
        _patch_advice(own, weights),
        _pooling_advice(own, weights),
        _representation_advice(weights) or _class_advice(own, weights, heads, file, path),
    ]
    return list(filter(None, messages))


def _kind(weights: State) -> str:
    if any(name.endswith("running_mean") for name in weights):
        return " (a convolutional network)"
    if any("relative_position_bias_table" in name and "layers." in name for name in weights):
        return " (a Swin transformer)"
    return ""


def _size_advice(own: State, weights: State) -> str:
    found, expected = _size(weights), _size(own)
    if found is None or expected is None or found == expected:
        return ""
    return f"The file's width and depth are {found[0]} and {found[1]}, the model's {expected[0]} and {expected[1]}."


def _size(state: State) -> tuple[int, int] | None:
    """Width and depth of a plain vision transformer."""
    blocks = [int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))]
    norm = state.get("blocks.0.norm1.weight")
    return None if norm is None else (norm.numel(), max(blocks) + 1)


# The plain vision transformers by their width and depth; the number of heads is in no file of weights.
_KNOWN = {
    (192, 12): "vit_tiny_patch{}_224",
    (384, 12): "vit_small_patch{}_224",
    (768, 12): "vit_base_patch{}_224",
    (1024, 24): "vit_large_patch{}_224",
    (1280, 32): "vit_huge_patch{}_224",
}


def _name_advice(weights: State) -> str:
    """The timm model that a plain vision transformer's weights may be of."""
    size, patches = _size(weights), weights.get("patch_embed.proj.weight")
    if size is None or patches is None or patches.ndim != 4:
        return ""
    if size not in _KNOWN:
        given = {"embed_dim": size[0], "depth": size[1], "num_heads": "N", "patch_size": patches.shape[-1]}
        options = " ".join(f"+model.kwargs.{name}={value}" for name, value in given.items())
        return (
            "If it is a plain vision transformer, give model=timm model.name=vit_base_patch16_224 and its sizes, "
            f"{options} +model.kwargs.img_size=SIZE, with N attention heads."
        )
    name = _KNOWN[size].format(patches.shape[-1])
    return f"If it has this size's usual number of heads, give model=timm model.name={name} ('{name}' in Python)."


def _class_advice(own: State, weights: State, heads: tuple[str, ...], file: State, path: Path) -> str:
    found, expected = _n_classes(weights, heads), _n_classes(own, heads)
    if found is None:
        return _head_advice(own, file, path)
    width = next((own[name].shape[-1] for head in heads if (name := f"{head}weight") in own), None)
    theirs = next((weights[name].shape[-1] for head in heads if (name := f"{head}weight") in weights), None)
    if width is not None and theirs == 2 * width:
        return (
            "The file's classifier reads two vectors side by side, as DINOv2's do (class token and mean of the patch "
            f"tokens), which timm's models do not: give {_option('num_classes', 0)}, and fit another with "
            "head=linear_probe head.root=DIR."
        )
    return "" if found == expected else f"The file has {found} classes: give {_option('num_classes', found)}."


def _head_advice(own: State, file: State, path: Path) -> str:
    """What to do about a head that is not there, or not under a name that is known."""
    without = _option("num_classes", 0)
    layers = [name for names in head_layers(file).values() for name in names]
    layers = [name for name in layers if name not in own]
    if not layers:
        parts = sorted(name for name in file if name not in own and LIKE_A_HEAD.match(name))
        if not parts:
            return f"The file has no head: give {without}."
        named = ", ".join(parts[:4]) + (", …" if len(parts) > 4 else "")
        roots = {name.rpartition(".")[0] for name in parts}
        if len(roots) == 1 and getattr(file.get(f"{(root := roots.pop())}.weight"), "ndim", 0) == 2:
            return f"If '{root}' is the classifier, give {without} and head=file head.path={path} head.key={root}."
        return (
            f"The file's head is no linear layer under a usual name ({named}): give {without}, and in Python make it a "
            "module with these weights, model.head = torch.nn.Sequential(…); or fit another with head=linear_probe "
            "head.root=DIR."
        )
    if len(layers) > 1 and len(head_layers(file)) == 1:
        return (
            f"The file's head is an MLP ({', '.join(layers)}), and its activation is in no file: give {without}, and "
            "in Python make it a module with these weights, model.head = torch.nn.Sequential(…); or fit another with "
            "head=linear_probe head.root=DIR."
        )
    roots = [name.removesuffix(".weight") for name in layers]
    return (
        f"The classifier is not where it is looked for, but there is {', '.join(roots)}: give {without} and "
        f"head=file {shlex.quote(f'head.path={path}')} head.key={roots[0]}."
    )


def _n_classes(state: State, heads: tuple[str, ...]) -> int | None:
    found = (state[name] for head in heads if (name := f"{head}weight") in state)
    return next((len(weight) for weight in found if weight.ndim > 0), None)


def _representation_advice(weights: State) -> str:
    if not any("pre_logits" in name for name in weights):
        return ""
    return (
        "The file's head reads a layer that timm's models lack (pre_logits), so its classes cannot be told: give "
        f"{_option('num_classes', 0)} for the rest."
    )


def _pooling_advice(own: State, weights: State) -> str:
    if "fc_norm.weight" in weights and "norm.weight" in own:
        return f"The file is for a head on the average of the tokens: give {_option('global_pool', 'avg')}."
    if "norm.weight" in weights and "fc_norm.weight" in own:
        return f"The file is for a head on the class token: give {_option('global_pool', 'token')}."
    return ""


def _patch_advice(own: State, weights: State) -> str:
    name = "patch_embed.proj.weight"
    if name not in own or name not in weights or own[name].ndim != 4 or weights[name].ndim != 4:
        return ""
    (_, found_channels, *found), (_, channels, *expected) = weights[name].shape, own[name].shape
    messages = []
    if found_channels != channels:
        messages.append(f"The file is for {found_channels} channels: give {_option('in_chans', found_channels)}.")
    if found != expected:
        messages.append(f"The file is for patches of {found[0]} pixels: give {_option('patch_size', found[0])}.")
    return " ".join(messages)


def _option(name: str, value: object) -> str:
    """An option as Python and as the command line spell it."""
    return f"{name}={value!r} (+model.kwargs.{name}={value})"
