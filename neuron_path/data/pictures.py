"""What all data sets of pictures have in common: any file or bytes as a picture, or as a named problem."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from neuron_path.data.labels import Classes
from neuron_path.data.part import choose_part
from neuron_path.data.unknown import why_unknown
from neuron_path.errors import NeuronPathError

ON_ERROR = ("raise", "skip")
# fmt: off
ENDINGS = frozenset([
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "hif", "icb", "ico", "im", "j2c", "j2k", "jfif", "jp2",
    "jpc", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "mpo", "pbm", "pcx", "pfm", "pgm", "png", "pnm", "ppm",
    "psd", "qoi", "ras", "rgb", "rgba", "sgi", "tga", "tif", "tiff", "webp", "xbm", "xpm",
])
# fmt: on
"""What follows the last dot in a picture's name, in lower case; some are read only with a plug-in of Pillow's."""
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
        transform: from a picture to the model's input. One with methods `decode` and `prepare`, as
            `neuron_path.models.preprocessing.ImageTransform`, does it in two steps, the first of which may refuse a
            picture; of any other a picture is loaded before.
        preprocessing: what the transform does, in values that JSON can hold.

    Attributes:
        max_pixels: pictures of more pixels are problems; None is Pillow's own limit, twice its
            `MAX_IMAGE_PIXELS`.
        left_out: what is passed over, as "other file": how many.
        pictures: by sample id the picture of those that share one with others.
        sample_ids, labels: of the pictures taken.
        classes: class names by index; empty where there are no labels.
        is_indexed: whether labels are the model's class indices by the data's own word; see `Classes`.
        is_ordered: whether classes stand in an order that was asked for.
        preprocessing: as given.
    """

    sample_ids: list[str]
    labels: list[int | None]
    classes: list[str]
    is_indexed: bool
    is_ordered: bool

    def __init__(self, transform: Callable[[Image.Image], Tensor], preprocessing: Mapping[str, Any]) -> None:
        self.preprocessing = dict(preprocessing)
        self.max_pixels: int | None = None
        self.left_out: dict[str, int] = {}
        self.pictures: Mapping[str, str] = {}
        self._channels: int = getattr(transform, "channels", 3)
        self._decode: Callable[[Image.Image], Any] = getattr(transform, "decode", _loaded)
        self._prepare: Callable[[Any], Tensor] = getattr(transform, "prepare", transform)

    @abstractmethod
    def _source(self, index: int) -> Path | BinaryIO:
        """Where the bytes of a picture are; an OSError or ValueError says why there are none."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, index: int) -> PictureItem:
        name, label = self.sample_ids[index], self.labels[index]
        pixels = self._open(index, self._decode)
        if isinstance(pixels, str):
            return PictureItem(image=None, label=label, sample_id=name, problem=pixels)
        with _pillow(self.max_pixels):  # some Pillows look at what is cropped, too
            image = self._prepare(pixels)
        return PictureItem(image=image, label=label, sample_id=name, problem=None)

    def check(self, *, strict: bool = True) -> None:
        """Look at headers alone: raise a NeuronPathError that names the first file which is no picture.

        Of more than `CHECKED` pictures so many are looked at, spread evenly: a start must not wait for a million files.
        Pictures of several frames are counted in one warning.

        Args:
            strict: False passes over what is no picture.
        """
        n_checked = min(len(self), CHECKED)
        moving: list[str] = []
        for index in np.arange(n_checked) * len(self) // n_checked:
            found = self._open(int(index), self._moves)
            if found is True:
                moving.append(self.sample_ids[index])
            elif strict and isinstance(found, str):
                raise unreadable(self.sample_ids[index], found)
        if moving:
            warnings.warn(
                f"{len(moving)} of the {n_checked} pictures looked at have several frames, as '{moving[0]}': the model "
                "sees the first.",
                stacklevel=2,
            )

    def _moves(self, picture: Image.Image) -> bool:
        """Whether a picture has several frames of which the model sees one; those of a camera (MPO) show the same."""
        with suppress(Exception):  # the first frame may be whole
            if picture.format != "MPO" and getattr(picture, "is_animated", False):
                return picture.format != "TIFF" or self._channels in (1, 3)  # else its pages are bands
        return False

    def content(self) -> dict[str, str]:
        """A digest of the bytes of a few pictures, spread evenly, by name; what cannot be read is left out."""
        n = min(len(self), COMPARED)
        places = [int(place) for place in np.arange(n) * len(self) // n]
        return {
            self.sample_ids[place]: hashlib.sha256(_bytes(self._source(place))).hexdigest()[:16]
            for place in places
            if not isinstance(self._open(place, _loaded), str)
        }

    def _open(self, index: int, use: Callable[[Image.Image], Any]) -> Any:
        """What `use` makes of a picture before its file is closed, or why there is nothing."""
        try:
            source = self._source(index)
            with _pillow(self.max_pixels), Image.open(source) as picture:
                return use(picture)
        except UnidentifiedImageError:
            return why_unknown(_bytes(self._source(index)), self.sample_ids[index])
        except Image.DecompressionBombError as error:
            size = re.search(r"\d+", str(error))
            return f"it is too large: data.max_pixels={size[0] if size else 'N'} allows it"
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
        self.classes = list(classes.names)
        self.is_indexed, self.is_ordered = classes.is_indexed, classes.is_ordered
        self.sample_ids = [names[place] for place in part]
        self.labels = [labels[place] for place in part]
        return part


def _loaded(picture: Image.Image) -> Image.Image:
    picture.load()
    return picture


@contextmanager
def _pillow(max_pixels: int | None) -> Iterator[None]:
    """Set Pillow's limit, and keep back its remarks about odd metadata, which name no file."""
    _add_heif()
    usual, logger = Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL.TiffImagePlugin")
    was_silent, logger.disabled = logger.disabled, True
    if max_pixels is not None:
        # It refuses more than twice its limit.
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, logger.disabled = usual, was_silent


@cache
def _add_heif() -> None:
    """Let Pillow read HEIC, the format of some telephones, where its plug-in is installed."""
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()


def _bytes(source: Path | BinaryIO) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source.read()


def unreadable(name: str, reason: str) -> NeuronPathError:
    """The error for a file that is no picture."""
    return NeuronPathError(
        f"File '{name}' is no image that can be read ({reason}): fix or remove it, or set data.on_error=skip."
    )
