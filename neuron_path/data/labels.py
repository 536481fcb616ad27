"""Labels: from class keys (names of folders, or a column of a CSV) to the model's class indices and to class names."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from neuron_path.errors import NeuronPathError

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
    """

    index: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    is_indexed: bool = False

    def name_of(self, key_or_name: str) -> str:
        """The class name of a key; anything else as it is."""
        return self.names[self.index[key_or_name]] if key_or_name in self.index else key_or_name


def number_classes(
    keys: Iterable[str | None], *, class_index: Path | None = None, known: KnownClasses | None = None
) -> Classes:
    """Give the classes of a data set their indices and names.

    They are numbered by the file `class_index`, else as the model has them, where `known` knows them all, else by the
    order of their names.

    Args:
        keys: the class key of each image; None where it has none.
        class_index: JSON {key: index}, or CSV with the columns key, index and perhaps name.
        known: knows the classes of some models.

    Raises:
        NeuronPathError: a class index that cannot be read, or that lacks a key.

    >>> number_classes(["dog", "cat", "dog"])
    Classes(index={'cat': 0, 'dog': 1}, names=['cat', 'dog'], is_indexed=False)
    """
    found = sorted({key for key in keys if key is not None})
    if not found:
        return Classes()
    if class_index is not None:
        return _read_class_index(class_index, found)
    if known is not None and (classes := known(found)) is not None:
        return Classes(*classes)
    return Classes({key: number for number, key in enumerate(found)}, found)


def numbered(keys: Iterable[str | None]) -> Classes | None:
    """The classes of keys that are class indices themselves; None where they are names.

    Raises:
        NeuronPathError: indices beside numbers that are none.

    >>> numbered(["2", "0"])
    Classes(index={'0': 0, '2': 2}, names=['0', '1', '2'], is_indexed=True)
    """
    found = {key for key in keys if key is not None}
    others = sorted(key for key in found if not (key.isascii() and key.isdigit() and len(key) < 7))
    if others and len(others) < len(found) and are_numbers(found):
        raise NeuronPathError(
            f"The label '{others[0]}' is no class index, as others are: expected a whole number from 0 to 999999."
        )
    if others or not found:
        return None
    index = {key: int(key) for key in sorted(found, key=int)}
    return Classes(index, [str(number) for number in range(max(index.values()) + 1)], is_indexed=True)


def are_numbers(keys: Iterable[str]) -> bool:
    """Whether all of these are numbers as text.

    >>> are_numbers(["10", "2.0"]), are_numbers(["10", "n01440764"])
    (True, False)
    """
    try:
        return all(isfinite(float(key)) for key in keys)
    except ValueError:
        return False


def read_labels(file: Path, names: Sequence[str]) -> list[str | None]:
    """The class key of each image by a CSV with the columns file and class.

    Args:
        file: the CSV; rows of files that are not asked for are passed over.
        names: the images.

    Raises:
        NeuronPathError: a file that is no such CSV, names a file twice, or lacks one.
    """
    table = _read_csv(file, "Labels", ["file", "class"])
    named = [name.replace("\\", "/").removeprefix("./") for name in table["file"]]
    if len(set(named)) < len(named):
        doubled = Counter(named).most_common(1)[0][0]
        raise NeuronPathError(f"Labels '{file}' name '{doubled}' twice: leave one row for each file.")
    if "" in table["class"]:
        nameless = named[table["class"].index("")]
        raise NeuronPathError(f"Labels '{file}' give '{nameless}' no class: fill it in, or remove the row.")
    by_file = dict(zip(named, table["class"], strict=True))
    if absent := [name for name in names if name not in by_file]:
        raise NeuronPathError(
            f"Labels '{file}' lack the file '{absent[0]}' ({len(absent)} of {len(names)} in all): expected a row for "
            "each, named relative to data.root."
        )
    return [by_file[name] for name in names]


def _read_class_index(file: Path, keys: Sequence[str]) -> Classes:
    read = _csv_class_index if file.suffix.lower() == ".csv" else _json_class_index
    numbers, names = read(file)
    if absent := [key for key in keys if key not in numbers]:
        raise NeuronPathError(f"Class index '{file}' lacks the folder '{absent[0]}' ({len(absent)} in all).")
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
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head, *rows = [row for row in csv.reader(stream, strict=True, skipinitialspace=True) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
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
