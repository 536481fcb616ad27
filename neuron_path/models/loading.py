"""Loading: which model, the embedded one or any of timm's, and where its weights come from."""

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
from safetensors import safe_open
from timm.models import VisionTransformer
from torch import nn

from neuron_path.errors import NeuronPathError, nearest
from neuron_path.models.adapter import check_supported
from neuron_path.models.checkpoint import load_checkpoint

EMBEDDED = "digits_vit"


def load_model(
    name: str = EMBEDDED, *, checkpoint: str | Path | None = None, pretrained: bool = False, **timm_kwargs: Any
) -> nn.Module:
    """Load a vision transformer, frozen and in eval mode.

    Args:
        name: `digits_vit`, the embedded 12-block ViT trained on handwritten digits, or any timm model name.
        checkpoint: a file of weights for that architecture: Google's `.npz`, `.safetensors` or a PyTorch file, in
            timm's, MAE's, Hugging Face's or Lightning's layout. Files that hold other Python objects are refused.
        pretrained: fetch timm's own weights from the model hub, unless there is a checkpoint.
        **timm_kwargs: passed on to `timm.create_model` (`num_classes`, `img_size`, …).

    Raises:
        NeuronPathError: no such model or file, a model that is not supported, a file that does not fit the
            architecture or is not only tensors, weights that cannot be fetched.

    >>> model = load_model("digits_vit")
    >>> len(model.blocks), model.training
    (12, False)
    """
    if name == EMBEDDED:
        model = _embedded(checkpoint is None, timm_kwargs)
    else:
        fetched = pretrained and checkpoint is None
        model = _from_timm(name, fetched, timm_kwargs)
        check_supported(model)
        if not fetched and checkpoint is None:
            warnings.warn(
                f"The weights of '{name}' are random. For trained ones give model.checkpoint=FILE or "
                "model.pretrained=true on the command line (checkpoint=FILE or pretrained=True in Python).",
                stacklevel=2,
            )
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
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
            load_checkpoint(model, file)
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
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        ArithmeticError,
        ImportError,
        TypeError,
        AssertionError,
    ) as error:
        from_a_hub = ":" in name and isinstance(error, OSError)  # even its configuration
        if isinstance(error, TypeError) or not (pretrained or from_a_hub):
            raise _unmakeable(name, timm_kwargs, error) from error
        what = "pretrained weights" if pretrained else "configuration"
        raise NeuronPathError(
            f"Could not fetch the {what} of '{name}' ({_line(error)}). Check the name and the network, or "
            "give a model of timm and a file with checkpoint=FILE."
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


def _line(error: Exception) -> str:
    """An outside error's first line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
