"""Reading: files to names and tensors, by formats and loaders that run no code a file may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.containers import chosen
from neuron_path.models.checkpoint.names import as_saved
from neuron_path.models.checkpoint.pickles import read_pytorch

INDEX = ".index.json"
IN_A_FOLDER = (
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)


_SUFFIXES = (".bin", ".ckpt", ".npz", ".pt", ".pth", ".safetensors", ".tar")
# What other programs write, and what it is called.
_FOREIGN = {
    ".gguf": "GGUF",
    ".h5": "Keras",
    ".keras": "Keras",
    ".msgpack": "Flax",
    ".onnx": "ONNX",
    ".pt2": "torch.export",
    ".tflite": "TensorFlow Lite",
}


def read(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a file, or of the weights' file in a folder.

    Args:
        path: of the file or the folder.
        key: under which of a file's keys they lie; None: found by the usual names.

    Raises:
        NeuronPathError: no such file, one without dense, real tensors by name, or with several such sets of them.
    """
    return weights_of_file(held_by(path), path, key)


def held_by(path: Path) -> Any:
    """All that a file holds, or the weights' file in a folder, with stand-ins for objects that are not read.

    Raises:
        NeuronPathError: no such file, a damaged one, or one that asks for what could run code.
    """
    return _held(_file(path))


def weights_of_file(held: Any, path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The weights among what `held_by` has read.

    Raises:
        NeuronPathError: none there, several, or some that are not dense real numbers.
    """
    weights = chosen(held, path, key)
    for name, tensor in weights.items():
        if tensor.is_quantized or tensor.is_complex() or tensor.layout != torch.strided or tensor.is_meta:
            raise NeuronPathError(
                f"Checkpoint '{path}' is not supported: '{name}' is quantised, complex, sparse or without data; "
                "expected dense real numbers."
            )
    return as_saved({name: tensor.detach() for name, tensor in weights.items()})


def _distributed(folder: Path) -> NeuronPathError:
    return NeuronPathError(
        f"Checkpoint '{folder}' is in shards of torch.distributed.checkpoint (.distcp), as FSDP saves it: make one "
        'file of them, python -c "from torch.distributed.checkpoint.format_utils import dcp_to_torch_save; '
        f"dcp_to_torch_save('{folder}', 'model.pt')\", and give that."
    )


def _file(path: Path) -> Path:
    if path.suffix == ".distcp":
        raise _distributed(path.parent)
    if path.is_file():
        return path
    if not path.is_dir():
        raise NeuronPathError(
            f"No checkpoint file '{path}': expected a .safetensors or PyTorch file of weights, or Google's .npz."
        )
    for name in IN_A_FOLDER:
        if (path / name).is_file():
            return path / name
    if any(path.glob("*.distcp")):
        raise _distributed(path)
    inner = sorted(file.parent.name for name in IN_A_FOLDER for file in path.glob(f"*/{name}"))
    others = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
    there = f" There is one in {', '.join(inner[-3:])}, a folder inside." if inner else " Give the file itself."
    if others and not inner:
        there = f" Give the file itself, one of {', '.join(others[:3])}{', …' if len(others) > 3 else ''}."
    raise NeuronPathError(f"No checkpoint file in '{path}': looked for {', '.join(IN_A_FOLDER)}.{there}")


def _held(file: Path) -> Any:
    """What a file holds, before it is known to be weights."""
    if (program := _FOREIGN.get(file.suffix.lower())) is not None:
        raise NeuronPathError(
            f"Checkpoint '{file}' is a file of {program}, which is not read: save the weights in PyTorch, "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), and give that."
        )
    reader = next((reader for suffix, reader in READERS.items() if file.name.lower().endswith(suffix)), read_pytorch)
    try:
        return reader(file)
    except OSError as error:
        raise NeuronPathError(f"Checkpoint '{file}' is not readable: {error.strerror or 'it is damaged'}.") from error


def _shards(index: Path) -> dict[str, Tensor]:
    """The files that a Hugging Face index lists, which lie beside it."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NeuronPathError(
            f"Checkpoint '{index}' is no index of weights: expected a 'weight_map' of names to files."
        ) from error
    weights: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name or name.endswith(INDEX):
            raise NeuronPathError(f"Checkpoint '{index}' is refused: it lists '{name}', which is no file beside it.")
        weights |= read(index.with_name(name))
    return weights


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise NeuronPathError(
            f"Checkpoint '{file}' is no safetensors file that can be read: {str(error).rstrip('.')}."
        ) from error


def _npz(file: Path) -> dict[str, Tensor]:
    entry = "the file"
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise NeuronPathError(f"Checkpoint '{file}' is no .npz archive but one bare array.")
            weights = {}
            for name in archive.files:
                entry = f"'{name}'"
                weights[name] = torch.from_numpy(archive[name])
            return weights
    except (OSError, NeuronPathError):
        raise
    except Exception as error:  # a damaged archive makes numpy and zipfile raise anything
        if "Object arrays" in str(error):
            raise NeuronPathError(
                f"Checkpoint '{file}' is refused: {entry} holds Python objects, which could run code; expected numbers."
            ) from error
        raise NeuronPathError(
            f"Checkpoint '{file}' is no .npz archive of numbers, or it is damaged: {entry} cannot be read."
        ) from error


READERS: dict[str, Callable[[Path], Any]] = {INDEX: _shards, ".safetensors": _safetensors, ".npz": _npz}
