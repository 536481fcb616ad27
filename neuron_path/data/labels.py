"""Labels: from class keys (names of folders, or a column of a CSV) to the model's class indices and to class names."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from neuron_path.errors import NeuronPathError, nearest

ORDERS = ("number", "natural", "text")
"""Words for how class folders are numbered: by the number that is their name; in an order that has 2 before 10, as
timm's; in the order of their letters, as torchvision's."""

_NUMBER = re.compile(r"\d{1,6}(\.0*)?", re.ASCII)  # with a point where a table had gaps in that column
_MISSING = ("nan", "na", "n/a", "null", "none", "?")

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

# From class keys to (key → index, names by index, whether these are the model's), where it knows them; else None.
KnownClasses = Callable[[Collection[str]], tuple[Mapping[str, int], Sequence[str], bool] | None]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Attributes:
        index: class key → class index.
        names: class names by index.
        is_indexed: whether these are the model's indices by the data's own word; else they follow an order, which is
            the model's only where all of its classes are there.
        is_ordered: whether that order was asked for.
    """

    index: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    is_indexed: bool = False
    is_ordered: bool = False

    def name_of(self, key_or_name: str) -> str:
        """The class name of a key; anything else as it is."""
        return self.names[self.index[key_or_name]] if key_or_name in self.index else key_or_name


def number_classes(
    keys: Iterable[str | None], *, class_index: str | Path | None = None, known: KnownClasses | None = None
) -> Classes:
    """Give the classes of a data set their indices and names.

    They are numbered by `class_index`, else as the model has them, where `known` knows them all, else by the
    order of their names.

    Args:
        keys: the class key of each image; None where it has none.
        class_index: one of `ORDERS`, or a file: JSON {key: index}, or CSV with the columns key, index and perhaps name.
        known: knows the classes of some models.

    Raises:
        NeuronPathError: a class index that cannot be read, or that lacks a key; names that are no numbers.

    >>> number_classes(["10", "2"], class_index="natural").names, number_classes(["10", "2"], class_index="text").names
    (['2', '10'], ['10', '2'])
    >>> number_classes(["dog", "cat", "dog"])
    Classes(index={'cat': 0, 'dog': 1}, names=['cat', 'dog'], is_indexed=False, is_ordered=False)
    """
    found = sorted({key for key in keys if key is not None})
    if not found:
        return Classes()
    if class_index in ORDERS:
        return _in_order(str(class_index), found)
    if class_index is not None:
        return _read_class_index(Path(class_index).expanduser(), found)
    if known is not None and (classes := known(found)) is not None:
        return Classes(*classes)
    return Classes({key: number for number, key in enumerate(found)}, found)


def numbered(keys: Iterable[str | None]) -> Classes | None:
    """The classes of keys that are class indices themselves; None where they are names.

    Raises:
        NeuronPathError: indices beside numbers that are none.

    >>> numbered(["2.0", "0"])
    Classes(index={'0': 0, '2.0': 2}, names=['0', '1', '2'], is_indexed=True, is_ordered=False)
    """
    found = {key for key in keys if key is not None}
    others = sorted(key for key in found if not _NUMBER.fullmatch(key))
    if others and len(others) < len(found) and are_numbers(key for key in found if key.lower() not in _MISSING):
        raise NeuronPathError(
            f"The label '{others[0]}' is no class index, as others are: expected a whole number from 0 to 999999."
        )
    if others or not found:
        return None
    index = {key: int(float(key)) for key in sorted(found, key=float)}
    return Classes(index, [str(number) for number in range(max(index.values()) + 1)], is_indexed=True)


def _in_order(word: str, keys: Sequence[str]) -> Classes:
    if word == "number":
        if (classes := numbered(keys)) is None:
            odd = next(key for key in keys if numbered([key]) is None)
            raise NeuronPathError(
                f"data.class_index is 'number', and the class '{odd}' is none from 0 to 999999: say natural or "
                "text, or give a file."
            )
        return classes
    ordered = sorted(keys, key=_natural) if word == "natural" else list(keys)
    return Classes({key: place for place, key in enumerate(ordered)}, ordered, is_ordered=True)


