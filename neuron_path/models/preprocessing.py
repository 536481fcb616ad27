"""The preprocessing a model was trained with, as timm records it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name

INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest")


def image_transform(
    model: nn.Module, overrides: Mapping[str, Any] | None = None
) -> tuple[Callable[[Image.Image], Tensor], dict[str, Any]]:
    """The transform from a picture to the model's input, and a description of it that JSON can hold.

    Args:
        model: a timm model; its `pretrained_cfg` says size, crop, interpolation, mean and standard deviation.
        overrides: any of `mean`, `std` (per channel, of pixels in [0, 1]), `crop_pct`, `interpolation`; None values
            leave the model's own.

    Raises:
        NeuronPathError: a mean or standard deviation with another number of channels than the model's, a standard
            deviation or crop out of range, an unknown interpolation.
    """
    config: dict[str, Any] = resolve_model_data_config(model)
    # The size follows from the model that was built, which may differ from the one its weights were made for.
    patch_embed = getattr(model, "patch_embed", None)
    size = getattr(patch_embed, "img_size", None)
    channels = getattr(model, "in_chans", None) or config["input_size"][0]
    if size is not None:
        config["input_size"] = (channels, *size)
    config |= {name: value for name, value in (overrides or {}).items() if value is not None}
    channels = config["input_size"][0]
    _check(config, channels)
    transform = create_transform(
        input_size=config["input_size"],
        is_training=False,
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"],
        crop_mode=config.get("crop_mode"),
    )
    mode = "L" if channels == 1 else "RGB"

    def apply(picture: Image.Image) -> Tensor:
        return transform(picture.convert(mode))  # pyright: ignore[reportReturnType, reportCallIssue, reportArgumentType]

    names = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
    described = {name: config[name] for name in names if name in config}
    return apply, {name: list(value) if isinstance(value, tuple) else value for name, value in described.items()}


def _check(config: Mapping[str, Any], channels: int) -> None:
    for name in ("mean", "std"):
        if len(config[name]) != channels:
            raise NeuronPathError(
                f"Preprocessing has {len(config[name])} value(s) of {name}, but the model takes {channels} channel(s): "
                f"set data.{name} to a list of {channels}."
            )
    if min(config["std"]) <= 0:
        raise NeuronPathError(f"data.std is {list(config['std'])}; expected numbers above 0.")
    if not 0 < config["crop_pct"] <= 1:
        raise NeuronPathError(
            f"data.crop_pct is {config['crop_pct']}; expected a share of the picture, above 0 up to 1."
        )
    if config["interpolation"] not in INTERPOLATIONS:
        raise unknown_name("interpolation (data.interpolation)", config["interpolation"], INTERPOLATIONS)
