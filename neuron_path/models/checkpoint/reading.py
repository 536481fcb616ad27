"""Reading: files to names and tensors, by formats and loaders that run no code a file may hold."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neuron_path.errors import NeuronPathError

INDEX = ".index.json"
IN_A_FOLDER = (
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)
AVERAGED = ("state_dict_ema", "model_ema")
WRAPPERS = (*AVERAGED, "state_dict", "model", "module")  # where training scripts keep the weights; timm's order


def read(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a file, or of the weights' file in a folder.

    Raises:
        NeuronPathError: no such file, or one that holds anything but dense, real tensors by name.
    """
    held = _unwrapped(_held(_file(path)), path)
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise NeuronPathError(f"Checkpoint '{path}' is no state dict: expected a mapping of names to tensors.")
    for name, tensor in held.items():
        if tensor.is_quantized or tensor.is_complex() or tensor.layout != torch.strided or tensor.is_meta:
            raise NeuronPathError(
                f"Checkpoint '{path}' is not supported: '{name}' is quantised, complex, sparse or without data; "
                "expected dense real numbers."
            )
    return {str(name): tensor.detach() for name, tensor in held.items()}


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise NeuronPathError(
            f"No checkpoint file '{path}': expected a .safetensors or PyTorch file of weights, or Google's .npz."
        )
    for name in IN_A_FOLDER:
        if (path / name).is_file():
            return path / name
    raise NeuronPathError(f"No checkpoint file in '{path}': looked for {', '.join(IN_A_FOLDER)}. Give the file itself.")


def _held(file: Path) -> Any:
    """What a file holds, before it is known to be weights."""
    reader = next((reader for suffix, reader in READERS.items() if file.name.lower().endswith(suffix)), _pytorch)
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


def _pytorch(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are refused anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is no file of tensors makes the restricted unpickler raise anything
        found = _foreign(file)
        holds = f" (it holds {', '.join(found[:3])}{', …' if len(found) > 3 else ''})" if found else ""
        raise NeuronPathError(
            f"Checkpoint '{file}' is refused: it is no PyTorch file of tensors alone{holds}, and other Python objects "
            "could run code. Save the model's state_dict, best as .safetensors."
        ) from error


def _foreign(file: Path) -> list[str]:
    """The Python objects that make the restricted unpickler refuse a file; it is scanned, not unpickled."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    except Exception:  # damaged, or in the format before PyTorch 1.6
        return []


READERS: dict[str, Callable[[Path], Any]] = {INDEX: _shards, ".safetensors": _safetensors, ".npz": _npz}


def _unwrapped(held: Any, path: Path) -> Any:
    """The weights themselves, out of what a training script saved with them."""
    for _ in range(3):
        key = next((key for key in WRAPPERS if isinstance(held, dict) and isinstance(held.get(key), dict)), None)
        if key is None:
            break
        if key in AVERAGED:
            warnings.warn(f"Checkpoint '{path}': the averaged weights are taken ('{key}').", stacklevel=2)
        held = held[key]
    return held
