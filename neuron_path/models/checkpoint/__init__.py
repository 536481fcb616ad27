"""Weights from files: read without running code, renamed as timm names them, and fitted to the last tensor."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from neuron_path.models.checkpoint.fitting import fit
from neuron_path.models.checkpoint.layouts import in_timm_names
from neuron_path.models.checkpoint.reading import read


def load_checkpoint(model: nn.Module, file: str | Path) -> None:
    """Load a file's weights into a timm model.

    Every tensor of the model comes from the file. Position embeddings are resized to the model's image size as timm
    does it; floating-point tensors are converted to the model's type. A model without a head takes none.

    Args:
        model: a timm model; after an error it is as it was.
        file: weights in any layout of `docs/how-to/load-a-checkpoint.md`, or a folder that holds such a file.

    Raises:
        NeuronPathError: no such file, one that is not tensors alone, or one that does not fit the model.
    """
    path = Path(file).expanduser()
    weights, left_out = in_timm_names(read(path), model, path)
    fit(model, weights, path)
    if left_out:
        warnings.warn(f"Checkpoint '{path}' holds more than the model; left out: {', '.join(left_out)}.", stacklevel=3)
