"""Hugging Face's folders: what `config.json` says of the architecture and the classes, and `preprocessor_config.json`
of the pictures, as timm calls it.

These are JSON and are read as such. Code of their own (`auto_map`) is neither fetched nor run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

Settings = Mapping[str, Any]

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL's, by its numbers
MODEL_TYPES = ("vit", "vit_mae", "vit_msn", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit")


class Unknown(Exception):
    """A setting that timm's models do not have."""


def timm_arguments(config: Settings, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The timm model of an architecture, and its arguments.

    Args:
        config: of `config.json`.
        weights: by Hugging Face's names; they tell which heads and tokens there are.

    Raises:
        Unknown: an architecture or setting that is not known here.
    """
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise Unknown(f"its model_type is '{kind}', and known are {', '.join(MODEL_TYPES)}")
    if "auto_map" in config:
        raise Unknown("it names code of its own (auto_map), which is not run")
    try:
        return _MAKERS.get(str(kind), _vit)(config, weights)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Unknown(f"a setting is missing or no number ({' '.join(str(error).split())})") from error


def label_names(config: Settings) -> tuple[str, ...]:
    """The names of the classes by index; none where they have only numbers, as `LABEL_0`.

    >>> label_names({"id2label": {"0": "dog", "1": "cat"}}), label_names({"id2label": {"0": "LABEL_0"}})
    (('dog', 'cat'), ())
    """
    names = config.get("id2label")
    if not isinstance(names, Mapping) or {str(key) for key in names} != {str(place) for place in range(len(names))}:
        return ()
    found = {int(key): str(name) for key, name in names.items()}
    ordered = tuple(found[place] for place in range(len(found)))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in ordered) else ordered


def n_classes(weights: Mapping[str, Tensor]) -> int:
    """How many classes the classifier has among weights by Hugging Face's names; 0 where there is none."""
    head = re.compile(r"(?:.*\.)?(?:cls_)?classifier\.weight")
    return next((len(value) for key, value in weights.items() if head.fullmatch(key) and value.ndim == 2), 0)


def pixels(settings: Settings) -> dict[str, Any]:
    """How pictures are prepared, as entries of timm's `pretrained_cfg`, `input_size` without its channels.

    An image processor computes ``(rescale_factor · x − image_mean) / image_std`` of x in 0 … 255, and timm
    ``(x − mean) / std`` of x in 0 … 1.

    Args:
        settings: of `preprocessor_config.json`.

    Raises:
        Unknown: a step that timm's transforms do not have.
    """
    for step in ("do_flip_channel_order", "do_thumbnail", "do_pan_and_scan", "do_align_long_axis"):
        if settings.get(step):
            raise Unknown(f"{step} is not known")
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "ViT")
    try:
        scale = 255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
        scale = 1.0 if abs(scale - 1) < 1e-6 else scale
        normalizes = settings.get("do_normalize", True)
        mean = _three(settings["image_mean"]) if normalizes else [0.0] * 3
        std = _three(settings["image_std"]) if normalizes else [1.0] * 3
        resample = int(settings.get("resample", 2 if kind.startswith("ViT") else 3))
        found = {
            "mean": tuple(value / scale for value in mean),
            "std": tuple(value / scale for value in std),
            "interpolation": _INTERPOLATIONS[resample],
            **_crop(settings, squashes=kind.startswith(("ViT", "DeiT", "Siglip", "Beit"))),
        }
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise Unknown(f"a setting is missing or no number ({' '.join(str(error).split())})") from error
    return found


def _three(values: Any) -> list[float]:
    """A number for each channel, also where one stands for all."""
    found = [float(value) for value in values] if isinstance(values, Sequence) else [float(values)] * 3
    if not found:
        raise ValueError("no channels")
    return found


def _crop(settings: Settings, *, squashes: bool) -> dict[str, Any]:
    """How the picture is brought to its size: by its shorter edge, or both edges alone (`squash`), then cut."""
    size: Any = settings.get("size", 224)
    if not isinstance(size, Mapping):
        size = {"height": size, "width": size} if squashes else {"shortest_edge": size}
    if "shortest_edge" in size and "longest_edge" not in size:
        scaled, mode = (int(size["shortest_edge"]),) * 2, "center"
    elif "height" in size and "width" in size:
        scaled, mode = (int(size["height"]), int(size["width"])), "squash"
    else:
        raise Unknown(f"the size {dict(size)} is not known")
    crop = scaled
    if settings.get("do_center_crop", "crop_size" in settings):
        given: Any = settings.get("crop_size", scaled[0])
        crop = (int(given["height"]), int(given["width"])) if isinstance(given, Mapping) else (int(given),) * 2
    share = crop_share(crop[0], scaled[0])
    if mode == "center" and crop == scaled and settings.get("crop_pct"):
        share = float(settings["crop_pct"])
    if abs(crop[1] / scaled[1] - crop[0] / scaled[0]) > 1e-6 or share > 1:
        raise Unknown(f"a crop of {crop} out of {scaled} is not known")
    return {"input_size": crop, "crop_pct": share, "crop_mode": mode}