def _natural(key: str) -> tuple[list[int | str], str]:
    """As timm sorts folders: digits count as numbers, and case does not."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", key.lower())], key


def are_numbers(keys: Iterable[str]) -> bool:
    """Whether all of these are numbers as text.

    >>> are_numbers(["10", "2.0"]), are_numbers(["10", "n01440764"])
    (True, False)
    """
    try:
        return all(isfinite(float(key)) for key in keys)
    except ValueError:
        return False


def read_text(file: Path, what: str) -> str:
    """The text of a file in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
        NeuronPathError: no such file, or another encoding; it begins with `what`, which says what the file is for.
    """
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise NeuronPathError(f"{what} '{file}' cannot be read: {' '.join(str(error).split())}.") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:2]:  # the first letter is ASCII
        encoding = "utf-16-be" if data.startswith(b"\0") else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise NeuronPathError(
            f"{what} '{file}' cannot be read as {encoding[:6].upper()} ({error.reason}): save it as UTF-8."
        ) from None


def _read_class_index(file: Path, keys: Sequence[str]) -> Classes:
    if (hint := nearest(str(file).lower(), ORDERS)) and not file.exists():
        raise NeuronPathError(f"data.class_index is '{file}', which is no file.{hint} Known: {', '.join(ORDERS)}.")
    read = _csv_class_index if file.suffix.lower() == ".csv" else _json_class_index
    numbers, names = read(file)
    if absent := [key for key in keys if key not in numbers]:
        raise NeuronPathError(f"Class index '{file}' lacks the folder '{absent[0]}' ({len(absent)} in all): add it.")
    index = {key: numbers[key] for key in keys}
    by_number = {number: names[key] for key, number in index.items()}
    names_by_index = [by_number.get(number, str(number)) for number in range(max(by_number) + 1)]
    return Classes(index, names_by_index, is_indexed=True)


def _json_class_index(file: Path) -> tuple[dict[str, int], dict[str, str]]:
    try:
        numbers: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NeuronPathError(f"Class index '{file}' cannot be read: {error}.") from error
    if not isinstance(numbers, dict) or not all(type(number) is int and _fits(number) for number in numbers.values()):
        raise NeuronPathError(f"Class index '{file}' must map folder names to class indices, as in {{\"cat\": 0}}.")
    return numbers, {key: key for key in numbers}


def _csv_class_index(file: Path) -> tuple[dict[str, int], dict[str, str]]:
    table = _read_csv(file, "Class index", ["key", "index"])
    keys = table["key"]
    try:
        numbers = dict(zip(keys, (int(text) for text in table["index"]), strict=True))
    except ValueError:
        numbers = {}
    if len(numbers) < len(keys) or not all(map(_fits, numbers.values())):
        raise NeuronPathError(f"Class index '{file}' must give each key one class index, as in cat,0.")
    return numbers, dict(zip(keys, table.get("name", keys), strict=True))


def _fits(number: int) -> bool:
    return 0 <= number < 10**6  # of a list of names; no classifier has more


def _read_csv(file: Path, what: str, columns: Sequence[str]) -> dict[str, list[str]]:
    """The columns of a CSV by their names, which its first line gives."""
    stream = io.StringIO(read_text(file, what), newline="")
    try:
        head, *rows = [row for row in csv.reader(stream, strict=True, skipinitialspace=True) if row] or [[]]
    except csv.Error as error:
        raise NeuronPathError(f"{what} '{file}' cannot be read: {' '.join(str(error).split())}.") from error
    if absent := [name for name in columns if name not in head]:
        raise NeuronPathError(
            f"{what} '{file}' has no column '{absent[0]}': expected a CSV that begins with the line {','.join(columns)}"
        )
    if uneven := [row for row in rows if len(row) != len(head)]:
        raise NeuronPathError(
            f"{what} '{file}' has a row of {len(uneven[0])} cells, '{','.join(uneven[0])[:60]}': expected {len(head)}."
        )
    return {name: [row[place] for row in rows] for place, name in enumerate(head)}
