"""Loading: the embedded model, any timm model by name, and checkpoint files that never run code."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import VisionTransformer
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError, nearest

EMBEDDED = "digits_vit"
_WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the weights


def load_model(
    name: str = EMBEDDED, *, checkpoint: str | Path | None = None, pretrained: bool = False, **timm_kwargs: Any
) -> nn.Module:
    """Load a vision transformer, frozen and in eval mode.

    Args:
        name: `digits_vit`, the embedded 12-block ViT trained on handwritten digits, or any timm model name.
        checkpoint: a file of weights for that architecture: `.safetensors`, or a PyTorch file of tensors (a state dict,
            also under the key `state_dict` or `model`). Files that hold other Python objects are refused.
        pretrained: fetch timm's own weights from the model hub.
        **timm_kwargs: passed on to `timm.create_model` (`num_classes`, `img_size`, …).

    Raises:
        NeuronPathError: no such model or file, a file that does not fit the architecture or is not only tensors,
            weights that cannot be fetched.

    >>> model = load_model("digits_vit")
    >>> len(model.blocks), model.training
    (12, False)
    """
    if name == EMBEDDED:
        model = _embedded(checkpoint is None, timm_kwargs)
    else:
        model = _from_timm(name, pretrained, timm_kwargs)
        if not pretrained and checkpoint is None:
            warnings.warn(
                f"The weights of '{name}' are random: give checkpoint=FILE or pretrained=True for trained ones.",
                stacklevel=2,
            )
    if checkpoint is not None:
        _load_weights(model, Path(checkpoint).expanduser())
    return model.eval().requires_grad_(False)


def _embedded(with_weights: bool, overrides: Mapping[str, Any]) -> nn.Module:
    with resources.as_file(resources.files("neuron_path.models") / "weights" / f"{EMBEDDED}.safetensors") as file:
        with safe_open(file, "pt") as weights:
            metadata = weights.metadata()
        try:
            model: Any = VisionTransformer(**(json.loads(metadata["architecture"]) | dict(overrides)))
        except (TypeError, ValueError, AssertionError) as error:
            raise _unmakeable(EMBEDDED, overrides, error) from error
        if with_weights:
            _load_weights(model, file)
    made = json.loads(metadata["preprocessing"])
    model.pretrained_cfg = {
        "input_size": (made["channels"], *made["size"]),
        "mean": (made["mean"],) * made["channels"],
        "std": (made["std"],) * made["channels"],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    return model


def _from_timm(name: str, pretrained: bool, timm_kwargs: Mapping[str, Any]) -> nn.Module:
    if ":" not in name and not timm.is_model(name.split(".", maxsplit=1)[0]):
        raise NeuronPathError(
            f"No model is named '{name}'.{nearest(name, [EMBEDDED, *timm.list_models()])} Known: {EMBEDDED} and "
            "timm's models, which timm.list_models() lists."
        )
    try:
        with _hushed("timm", "huggingface_hub"):  # five retries on a lost network are one error
            return timm.create_model(name, pretrained=pretrained, **timm_kwargs)
    except (OSError, RuntimeError, ValueError, ImportError, TypeError, AssertionError) as error:
        if not pretrained or isinstance(error, TypeError):
            raise _unmakeable(name, timm_kwargs, error) from error
        raise NeuronPathError(
            f"Could not fetch the pretrained weights of '{name}' ({_line(error)}). Check the name and the network, or "
            "give a file with checkpoint=FILE."
        ) from error


def _unmakeable(name: str, options: Mapping[str, Any], error: Exception) -> NeuronPathError:
    given = f" with {dict(options)}" if options else ""
    return NeuronPathError(f"The model '{name}' cannot be made{given}: {_line(error)}")


@contextmanager
def _hushed(*loggers: str) -> Iterator[None]:
    levels = {logger: logging.getLogger(logger).level for logger in loggers}
    for logger in loggers:
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logging.getLogger(logger).setLevel(level)


def _load_weights(model: nn.Module, file: Path) -> None:
    """Load a file's weights; every key and shape must fit."""
    weights = _read(file)
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    reshaped = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    ]
    problems = [
        f"{len(found)} {kind} ({', '.join(sorted(found)[:3])}{', …' if len(found) > 3 else ''})"
        for kind, found in (("missing", missing), ("unknown", unexpected), ("of another shape", reshaped))
        if found
    ]
    if problems:
        advice = ""
        if not missing and not unexpected and all(name.startswith("head.") for name in reshaped):
            n_classes = weights["head.bias"].shape[0] if "head.bias" in weights else weights["head.weight"].shape[0]
            advice = f" Only the classes differ: give num_classes={n_classes} (+model.kwargs.num_classes={n_classes})."
        raise NeuronPathError(f"Checkpoint '{file}' does not fit the model: {'; '.join(problems)}.{advice}")
    model.load_state_dict(weights)


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise NeuronPathError(f"No checkpoint file '{file}': expected a .safetensors or PyTorch file of weights.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
    except (OSError, SafetensorError) as error:
        raise NeuronPathError(f"Checkpoint '{file}' is no safetensors file that can be read: {_line(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are refused anyway
            held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise NeuronPathError(f"Checkpoint '{file}' cannot be read: {_line(error)}") from error
    except Exception as error:  # what is no file of tensors makes the restricted unpickler raise anything
        raise NeuronPathError(
            f"Checkpoint '{file}' is refused: it is no PyTorch file of tensors alone, and other Python objects could "
            "run code. Save the model's state_dict, best as .safetensors."
        ) from error
    for key in _WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise NeuronPathError(f"Checkpoint '{file}' is no state dict: expected a mapping of names to tensors.")
    return held


def _line(error: Exception) -> str:
    """An outside error's first line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
