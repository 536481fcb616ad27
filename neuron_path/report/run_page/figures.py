"""Figures of a run as they stand in the page: pictures as data URIs, and the data behind them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuron_path.errors import NeuronPathError
from neuron_path.report.run_page.gallery import FOLDER, Entry
from neuron_path.report.run_page.packing import PER_BYTE

MOST_BYTES: Final = 3_000_000
"""What figures and their data may take in the page."""


@dataclass(frozen=True)
class Shown:
    """A figure in the page.

    Attributes:
        name: of its files in the folder `figures`.
        caption: what it shows.
        uri: its picture; empty where there was no room.
        table: the data behind it as CSV; empty where there is none or was no room.
    """

    name: str
    caption: str
    uri: str
    table: str


def show_figures(run_dir: Path, entries: Sequence[Entry], *, most_bytes: int = MOST_BYTES) -> list[Shown]:
    """Read figures, pictures first and then data, until they take what they may.

    Raises:
        NeuronPathError: when a file cannot be read.
    """
    room = float(most_bytes)
    parts: dict[tuple[str, str], bytes] = {}
    for suffix, cost in (("png", PER_BYTE), ("csv", 1.0)):
        for entry in entries:
            data = _read(run_dir / FOLDER / f"{entry.name}.{suffix}")
            if data and cost * len(data) <= room:
                parts[entry.name, suffix] = data
                room -= cost * len(data)
    return [
        Shown(
            entry.name,
            entry.caption,
            _uri(parts.get((entry.name, "png"), b"")),
            parts.get((entry.name, "csv"), b"").decode("utf-8", "replace"),
        )
        for entry in entries
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise NeuronPathError(f"Cannot read '{file}' ({error.strerror}): restore it, or remove it.") from error


def _uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}" if data else ""
