"""Weights from files: read without running code, renamed as timm names them, and fitted to the last tensor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neuron_path.models.checkpoint import by_transformers
from neuron_path.models.checkpoint.description import Description, describe
from neuron_path.models.checkpoint.fitting import fit
from neuron_path.models.checkpoint.layouts import in_timm_names
from neuron_path.models.checkpoint.lora import adapter_in, base_of, merged
from neuron_path.models.checkpoint.reading import held_by, weights_of_file


@dataclass(frozen=True)
class Checkpoint:
    """What was read of a file or folder: its weights by their own names, and what it tells of their model."""

    path: Path
    weights: dict[str, Tensor]
    description: Description


def open_checkpoint(file: str | Path, *, key: str | None = None) -> Checkpoint:
    """Read a file or folder of weights.

    Args:
        file: weights in any layout of `docs/models.md`, or a folder that holds such a file.
        key: under which key of the file they lie, where it holds several models.

    Raises:
        NeuronPathError: no such file, one without weights, or a description that cannot be read.
    """
    path = Path(file).expanduser()
    if (adapter := adapter_in(path)) is not None:
        base = base_of(adapter)
        weights = merged(adapter, open_checkpoint(base, key=key).weights)
        return Checkpoint(path, weights, describe(base, None, weights))
    held = held_by(path)
    weights = weights_of_file(held, path, key)
    return Checkpoint(path, weights, describe(path, held, weights))


def make(checkpoint: Checkpoint, options: Mapping[str, Any]) -> nn.Module:
    """The model of a checkpoint that timm lacks and transformers has, with its weights; see `by_transformers.make`."""
    model = by_transformers.make(checkpoint.path, checkpoint.description.config, checkpoint.weights, options)
    _note(model, checkpoint.description.data)
    return model


def put(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load what was read into a timm model.

    Every tensor of the model comes from the file. Position embeddings are resized to the model's image size as timm
    does it; floating-point tensors are converted to the model's type. A model without a head takes none. What the
    folder, the file or its layout tells of classes and preprocessing goes into the model's `pretrained_cfg`.

    Args:
        model: a timm model; after an error it is as it was.
        checkpoint: see `open_checkpoint`.

    Raises:
        NeuronPathError: weights that do not fit the model.
    """
    named = in_timm_names(checkpoint.weights, model, checkpoint.path)
    fit(model, named.weights, checkpoint.path, checkpoint.weights)
    _note(model, {**named.pixels, **checkpoint.description.data})
    if named.head:
        warnings.warn(f"Checkpoint '{checkpoint.path}': the classifier is taken from '{named.head}'.", stacklevel=3)
    if named.left_out:
        left_out = ", ".join(named.left_out)
        warnings.warn(f"Checkpoint '{checkpoint.path}' holds more than the model; left out: {left_out}.", stacklevel=3)


def _note(model: Any, described: Mapping[str, Any]) -> None:
    """Put what is told of classes and preprocessing where timm looks for it."""
    if described:
        model.pretrained_cfg = {**(getattr(model, "pretrained_cfg", None) or {}), **described}
