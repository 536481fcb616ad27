"""Files of labels as people have them: which column names the pictures, which their class, and which row is whose.

A table is split at commas, semicolons, tabs or spaces, whichever names the most pictures, with a header or without. A
row belongs to a picture when both have the same file name, with or without its ending, and when the folders before one
are the end of the folders before the other. What is not clear is refused with the columns that were found.
"""

from __future__ import annotations

import csv
import gc
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from neuron_path.data.labels import read_text
from neuron_path.data.pictures import ENDINGS
from neuron_path.errors import NeuronPathError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}
_FILE_HEADS = re.compile(r"(file|image|img|picture)(id|name|path)?|fname|id|name|path")
_CLASS_HEADS = re.compile(r"(class|label)(id|index|name)?|labels|category|predictionstring|synset|target|wnid|y")
_LOCALIZATION = re.compile(r"(n\d{8}( -?\d+){4} ?)+")  # ImageNet's synsets, each with the corners of a box


_ENOUGH = 1000  # rows that tell one column from another


@dataclass(frozen=True)
class _Table:
    """A file's rows, split in one way."""

    delimiter: str
    head: list[str] | None
    rows: list[list[str]]

    @property
    def n_columns(self) -> int:
        return len(self.rows[0]) if self.rows else len(self.head or ())

    def column(self, place: int) -> list[str]:
        return [row[place] for row in self.rows]

    def places(self, known: re.Pattern[str]) -> list[int]:
        """The columns whose heads are such."""
        return [place for place, name in enumerate(self.head or ()) if known.fullmatch(_plain(name))]

    def __str__(self) -> str:
        shown = (self.head or self.rows[0])[:10]
        of = "columns" if self.head else "columns (of the first row)"
        return f"{of} {', '.join(repr(cell[:40]) for cell in shown)}, split at {_DELIMITERS[self.delimiter]}"


class _Rows:
    """Which rows name a picture.

    >>> rows = _Rows(["val/a.png", "b"])
    >>> rows.of("a.png"), rows.of("x/b.jpg"), rows.of("c.png"), rows.of("train/a.png")
    ([0], [1], [], [])
    """

    def __init__(self, named: Sequence[str]) -> None:
        self._named = [_composed(name.strip()).replace("\\", "/").removeprefix("./") for name in named]
        stems = [_stem(name.rpartition("/")[2]) for name in self._named]
        self._by_stem: dict[str, tuple[int, ...]] = dict(zip(stems, zip(range(len(stems)), strict=True), strict=True))
        if len(self._by_stem) < len(stems):
            rows: dict[str, list[int]] = {}
            for row, stem in enumerate(stems):
                rows.setdefault(stem, []).append(row)
            self._by_stem = {stem: tuple(own) for stem, own in rows.items()}

    def of(self, picture: str) -> list[int]:
        """The rows that share the most folders with a picture."""
        folders, _, base = _composed(picture).rpartition("/")
        stem = _stem(base)
        best: list[int] = []
        most = -1
        for row in self._by_stem.get(stem, ()):
            others, _, name = self._named[row].rpartition("/")
            if name not in (base, stem) or (shared := _shared(others, folders)) < most:
                continue
            if shared > most:
                best, most = [], shared
            best.append(row)
        return best


def _shared(one: str, other: str) -> int:
    """How much two paths of folders share, where the shorter one is the end of the longer one; below −1 where not.

    >>> _shared("x/val/cat", "val/cat"), _shared("cat", "cat"), _shared("", "cat"), _shared("dog", "cat")
    (4, 3, 0, -2)
    """
    if one == other:
        return 2 * (one.count("/") + 1) + 1 if one else 1
    short, long = sorted((one, other), key=len)
    if short and not long.endswith(f"/{short}"):
        return -2
    return 2 * (short.count("/") + 1) if short else 0


