"""The preprocessing a model was trained with, as timm records it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.pixels import ORIENTATIONS, read_pixels

INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest")
CROP_MODES = ("border", "center", "squash")
"""`center` keeps the aspect ratio and cuts what is too long, `border` pads what is too short, `squash` keeps all and
bends the aspect ratio; with `crop_pct` 1 it is a plain resize."""
_NARROW = 1000  # a picture of so many times the height is resized to hundreds of megabytes before it is cut


@dataclass(frozen=True)
class ImageTransform:
    """From a picture, as `PIL.Image.open` gives it, to a model's input (c, H, W).

    Attributes:
        channels: c.
        orientation: one of `neuron_path.models.pixels.ORIENTATIONS`.
        shaping: how it resizes and crops, as timm names it.
        whole: what is done to a picture of mode L or RGB.
        by_band: where to resize and cut each of several bands.
        mean, std: of each channel, of pixels in [0, 1].
    """

    channels: int
    orientation: str
    shaping: Mapping[str, Any]
    whole: Callable[[Image.Image], Tensor]
    by_band: Sequence[Callable[[Image.Image], Tensor]]
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, picture: Image.Image) -> Tensor:
        return self.prepare(self.decode(picture))

    def decode(self, picture: Image.Image) -> list[Image.Image]:
        """The picture's pixels; see `read_pixels`, also for what it raises."""
        _check_shape(picture.size, self.shaping)
        return read_pixels(picture, self.channels, self.orientation)

    def prepare(self, images: Sequence[Image.Image]) -> Tensor:
        """The model's input from what `decode` has returned."""
        if len(images) == 1 and images[0].mode in ("L", "RGB"):
            return self.whole(images[0])
        bands = [made(image) for made, image in zip(self.by_band, images, strict=True)]
        pixels = torch.cat(bands).float().clamp(0, 255) / 255  # bicubic interpolation of floats overshoots
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


def image_transform(
    model: nn.Module, overrides: Mapping[str, Any] | None = None
) -> tuple[ImageTransform, dict[str, Any]]:
    """The transform from a picture to the model's input, and a description of it that JSON can hold.

    Args:
        model: a timm model; its `pretrained_cfg` says size, crop, interpolation, mean and standard deviation.
        overrides: any of `mean`, `std` (per channel, of pixels in [0, 1]), `crop_pct`, `crop_mode` (`center`, `border`
            or `squash`), `interpolation`, `orientation` (`exif` or `stored`); None values leave the model's own, and
            follow EXIF.

    Raises:
        NeuronPathError: a mean or standard deviation with another number of channels than the model's, a standard
            deviation or crop out of range, an unknown crop mode, interpolation or orientation.
    """
    config: dict[str, Any] = resolve_model_data_config(model)
    config["input_size"] = input_size(model)
    config["orientation"] = (getattr(model, "pretrained_cfg", None) or {}).get("orientation") or "exif"
    config |= {name: value for name, value in (overrides or {}).items() if value is not None}
    channels = config["input_size"][0]
    _check(config, channels)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    shaping = {name: config[name] for name in ("input_size", "interpolation", "crop_pct", "crop_mode")}
    whole: Any = create_transform(is_training=False, mean=mean, std=std, **shaping)
    by_band: Any = [
        create_transform(is_training=False, mean=(one,), std=(1.0,), normalize=False, **shaping) for one in mean
    ]
    names = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode", "orientation")
    described = {name: config[name] for name in names if name in config}
    transform = ImageTransform(channels, config["orientation"], shaping, whole, by_band, mean, std)
    return transform, {name: list(value) if isinstance(value, tuple) else value for name, value in described.items()}


def _check_shape(size: tuple[int, int], shaping: Mapping[str, Any]) -> None:
    """Raise a NeuronPathError for a picture so narrow that resizing leaves nothing of it, or fills the memory."""
    most = min(shaping["input_size"][1:]) if shaping["crop_mode"] == "border" else _NARROW
    if shaping["crop_mode"] != "squash" and max(size) > most * min(size):
        raise NeuronPathError(
            f"it is {size[0]} × {size[1]} pixels, and one side may be {most} times the other at most: cut it, or "
            "data.crop_mode=squash takes it whole"
        )


def input_size(model: nn.Module) -> tuple[int, int, int]:
    """(channels, height, width) of the images that a timm model takes.

    They follow from the model as it was built, which may differ from what its weights were made for; a model that
    keeps no size takes any, and gets the one that its `pretrained_cfg` names.

    >>> import timm
    >>> input_size(timm.create_model("test_vit", img_size=(96, 128), in_chans=1))
    (1, 96, 128)
    """
    channels, height, width = resolve_model_data_config(model)["input_size"]
    height, width = _built_size(model) or (height, width)
    return _built_channels(model) or channels, height, width


def _built_size(model: Any) -> tuple[int, int] | None:
    """The size that the model's position embedding was made for, under the names that timm's families give it."""
    for part, name in (("patch_embed", "img_size"), ("pixel_embed", "img_size"), ("embeds", "default_img_size")):
        size = getattr(getattr(model, part, None), name, None)
        if size is not None:
            return size[0], size[1]
    grid, stride = (list(getattr(model, name, ())) for name in ("tokens_spatial_shape", "patch_stride"))  # Hiera
    return (grid[0] * stride[0], grid[1] * stride[1]) if len(grid) == len(stride) == 2 else None


def _built_channels(model: Any) -> int | None:
    own = getattr(model, "in_chans", None) or getattr(getattr(model, "embeds", None), "in_chans", None)
    # Else the first convolution sees the image: the patches' own, or that of a hybrid's backbone.
    return own or next((part.in_channels for part in model.modules() if isinstance(part, nn.Conv2d)), None)


def _check(config: Mapping[str, Any], channels: int) -> None:
    for name in ("mean", "std"):
        if len(config[name]) != channels:
            raise NeuronPathError(
                f"Preprocessing has {len(config[name])} value(s) of {name}, but the model takes {channels} channel(s): "
                f"set data.{name} to a list of {channels}, as in 'data.{name}=[{','.join(['0.5'] * channels)}]'."
            )
    if min(config["std"]) <= 0:
        raise NeuronPathError(f"data.std is {list(config['std'])}; expected numbers above 0.")
    if not 0 < config["crop_pct"] <= 1:
        raise NeuronPathError(
            f"data.crop_pct is {config['crop_pct']}; expected a share of the picture, above 0 up to 1."
        )
    if config["interpolation"] not in INTERPOLATIONS:
        raise unknown_name("interpolation (data.interpolation)", config["interpolation"], INTERPOLATIONS)
    if config["crop_mode"] not in CROP_MODES:
        raise unknown_name("crop mode (data.crop_mode)", config["crop_mode"], CROP_MODES)
    if config["orientation"] not in ORIENTATIONS:
        raise unknown_name("orientation of pictures (data.orientation)", config["orientation"], ORIENTATIONS)
