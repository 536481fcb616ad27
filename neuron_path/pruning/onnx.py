"""A model as an ONNX file, which runs without PyTorch."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.guard import frozen
from neuron_path.models.preprocessing import input_size
from neuron_path.store.atomic import write_bytes

_LARGEST = 2**31 - 1  # bytes of one protocol buffer


def export_onnx(model: nn.Module, file: str | os.PathLike[str]) -> Path:
    """Write a timm model as ONNX: input `images` (batch, channels, height, width), output `logits` (batch, classes).

    The batch may be of any size; height and width are those that the model was built for. Images are preprocessed as
    for the model itself.

    Args:
        model: a pruned model or any other, in float32; left exactly as it was.
        file: what to write, whole or not at all.

    Returns:
        The file.

    Raises:
        NeuronPathError: `onnx` or `onnxscript` is not installed, a model that torch cannot export or that is larger
            than 2 GB, a file that cannot be written.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise NeuronPathError(f"Exporting to ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if size > _LARGEST:
        raise NeuronPathError(f"The model's weights take {size / 1e9:.1f} GB; one ONNX file holds 2 GB at most.")
    like = next(model.parameters())
    # Two images: torch takes a size of 1 for a constant.
    images = torch.zeros(2, *input_size(model), dtype=like.dtype, device=like.device)
    try:
        with warnings.catch_warnings(), _quiet(), frozen(model), torch.no_grad():
            warnings.simplefilter("ignore")  # about torch's own workings
            program: Any = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        data = program.model_proto.SerializeToString()
    except Exception as error:  # torch's exporter raises anything
        raise NeuronPathError(f"This {type(model).__name__} cannot be exported to ONNX: {_reason(error)}.") from error
    write_bytes(file, data)
    return Path(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters log of their steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first line of what torch's own error, which tells of its steps and in colours, goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__
