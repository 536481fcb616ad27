"""WebDataset shards: pictures inside tar files, found by an index that is made once and read where they lie.

A sample is all files of a shard with one name up to the first dot, as in `0001.jpg`, `0001.cls`, `0001.json`. Nothing
is unpacked: a picture's bytes are read from its place in the tar file, whatever its name.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from torch import Tensor

from neuron_path.data.cache import recall, remember, stamp
from neuron_path.data.labels import KnownClasses, number_classes, numbered
from neuron_path.data.listing import check_text
from neuron_path.data.pictures import ENDINGS, PictureDataset
from neuron_path.errors import NeuronPathError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_BLOCK = 512  # bytes, of a tar file
_LARGEST_LABEL = 4096  # bytes
_THREADS = 4
_SCHEMA = pa.schema(
    [
        ("name", pa.large_string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("label", pa.string()),
    ]
)


@dataclass
class _Sample:
    """What a shard holds under one key."""

    key: str
    pictures: list[tarfile.TarInfo]
    label: str | None = None
    other: str = "ENDING"  # what follows the first dot in the name of something else


class ShardDataset(PictureDataset):
    """The pictures in tar files, named SHARD/MEMBER, shard by shard in the order of their names.

    A sample's label is its member `label_key`, a class index or name; where no sample has one, its folder in the shard.

    Args:
        root: a folder of .tar files, one such file, or a pattern such as DIR/train-*.tar.
        transform, preprocessing: as for `PictureDataset`.
        class_index, known: how classes are numbered; see `neuron_path.data.labels.number_classes`.
        label_key: what follows the first dot in the name of a sample's label.
        image_key: the same of its picture, where a sample has several; None is any picture.
        classes, limit: as for `ImageFolderDataset`.
        cache: whether the index is remembered, until a shard changes.

    Raises:
        NeuronPathError: no shards, a torn or compressed one, samples without a picture or with several, some without a
            label.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Image.Image], Tensor],
        *,
        preprocessing: Mapping[str, Any],
        class_index: str | Path | None = None,
        known: KnownClasses | None = None,
        label_key: str = "cls",
        image_key: str | None = None,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
        cache: bool = True,
    ) -> None:
        super().__init__(transform, preprocessing)
        self._folder, self._shards = find_shards(root)
        table = _index(self._folder, self._shards, label_key, image_key, cached=cache)
        names, labels = table["name"].to_pylist(), table["label"].to_pylist()
        self._check_names(names)
        is_labelled = any(label is not None for label in labels)
        keys = labels if is_labelled else _folder_keys(names)
        if (n_lacking := keys.count(None)) and n_lacking < len(keys):
            raise NeuronPathError(
                f"The sample '{names[keys.index(None)]}' has no label ({n_lacking} of {len(keys)} lack one): expected "
                f"a member '.{label_key}' for each, or for none; give data.label_key=ENDING where labels end otherwise."
            )
        own = numbered(keys) if is_labelled and class_index is None else None
        numbering = own or number_classes(keys, class_index=class_index, known=known)
        where = f"'{root}'"
        places = self._take(names, keys, numbering, only=classes, limit=limit, where=where)
        taken = table.take(pa.array(places, pa.int64()))
        self._places = [taken[name].to_numpy() for name in ("shard", "offset", "size")]

    def _source(self, index: int) -> io.BytesIO:
        shard, offset, size = (int(column[index]) for column in self._places)
        if size < 0:
            raise ValueError("it is a link or another special file inside the shard")
        with (self._folder / self._shards[shard]).open("rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))

    def _check_names(self, names: Sequence[str]) -> None:
        if not names:
            raise NeuronPathError(
                f"The {len(self._shards)} shard(s) in '{self._folder}' hold no picture: expected members such as "
                "0001.jpg, with 0001.cls beside them where they are labelled."
            )
        if len(set(names)) < len(names):
            seen: set[str] = set()
            doubled = next(name for name in names if name in seen or seen.add(name))
            raise NeuronPathError(f"The shards hold '{doubled}' twice: give each picture a name of its own.")


def find_shards(root: str | Path) -> tuple[Path, list[str]]:
    """The folder of shards, and their names in it, sorted.

    Raises:
        NeuronPathError: there are none.
    """
    path = Path(root).expanduser()
    if path.is_file():
        return path.parent, [path.name]
    if path.is_dir():
        folder, found = path, [file.relative_to(path).as_posix() for file in path.rglob("*.tar") if file.is_file()]
    else:
        folder = path.parent
        found = [] if has_magic(str(folder)) else [file.name for file in folder.glob(path.name) if file.is_file()]
    found = sorted(name for name in found if not name.startswith("."))
    if not found:
        raise NeuronPathError(
            f"There are no shards at '{root}': expected a folder of .tar files, one such file, or a pattern for the "
            "last part of the path, as in data.root=DIR/train-*.tar."
        )
    check_text(found, folder)
    return folder, found


def _index(folder: Path, shards: Sequence[str], label_key: str, image_key: str | None, *, cached: bool) -> pa.Table:
    """A row for each picture of the shards: its name, where its bytes are, and its label."""
    kind = "\0".join(["shards", label_key, image_key or "", *shards])
    table = recall(kind, folder) if cached else None
    if table is not None and table.schema == _SCHEMA:
        return table
    begin = time.time()
    try:
        stamps = {name: stamp(folder / name) for name in shards}
    except OSError as error:
        raise NeuronPathError(f"Shard '{error.filename}' cannot be read: {error.strerror}.") from error
    with ThreadPoolExecutor(_THREADS) as threads:
        rows = list(threads.map(lambda name: _rows(folder / name, name, label_key, image_key), shards))
    columns = zip(*((*row[:1], shard, *row[1:]) for shard, own in enumerate(rows) for row in own), strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=False)]
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA) if arrays else _SCHEMA.empty_table()
    if cached:
        remember(kind, folder, table, stamps, begin)
    return table


