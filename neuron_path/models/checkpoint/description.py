"""Descriptions: what a folder or a file tells beside its weights: the architecture, the classes, the pictures."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint import by_transformers, huggingface
from neuron_path.models.checkpoint.huggingface import Unknown, crop_share
from neuron_path.models.checkpoint.layouts import layout_of
from neuron_path.models.checkpoint.names import from_torchvision
from neuron_path.models.checkpoint.pickles import arguments_of
from neuron_path.models.checkpoint.reading import IN_A_FOLDER

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
# What makes timm read or fetch weights: a description that asks for it is not followed.
NO_ARGUMENTS = ("name", "checkpoint", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")


@dataclass(frozen=True)
class Description:
    """What is known of a checkpoint's model but its weights.

    Attributes:
        architecture: a timm model; None where it is not told, or not known.
        kwargs: its arguments, of JSON's types.
        folder: of timm, which reads these arguments there itself.
        lacking: an argument that is told nowhere, and must be given.
        data: entries of `pretrained_cfg`: classes (`label_names`) and preprocessing.
        is_certain: whether it belongs to these weights, as a folder's does; the arguments in a training script's file
            may be of a model that was changed afterwards.
        why_not: why the architecture is not known, though it is told.
        config: `config.json` of a model that timm lacks and transformers has; see `by_transformers`.
    """

    architecture: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    is_certain: bool = False
    why_not: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    lacking: str | None = None


def describe(path: Path, held: Any, weights: Mapping[str, Tensor]) -> Description:
    """Read what lies beside the weights, in their folder or in their file.

    Args:
        path: of the folder or the file.
        held: all that the file holds.
        weights: the weights in it, by their own names.

    Raises:
        NeuronPathError: a folder's JSON that cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    if (path.is_dir() or path.name in IN_A_FOLDER) and (folder / CONFIG).is_file():
        config = _json(folder / CONFIG)
        if "architecture" in config:
            return _of_timm_folder(folder, config)
        if "model_type" in config:
            return _of_hugging_face(folder, config, weights)
        return Description()
    arguments = arguments_of(held.get("args")) if isinstance(held, Mapping) else {}
    return _of_arguments(arguments) or _of_torchvision(weights, arguments) or Description()


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NeuronPathError(f"'{file}' cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise NeuronPathError(f"'{file}' is no description of a model: expected a JSON object.")
    return found


def _of_timm_folder(folder: Path, config: Mapping[str, Any]) -> Description:
    """As timm's `save_for_hf` writes it; timm itself reads its `config.json` (`local-dir:`)."""
    arguments, prepared = (config.get(name, {}) for name in ("model_args", "pretrained_cfg"))
    if not isinstance(arguments, dict) or not isinstance(prepared, dict):
        raise NeuronPathError(
            f"'{folder / CONFIG}' is no description by timm: expected objects as model_args and pretrained_cfg."
        )
    if asked := [name for name in NO_ARGUMENTS if name in arguments]:
        raise NeuronPathError(
            f"'{folder / CONFIG}' is refused: model_args holds '{asked[0]}', which loads other files."
        )
    architecture = str(config["architecture"])
    if not timm.is_model(architecture):
        return Description(is_certain=True, why_not=f"timm {timm.__version__} has no model '{architecture}'")
    return Description(architecture, _described(prepared) | arguments, is_certain=True, folder=folder)


def _described(prepared: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that timm takes from a `pretrained_cfg`."""
    found = {name: prepared.get(name) for name in ("num_classes", "global_pool")}
    if isinstance(size := prepared.get("input_size"), list) and size:
        found |= {"in_chans": size[0]} | ({"img_size": size[1:]} if prepared.get("fixed_input_size") else {})
    return {name: value for name, value in found.items() if value is not None}


def _of_hugging_face(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Description:
    kind, channels = config["model_type"], config.get("num_channels", 3)
    names, settings = huggingface.label_names(config), _preprocessor(folder)
    data: dict[str, Any] = {**({"label_names": names} if names else {}), **_prepared(folder, settings)}
    size = data.pop("input_size", None)
    try:
        architecture, kwargs = huggingface.timm_arguments(config, weights)
    except Unknown as why:
        if kind not in by_transformers.KNOWN or "auto_map" in config:
            return Description(None, {}, data, is_certain=True, why_not=str(why))
        architecture, kwargs = None, {}
    if settings is None:
        how = f"as timm does it for '{architecture}'" if architecture else "with ImageNet's mean and deviation"
        warnings.warn(
            f"'{folder}' holds no {PREPROCESSOR}, so pictures are prepared {how}. Save the image processor beside the "
            "model, or set data.mean and data.std.",
            stacklevel=2,
        )
    is_resizing = kind in by_transformers.RESIZING
    if architecture is None:
        resized = {"input_size": (channels, *size)} if size is not None and is_resizing else {}
        return Description(None, {}, data | resized, is_certain=True, config=config)
    return Description(
        architecture, kwargs | ({"img_size": size} if size is not None and is_resizing else {}), data, is_certain=True
    )


def _prepared(folder: Path, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """How pictures are prepared, as far as it is told and known."""
    try:
        return {} if settings is None else huggingface.pixels(settings)
    except Unknown as why:
        warnings.warn(
            f"'{folder}' says how pictures are prepared, but {why}: they are prepared as for timm's model. Set "
            "data.mean, data.std, data.crop_pct, data.crop_mode and data.interpolation.",
            stacklevel=2,
        )
        return {}


def _preprocessor(folder: Path) -> dict[str, Any] | None:
    if (folder / PREPROCESSOR).is_file():
        return _json(folder / PREPROCESSOR)
    if (folder / PROCESSOR).is_file():
        found = _json(folder / PROCESSOR).get("image_processor")
        return found if isinstance(found, dict) else None
    return None


_MAE = re.compile(r"vit_(?:base|large|huge)_patch1[46]")


def _of_arguments(arguments: Mapping[str, Any]) -> Description | None:
    """The arguments of timm's `train.py`, of DeiT's `main.py` and of MAE's `main_finetune.py`."""
    name = arguments.get("model")
    if not isinstance(name, str):
        return None
    if "nb_classes" in arguments and _MAE.fullmatch(name):
        return _of_mae(name, arguments)
    if not timm.is_model(name.partition(".")[0]):
        return None
    size = arguments.get("img_size") or arguments.get("input_size")
    given = {
        "num_classes": arguments.get("num_classes") or arguments.get("nb_classes"),
        "img_size": size[-1] if isinstance(size, list | tuple) and size else size,
        "in_chans": arguments.get("in_chans"),
        "global_pool": arguments.get("gp"),
        **{key: value for key, value in (arguments.get("model_kwargs") or {}).items() if key not in NO_ARGUMENTS},
    }
    data = {key: arguments.get(key) for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode")}
    return Description(
        name,
        {key: value for key, value in given.items() if value is not None},
        {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if value},
    )


def _of_mae(name: str, arguments: Mapping[str, Any]) -> Description:
    size = int(arguments.get("input_size") or 224)
    kwargs = {
        "num_classes": int(arguments["nb_classes"]),
        "img_size": size,
        "global_pool": "avg" if arguments.get("global_pool", True) else "token",
    }
    data = {
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "interpolation": "bicubic",
        "crop_pct": 0.875 if size <= 224 else 1.0,
    }
    return Description(f"{name}_224.mae", kwargs, data)


_TORCHVISION_HEADS = {768: 12, 1024: 16, 1280: 16}  # of its models by their width


def _of_torchvision(weights: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Description | None:
    """Of torchvision's names: all but the number of heads, which its own models have by their width.

    Its training script, `references/classification/train.py`, keeps its arguments beside the weights.
    """
    layout = layout_of(weights)
    if layout is None or layout.convert is not from_torchvision:
        return None
    anchor = next(match for name in weights if (match := layout.anchor.fullmatch(name)))
    inside = {name.removeprefix(anchor[1]): value for name, value in weights.items() if name.startswith(anchor[1])}
    named = from_torchvision(inside)
    patches, positions = named.get("patch_embed.proj.weight"), named.get("pos_embed")
    hidden = named.get("blocks.0.mlp.fc1.weight")
    if patches is None or positions is None or hidden is None or patches.ndim != 4 or positions.ndim != 3:
        return None
    width, channels, patch = patches.shape[0], patches.shape[1], patches.shape[2]
    head = named.get("head.weight")
    kwargs: dict[str, Any] = {
        "img_size": patch * round((positions.shape[1] - 1) ** 0.5),
        "patch_size": patch,
        "in_chans": channels,
        "num_classes": 0 if head is None else len(head),
        "embed_dim": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in named if name.startswith("blocks.")),
    }
    if len(hidden) != 4 * width:
        kwargs["mlp_ratio"] = (len(hidden) + 0.25) / width  # timm rounds down
    heads = _TORCHVISION_HEADS.get(width) if len(hidden) == 4 * width else None
    pixels = {**layout.pixels, **_torchvision_pixels(arguments)}
    if heads is None:
        return Description("vit_base_patch16_224", kwargs, pixels, lacking="num_heads")
    return Description("vit_base_patch16_224", kwargs | {"num_heads": heads}, pixels)


def _torchvision_pixels(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How torchvision's training script prepares pictures to validate on."""
    scaled, crop = arguments.get("val_resize_size"), arguments.get("val_crop_size")
    found = {"interpolation": arguments["interpolation"]} if isinstance(arguments.get("interpolation"), str) else {}
    if type(scaled) is int and type(crop) is int and 0 < crop <= scaled:
        found["crop_pct"] = crop_share(crop, scaled)
    return found
