"""Weights from files: read without running code, renamed as timm names them, and fitted to the last tensor."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neuron_path.models.checkpoint.fitting import fit
from neuron_path.models.checkpoint.layouts import in_timm_names
from neuron_path.models.checkpoint.reading import read


def load_checkpoint(model: nn.Module, file: str | Path, *, key: str | None = None) -> None:
    """Load a file's weights into a timm model.

    Every tensor of the model comes from the file. Position embeddings are resized to the model's image size as timm
    does it; floating-point tensors are converted to the model's type. A model without a head takes none. Where the
    layout is a library's that prepares pictures in one way, the model's `pretrained_cfg` takes that over.

    Args:
        model: a timm model; after an error it is as it was.
        file: weights in any layout of `docs/models.md`, or a folder that holds such a file.
        key: under which key of the file they lie, where it holds several models.

    Raises:
        NeuronPathError: no such file, one without weights, or one that does not fit the model.
    """
    path = Path(file).expanduser()
    put(model, read(path, key), path)


def put(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights that were read from a file into a timm model; see `load_checkpoint`."""
    named = in_timm_names(weights, model, path)
    fit(model, named.weights, path, weights)
    if named.pixels:
        timm_model: Any = model
        timm_model.pretrained_cfg = {**(getattr(model, "pretrained_cfg", None) or {}), **named.pixels}
    if named.head:
        warnings.warn(f"Checkpoint '{path}': the classifier is taken from '{named.head}'.", stacklevel=3)
    if named.left_out:
        left_out = ", ".join(named.left_out)
        warnings.warn(f"Checkpoint '{path}' holds more than the model; left out: {left_out}.", stacklevel=3)
