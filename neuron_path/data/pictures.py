"""What all data sets of pictures have in common: any file or bytes as a picture, or as a named problem."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from neuron_path.data.labels import Classes
from neuron_path.data.part import choose_part
from neuron_path.errors import NeuronPathError

ON_ERROR = ("raise", "skip")
CHECKED = 1000
"""Pictures whose headers are looked at before a run; the others are found out when their turn comes."""

COMPARED = 8
"""Pictures whose content tells whether a run's images are still the same."""


class PictureItem(TypedDict):
    """One picture; `image` is None, and `problem` says why, where it cannot be decoded."""

    image: Tensor | None
    label: int | None
    sample_id: str
    problem: str | None


class PictureDataset(Dataset[PictureItem]):
    """Pictures with stable names, whatever keeps them.

    Args:
        transform: from a picture to the model's input.
        preprocessing: what the transform does, in values that JSON can hold.

    Attributes:
        sample_ids, labels: of the pictures taken.
        classes: class names by index; empty where there are no labels.
        is_indexed: whether labels are the model's class indices by the data's own word; see `Classes`.
        preprocessing: as given.
    """

    sample_ids: list[str]
    labels: list[int | None]
    classes: list[str]
    is_indexed: bool

    def __init__(self, transform: Callable[[Image.Image], Tensor], preprocessing: Mapping[str, Any]) -> None:
        self.preprocessing = dict(preprocessing)
        self._transform = transform

    @abstractmethod
    def _source(self, index: int) -> Path | BinaryIO:
        """Where the bytes of a picture are; an OSError or ValueError says why there are none."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, index: int) -> PictureItem:
        name, label = self.sample_ids[index], self.labels[index]
        picture = self._open(index, decode=True)
        if isinstance(picture, str):
            return PictureItem(image=None, label=label, sample_id=name, problem=picture)
        return PictureItem(image=self._transform(picture), label=label, sample_id=name, problem=None)

    def check(self) -> None:
        """Raise a NeuronPathError that names the first file which is no picture, by headers alone.

        Of more than `CHECKED` pictures so many are looked at, spread evenly: a start must not wait for a million files.
        """
        n_checked = min(len(self), CHECKED)
        for index in np.arange(n_checked) * len(self) // n_checked:
            problem = self._open(int(index), decode=False)
            if isinstance(problem, str):
                raise unreadable(self.sample_ids[index], problem)

    def content(self) -> dict[str, str]:
        """A digest of the bytes of a few pictures, spread evenly, by name; what cannot be read is left out."""
        n = min(len(self), COMPARED)
        places = [int(place) for place in np.arange(n) * len(self) // n]
        return {
            self.sample_ids[place]: hashlib.sha256(_bytes(self._source(place))).hexdigest()[:16]
            for place in places
            if not isinstance(self._open(place, decode=True), str)
        }

    def _open(self, index: int, *, decode: bool) -> Image.Image | str:
        """A picture, or why there is none."""
        try:
            with Image.open(self._source(index)) as picture:
                if decode:
                    picture.load()
                return picture
        except UnidentifiedImageError:
            return "its format is not known"
        except Exception as error:  # damaged files make the decoders raise anything
            return " ".join(str(error).split()) or type(error).__name__

    def _take(
        self,
        names: Sequence[str],
        keys: Sequence[str | None],
        classes: Classes,
        *,
        only: Sequence[str | int] | None,
        limit: int | None,
        where: str,
    ) -> list[int]:
        """Fill `sample_ids`, `labels` and `classes` with the part that is asked for, and return its places."""
        labels = [None if key is None else classes.index[key] for key in keys]
        chosen = None if only is None else [classes.name_of(str(name)) for name in only]
        part = choose_part(labels, classes.names, only=chosen, limit=limit)
        if not part:
            raise NeuronPathError(f"{where} holds no picture of the classes {list(only or [])}.")
        self.classes, self.is_indexed = list(classes.names), classes.is_indexed
        self.sample_ids = [names[place] for place in part]
        self.labels = [labels[place] for place in part]
        return part


def _bytes(source: Path | BinaryIO) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source.read()


def unreadable(name: str, reason: str) -> NeuronPathError:
    """The error for a file that is no picture."""
    return NeuronPathError(
        f"File '{name}' is no image that can be read ({reason}): mend or remove it, or set data.on_error=skip."
    )