def _rows(file: Path, name: str, label_key: str, image_key: str | None) -> list[tuple[str, int, int, str | None]]:
    """(name, offset, size, label) of each picture in a shard, in the order of the names; the size of a link is −1."""
    samples: dict[str, _Sample] = {}
    try:
        for member, label in _members(file, label_key):
            key, _, extension = _split(member.name)
            sample = samples.setdefault(key, _Sample(key, []))
            if label is not None:
                sample.label = label
            elif _is_picture(extension, image_key):
                sample.pictures.append(member)
            else:
                sample.other = extension
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise _torn(file, str(error)) from error
    rows = []
    for sample in samples.values():
        if len(sample.pictures) > 1:
            both = ", ".join(member.name for member in sample.pictures[:2])
            raise NeuronPathError(
                f"The sample '{sample.key}' of shard '{file}' has several pictures ({both}): say which by what follows "
                "the first dot of its name, as in data.image_key=jpg."
            )
        if not sample.pictures and sample.label is not None:
            raise NeuronPathError(
                f"The sample '{sample.key}' of shard '{file}' has a label and no picture with a usual ending: say "
                f"which is by what follows the first dot of its name, as in data.image_key={sample.other}."
            )
        rows += [
            (f"{name}/{member.name}", member.offset_data, member.size if member.type in _PLAIN else -1, sample.label)
            for member in sample.pictures
        ]
    check_text([row[0] for row in rows], file)
    return sorted(rows)


_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def _members(file: Path, label_key: str) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
    """The visible files of a shard, each with its text if it is a label."""
    with file.open("rb") as stream:
        if kind := _COMPRESSED.get(stream.read(2)):
            raise NeuronPathError(
                f"Shard '{file}' is compressed with {kind}, so that no place in it can be found: unpack it to a plain "
                ".tar file."
            )
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                tar.members = []  # it keeps them all  # pyright: ignore[reportAttributeAccessIssue]
                base = member.name.rpartition("/")[2]
                if member.isdir() or base.startswith("."):
                    continue
                label = None
                if _split(member.name)[2] == label_key and member.type in _PLAIN and member.size <= _LARGEST_LABEL:
                    label = _text(_read(stream, member), f"{file}/{member.name}")
                yield member, label
            end = tar.offset
        stream.seek(end)
        if stream.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a damaged header for the end
            raise tarfile.ReadError(f"there is no end mark after byte {end}")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise NeuronPathError(f"The label '{name}' is not UTF-8: expected a class index or name as text.") from None


def _read(stream: io.BufferedReader, member: tarfile.TarInfo) -> bytes:
    here = stream.tell()
    stream.seek(member.offset_data)
    data = stream.read(member.size)
    stream.seek(here)
    return data


def _split(name: str) -> tuple[str, str, str]:
    """A member's key, a dot, and what follows the first dot of its last part.

    >>> _split("a.b/0001.seg.png")
    ('a.b/0001', '.', 'seg.png')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return folder + slash + stem, dot, extension


def _is_picture(extension: str, image_key: str | None) -> bool:
    if image_key is not None:
        return extension == image_key
    return extension.rpartition(".")[2].lower() in ENDINGS


def _folder_keys(names: Sequence[str]) -> list[str | None]:
    """The folder of each picture inside its shard; None where it has none."""
    parts = (name.rpartition(".tar/")[2].removeprefix("./").partition("/") for name in names)
    return [folder if inside else None for folder, inside, _ in parts]


def _torn(file: Path, reason: str) -> NeuronPathError:
    return NeuronPathError(
        f"Shard '{file}' is torn or no tar file ({' '.join(reason.split())}): bring it back, or move it away."
    )