def read_labels(file: Path, names: Sequence[str], *, only: bool = False, several: bool = False) -> list[frozenset[str]]:
    """The class key of each image by a table of files and classes, or its class keys.

    Args:
        file: CSV or other text, in UTF-8 or UTF-16; rows of files that are not asked for are passed over.
        names: the images, relative to their folder.
        only: whether images may have none.
        several: whether they may have several.

    Raises:
        NeuronPathError: no such table, columns or rows that are not clear, several labels for an image, or none.
    """
    found: list[frozenset[str]] = []
    with _uncollected():
        table, place = _choose_table(file, names)
        named, cells = table.column(place), table.column(_class_column(file, table, place))
        for name, labels in zip(names, _labels_of(file, names, named, cells, several=several), strict=True):
            if len(labels) > 1 and not several:
                raise NeuronPathError(
                    f"Labels '{file}' give '{name}' several labels ({', '.join(sorted(labels)[:5])}): leave one for "
                    "each picture, or say data.each_label=true for a path of each."
                )
            found.append(labels)
    n_absent = sum(not labels for labels in found)
    if n_absent == len(found) or (n_absent and not only):
        advice = "" if n_absent == len(found) else ", or data.labels_only=true leaves the others out"
        raise NeuronPathError(
            f"Labels '{file}' lack the file '{names[found.index(frozenset())]}' ({n_absent} of {len(names)} in all): "
            f"expected a row for each, named relative to data.root{advice}."
        )
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through a million rows again and again while they are made."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def _labels_of(
    file: Path, names: Sequence[str], named: Sequence[str], cells: Sequence[str], *, several: bool
) -> Iterator[frozenset[str]]:
    """The labels of each image; none where no row is its own."""
    exact = dict(zip(named, cells, strict=True))
    is_exact = len(exact) == len(named) and all(name in exact for name in names)
    marks = "\n".join(named)
    if is_exact and not ("./" in marks or "\\" in marks):  # the same, soon, for a million files
        for name in names:
            yield _labels(exact[name]) or _refuse_empty(file, name)
        return
    rows = _Rows(named)
    owners: dict[int, str] = {}
    for name in names:
        found = rows.of(name)
        for row in found:
            if owners.setdefault(row, name) != name:
                raise NeuronPathError(
                    f"Labels '{file}' name '{owners[row]}' and '{name}' by the one row '{named[row]}': name each with "
                    "its folders and its ending."
                )
        if len(found) == 1:
            labels = _labels(cells[found[0]])
        else:
            labels = frozenset(label for row in found for label in _labels(cells[row]))
            others = {named[row] for row in found}
            if several and len(others) > 1:
                raise NeuronPathError(
                    f"Labels '{file}' have several rows that may be of '{name}', {', '.join(sorted(others)[:2])}: name "
                    "it alike in all of its rows, or in one."
                )
        yield labels if labels or not found else _refuse_empty(file, name)


def _refuse_empty(file: Path, name: str) -> NoReturn:
    raise NeuronPathError(
        f"Labels '{file}' give '{name}' no class: fill it in, or remove the row and give data.labels_only=true."
    )


def _choose_table(file: Path, names: Sequence[str]) -> tuple[_Table, int]:
    """The table that names the most pictures, and the column that does."""
    text = read_text(file, "Labels")
    lines = [line for line in text[:10_000].splitlines() if line.strip()]
    first = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    wanted = {_stem(_composed(name.rpartition("/")[2])) for name in names}
    best: tuple[int, _Table, int] | None = None
    found = f"begins with {first[:60]!r}" if first else "is empty"
    reason = f"it {found}; expected lines such as a.png,cat"
    unclear: _Table | None = None
    ways = [(delimiter, False) for delimiter in _DELIMITERS if delimiter in first.strip()]
    for delimiter, is_last in [*ways, (" ", True)] if (" ", False) in ways else ways:
        if is_last and best is not None:
            break
        try:
            table = _split(text, delimiter, is_last=is_last)
        except csv.Error as error:
            reason = f"{' '.join(str(error).split())}: it {found}; expected lines such as a.png,cat"
            continue
        except ValueError as error:
            reason = str(error)
            continue
        known = table.places(_FILE_HEADS)
        counts = _n_named(table, wanted)
        place = max(counts, key=lambda place: (counts[place] > 0, place in known, counts[place]))
        unclear = unclear or table
        if not known and list(counts.values()).count(counts[place]) > 1:
            continue  # two columns of numbers, and pictures named by numbers
        if (counts[place] or known) and (best is None or counts[place] > best[0]):
            best = counts[place], table, place
    if best is not None:
        return best[1], best[2]
    if unclear is not None:
        raise NeuronPathError(
            f"Labels '{file}' have the {unclear}, and it is not clear that one names the pictures, such as "
            f"'{names[0]}': expected one with their paths and one with their classes, below the line file,class."
        )
    raise NeuronPathError(f"Labels '{file}' cannot be read as a table: {reason}.")


