"""What lies beside a pruned model's weights: JSON that says how to make the model again."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import KINDS
from neuron_path.store.atomic import write_json
from neuron_path.store.reader import read_json

PRUNED = "pruned"
"""The name that a configuration gives to a model from such a directory."""
DESCRIPTION_FILE = "pruned.json"
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.bfloat16)} | {
    "float16": torch.float16
}
_FORMAT = "neuron-path pruned model"
_VERSION = 2


@dataclass(frozen=True)
class PrunedDescription:
    """What a directory of a pruned model says of it.

    Attributes:
        name: the architecture it was cut from, as `neuron_path.load_model` takes it.
        kwargs: timm's arguments for it.
        widths: for each token scope, for each of its blocks, the neurons left in each of the block's FFNs (one, or
            several side by side).
        dtype: of the weights, as "float32".
        weights_sha256: of the file of weights.
        classes: class names by index; empty where they are not known.
        heads: for each block, the attention heads left in it; empty where none is pruned.
        head: what its classifier is beside a linear layer of the features; see `LinearHead`: some of KINDS.
        preprocessing: input size, interpolation, mean, standard deviation and crop.
        provenance: what made it, with the `weight_hash`.
    """

    name: str
    kwargs: dict[str, Any]
    widths: dict[str, list[list[int]]]
    dtype: str
    weights_sha256: str
    classes: list[str] = field(default_factory=list)
    heads: list[list[int]] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def write_description(directory: str | os.PathLike[str], description: PrunedDescription) -> None:
    """Write the description into a directory, whole or not at all.

    Raises:
        NeuronPathError: it cannot be written.
    """
    held = asdict(description)
    version = _VERSION if description.heads else 1  # the first one knows no heads
    if not description.heads:
        del held["heads"]
    write_json(Path(directory) / DESCRIPTION_FILE, {"format": _FORMAT, "version": version} | held)


def read_pruned(directory: str | os.PathLike[str]) -> PrunedDescription:
    """What a directory says of its pruned model, without reading the weights.

    Raises:
        NeuronPathError: no such directory, or one without a description of a pruned model that this version reads.
    """
    path = Path(directory)
    if not path.is_dir():
        raise NeuronPathError(f"There is no directory '{path}': give the one that a pruned model was saved in.")
    file = path / DESCRIPTION_FILE
    held = read_json(file)
    if held.get("format") != _FORMAT:
        found = f"no {DESCRIPTION_FILE}" if not held else f"a {DESCRIPTION_FILE} of another program"
        raise NeuronPathError(f"'{path}' holds {found}: give a directory that a pruned model was saved in.")
    if held.get("version") not in (1, _VERSION):
        raise NeuronPathError(
            f"'{file}' has version {held.get('version')!r} of its format, but this neuron-path reads {_VERSION}: "
            "update it, or save the model again."
        )
    for name in ("head", "heads"):
        held.setdefault(name, [])  # older ones have none
    values = {one.name: held.get(one.name) for one in fields(PrunedDescription)}
    wrong = [name for name, value in values.items() if not _FITS[name](value)]
    if wrong:
        raise NeuronPathError(f"'{file}' is damaged: {', '.join(wrong)} missing or of another kind; save it again.")
    return PrunedDescription(**values)  # pyright: ignore[reportArgumentType]


def _are_counts(blocks: Any) -> bool:
    return (
        isinstance(blocks, list)
        and all(isinstance(parts, list) for parts in blocks)
        and all(type(n) is int and n >= 0 for parts in blocks for n in parts)
    )


def _are_widths(value: Any) -> bool:
    return isinstance(value, dict) and set(value) <= {"patch", "cls"} and all(map(_are_counts, value.values()))


_FITS = {
    "name": lambda value: isinstance(value, str) and bool(value),
    "kwargs": lambda value: isinstance(value, dict),
    "widths": _are_widths,
    "heads": _are_counts,
    "dtype": lambda value: isinstance(value, str) and value in DTYPES,
    "weights_sha256": lambda value: isinstance(value, str),
    "classes": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "head": lambda value: isinstance(value, list) and all(kind in KINDS for kind in value),
    "preprocessing": lambda value: isinstance(value, dict),
    "provenance": lambda value: isinstance(value, dict),
}