def crop_share(crop: int, scaled: int) -> float:
    """The `crop_pct` by which timm scales a picture to so many pixels before it cuts so many out of them."""
    share = crop / scaled
    return math.nextafter(share, 0) if math.floor(crop / share) < scaled else share  # timm rounds down


def _common(config: Settings, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What all plain vision transformers are made of."""
    size, width = config["image_size"], int(config["hidden_size"])
    return {
        "img_size": tuple(size) if isinstance(size, Sequence) else int(size),
        "patch_size": int(config["patch_size"]),
        "in_chans": int(config.get("num_channels", 3)),
        "num_classes": n_classes(weights),
        "embed_dim": width,
        "depth": int(config["num_hidden_layers"]),
        "num_heads": int(config["num_attention_heads"]),
        "layer_norm_eps": float(config.get("layer_norm_eps", 1e-12)),
    }


def _vit(config: Settings, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    made = _common(config, weights) | {
        "mlp_ratio": _ratio(config["intermediate_size"], config),
        "qkv_bias": bool(config.get("qkv_bias", True)),
        "act_layer": _activation(config),
    }
    return "vit_base_patch16_224", made


def _deit(config: Settings, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """With two heads as timm's; with one, the second token is a register, but for its place in the embedding."""
    name, made = _vit(config, weights)
    if any(key.endswith("distillation_classifier.weight") for key in weights):
        return "deit_base_distilled_patch16_224", made
    if any(key.endswith("distillation_token") for key in weights):
        made |= {"reg_tokens": 1, "no_embed_class": False}
    return name, made


def _dinov2(config: Settings, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    made = _common(config, weights) | {"qkv_bias": bool(config.get("qkv_bias", True)), "init_values": 1.0}
    if any(
        key.endswith("classifier.weight") and value.shape[-1] != made["embed_dim"] for key, value in weights.items()
    ):
        raise Unknown("its classifier reads the class token and the mean of the patches, side by side")
    registers = int(config.get("num_register_tokens", 0)) if config["model_type"] != "dinov2" else 0
    if registers:
        made |= {"reg_tokens": registers, "no_embed_class": True}
    if config.get("use_swiglu_ffn"):
        rows = next(len(value) for key, value in weights.items() if key.endswith("mlp.weights_in.weight"))
        return "vit_giant_patch14_dinov2", made | {"mlp_ratio": _ratio(rows, config)}
    hidden = int(int(config["hidden_size"]) * float(config.get("mlp_ratio", 4)))
    made |= {"mlp_ratio": _ratio(hidden, config), "act_layer": _activation(config)}
    return "vit_base_patch14_dinov2", made


def _dinov3(config: Settings, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    gated = bool(config.get("use_gated_mlp"))
    if config.get("hidden_act", "gelu") != ("silu" if gated else "gelu"):
        raise Unknown(f"the activation '{config.get('hidden_act')}' is not known here")
    rope = config.get("rope_parameters") or {}
    made = _common(config, weights) | {
        "layer_norm_eps": float(config.get("layer_norm_eps", 1e-5)),
        "mlp_ratio": _ratio(config["intermediate_size"], config),
        "num_reg_tokens": int(config.get("num_register_tokens", 0)),
        "rope_temperature": float(config.get("rope_theta", rope.get("rope_theta", 100.0))),
        "global_pool": "token",
    }
    if gated:
        made |= {"swiglu_mlp": True, "swiglu_align_to": 1}
    return "vit_small_patch16_dinov3_qkvb", made


_MAKERS = {"deit": _deit, "dinov2": _dinov2, "dinov2_with_registers": _dinov2, "dinov3_vit": _dinov3}


def _ratio(hidden: Any, config: Settings) -> float:
    """Of an FFN's width to the model's, such that timm's rounding down gives the width."""
    return (int(hidden) + 0.25) / int(config["hidden_size"])


def _activation(config: Settings) -> str:
    found = config.get("hidden_act", "gelu")
    if found not in _ACTIVATIONS:
        raise Unknown(f"the activation '{found}' is not known here")
    return _ACTIVATIONS[found]