def _split(text: str, delimiter: str, *, is_last: bool = False) -> _Table:
    """The rows of a table; a ValueError or csv.Error says why it is none.

    Args:
        is_last: whether to split each line at its last space only.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows = [] if is_last else [row for row in reader if any(row)]
    if is_last or (delimiter == " " and len({len(row) for row in rows}) > 1):  # names with spaces in them
        lines = [line for line in text.splitlines() if line.strip()]
        if not is_last and all(_stem(begin := line.split(None, 1)[0]) != begin for line in lines):
            rows = [line.split(None, 1) for line in lines]
        else:
            rows = [line.rsplit(None, 1) for line in lines]
    while len(rows) > 1 and rows[0][0].startswith("#") and len(rows[0]) != len(rows[1]):
        del rows[0]  # a remark
    while rows and len(rows[0]) > 2 and not any(row[-1].strip() for row in rows):  # something behind the last cell
        rows = [row[:-1] for row in rows]
    n_columns = len(rows[0]) if rows else 0
    if n_columns < 2:
        raise ValueError("expected lines such as a.png,cat")
    if uneven := next((row for row in rows if len(row) != n_columns), None):
        raise ValueError(f"it has a row of {len(uneven)} cells, {delimiter.join(uneven)[:60]!r}; expected {n_columns}")
    heads = [_plain(cell) for cell in rows[0]]
    has_head = not any(_stem(cell) != cell for cell in rows[0]) and any(
        known.fullmatch(head) for head in heads for known in (_FILE_HEADS, _CLASS_HEADS)
    )
    return _Table(delimiter, rows[0] if has_head else None, rows[1:] if has_head else rows)


def _class_column(file: Path, table: _Table, file_column: int) -> int:
    known = [place for place in table.places(_CLASS_HEADS) if place != file_column]
    exact = [place for place in known if _plain((table.head or [])[place]) == "class"]
    unnamed = [place for place in known if not _plain((table.head or [])[place]).endswith("name")]
    others = [place for place in range(table.n_columns) if place != file_column]
    for places in (exact, unnamed, known, others):
        if len(places) == 1:
            return places[0]
        if places:
            break
    raise NeuronPathError(
        f"Labels '{file}' have the {table}: which holds the class is not clear; name that column 'class' in the first "
        "line, and the one with the pictures 'file'."
    )


@lru_cache(1000)
def _labels(cell: str) -> frozenset[str]:
    """The labels in a cell, which is one unless it looks like a list.

    >>> list(_labels("n03995372 85 1 499 272 n03995372 0 0 9 9")), list(_labels("golden retriever"))
    (['n03995372'], ['golden retriever'])
    >>> sorted(_labels("[3, 5]")), sorted(_labels("tabby cat|dog"))
    (['3', '5'], ['dog', 'tabby cat'])
    """
    whole, cell = cell, cell.strip()
    if _LOCALIZATION.fullmatch(cell):
        return frozenset(re.findall(r"n\d{8}", cell))
    is_list = cell.startswith("[") or ";" in cell or "|" in cell
    between = r"\s*[;|]\s*" if ";" in cell or "|" in cell else r"[\s,]+"
    parts = [part for part in re.split(between, cell.strip("[]()")) if part]
    if len(parts) > 1 and (is_list or all(re.fullmatch(r"n\d{8}|\d+", part) for part in parts)):
        return frozenset(parts)
    return frozenset([whole] if cell else [])


def _n_named(table: _Table, wanted: Collection[str]) -> dict[int, int]:
    """How many cells of each column end in a file name that is asked for, by its name without ending.

    Of many rows some are looked at, unless these leave it open which column names the most.
    """
    for rows in (table.rows[:: len(table.rows) // _ENOUGH + 1], table.rows):
        counts = {
            place: sum(_stem(_composed(re.split(r"[/\\]", row[place])[-1].strip())) in wanted for row in rows)
            for place in range(table.n_columns)
        }
        first, *others = sorted(counts.values(), reverse=True)
        if first > max(others, default=0):
            break
    return counts


def _composed(name: str) -> str:
    """A name with its accents in one character each, which some systems store apart."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _stem(base: str) -> str:
    """A file's name without a picture's ending."""
    stem, _, ending = base.rpartition(".")
    return stem if stem and (ending in ENDINGS or ending.lower() in ENDINGS) else base


def _plain(head: str) -> str:
    return re.sub(r"[\W_]+", "", head).lower()
