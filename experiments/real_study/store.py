"""What was measured, a file for each cell, whole or absent."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_bytes, write_json

_MEMBER = re.compile(r"study\.json|probe\.safetensors|[a-z]+/[a-z_.]+-\d+-(?P<chunk>\d{3})\.npz")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, order=True)
class Cell:
    """A measurement of one chunk of images.

    Attributes:
        kind: what is measured.
        method: of which method, or of which change of the images; empty where it is of none.
        k: neurons a block; 0 where the size plays no part.
        chunk: of which images.
    """

    kind: str
    method: str
    k: int
    chunk: int

    @property
    def file(self) -> Path:
        """Relative to the study's folder."""
        return Path(self.kind) / f"{self.method or 'all'}-{self.k}-{self.chunk:03d}.npz"


class Store:
    """The cells of a study in a folder.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Write down what the numbers depend on, or see that it is as it was.

        Raises:
            NeuronPathError: the folder holds another study.
        """
        file = self.folder / "study.json"
        if not file.exists():
            write_json(file, dict(identity))
        elif differing := [name for name, value in self.identity.items() if identity.get(name) != value]:
            name = differing[0]
            raise NeuronPathError(
                f"'{self.folder}' holds a study with another {name} ({self.identity[name]}, now {identity.get(name)}): "
                "choose another folder with out=DIR, or the same settings."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What was written down.

        Raises:
            NeuronPathError: no study is there.
        """
        file = self.folder / "study.json"
        if not file.exists():
            raise NeuronPathError(f"'{self.folder}' holds no study: run it with compute=true first.")
        return json.loads(file.read_bytes())

    def has(self, cell: Cell) -> bool:
        """Whether it was measured."""
        return (self.folder / cell.file).exists()

    def read(self, cell: Cell) -> Arrays:
        """What was measured."""
        with np.load(self.folder / cell.file) as arrays:
            return dict(arrays)

    def put(self, cell: Cell, compute: Callable[[], Arrays]) -> Arrays:
        """Measure it where that was not done, and keep it with the seconds that it took."""
        if self.has(cell):
            return self.read(cell)
        began = time.perf_counter(), time.process_time()
        arrays = compute()
        seconds = np.array([time.perf_counter() - began[0], time.process_time() - began[1]])
        buffer = io.BytesIO()
        named: Any = arrays | {"seconds": seconds}
        np.savez_compressed(buffer, **named)
        write_bytes(self.folder / cell.file, buffer.getvalue())
        return arrays

    def pack(self, folder: str | Path) -> None:
        """Write an archive for each chunk and one of what they share; without the ratings, which are large."""
        members: dict[str, list[Path]] = {}
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if (found := _MEMBER.fullmatch(name)) and not name.startswith("ratings/"):
                members.setdefault(f"chunk-{found['chunk']}" if found["chunk"] else "study", []).append(file)
        for name, files in members.items():
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for file in files:  # without dates: equal cells make equal archives
                    archive.writestr(zipfile.ZipInfo(file.relative_to(self.folder).as_posix()), file.read_bytes())
            write_bytes(Path(folder) / f"{name}.zip", buffer.getvalue())

    def unpack(self, folder: str | Path) -> None:
        """Take over what `pack` has written and what is not here yet.

        Raises:
            NeuronPathError: there are no archives, or they are of another study.
        """
        try:
            study = zipfile.ZipFile(Path(folder) / "study.zip").read("study.json")
        except (OSError, KeyError, zipfile.BadZipFile):
            raise NeuronPathError(
                f"'{folder}' holds no cells of a study: give the folder 'cells' beside its tables."
            ) from None
        self.claim(json.loads(study))
        for file in sorted(Path(folder).glob("*.zip")):
            with zipfile.ZipFile(file) as archive:
                for name in filter(_MEMBER.fullmatch, archive.namelist()):
                    if not (self.folder / name).exists():
                        write_bytes(self.folder / name, archive.read(name))

    def cells(self, kind: str) -> list[Cell]:
        """All of a kind, in order."""
        found = []
        for file in (self.folder / kind).glob("*.npz"):
            name, k, chunk = file.stem.rsplit("-", 2)
            found.append(Cell(kind, "" if name == "all" else name, int(k), int(chunk)))
        return sorted(found)
