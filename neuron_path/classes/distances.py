"""Semantic distances between classes, from a file: a matrix or a tree; or from WordNet, through NLTK."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.errors import NeuronPathError, nearest

WORDNET: Final = "wordnet"
"""What stands for a file where WordNet is meant."""
_WNID: Final = re.compile(r"n(\d{8})")


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances between classes.

    Attributes:
        classes: (C,) the classes, as they were asked for.
        values: (C, C) symmetric, 0 on the diagonal.
        source: where they are from, for readers.
    """

    classes: NDArray[np.int64]
    values: NDArray[np.float64]
    source: str


def read_distances(
    source: str | os.PathLike[str], classes: Sequence[int], class_names: Sequence[str] | Mapping[int, str] = ()
) -> Distances:
    """Read the distances between classes.

    A class is named by its index or by its name, as in the run. What the file has beside these classes is not read.

    Args:
        source: a file, or ``wordnet``:

            - ``.csv``: a matrix. The first row names the classes, and so does the first column, in any order.
            - ``.json``: a tree of nested objects and lists, whose leaves are classes: ``{"animal": ["cat", "dog"],
              "artefact": {"vehicle": ["truck"], "tool": ["axe"]}}``. A leaf may also be a key whose value is null.
              Two classes are as far as the steps from one to the other through the tree.
            - ``wordnet``: the names are WordNet ids (``n02123045``) or nouns, of which the first sense is taken; as
              far as the steps through the tree of hypernyms. It needs NLTK and its WordNet data.
        classes: which ones.
        class_names: names by index.

    Raises:
        NeuronPathError: for a file that cannot be read or lacks a class, a matrix that is not symmetric, and WordNet
            where it is not installed or does not know a name.
    """
    wanted = np.asarray(list(classes), dtype=np.int64)
    known = dict(class_names) if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    names = [str(known.get(index, index)) for index in wanted.tolist()]
    if os.fspath(source) == WORDNET:
        return Distances(wanted, _wordnet(names), "WordNet, steps between hypernyms")
    path = Path(source)
    readers = {".csv": _read_matrix, ".json": _read_tree}
    if path.suffix not in readers:
        raise NeuronPathError(
            f"Distances are not read from {os.fspath(path)!r}: expected a matrix as .csv, a tree as .json, or "
            f"'{WORDNET}'."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NeuronPathError(f"Cannot read the distances in {os.fspath(path)!r}: {error}. Give a file.") from error
    keys, values = readers[path.suffix](text, os.fspath(path))
    place = {key: row for row, key in enumerate(keys)}
    rows = []
    for index, name in zip(wanted.tolist(), names, strict=True):
        if name not in place and str(index) not in place:
            raise NeuronPathError(
                f"{os.fspath(path)!r} has no class '{name}' (index {index}).{nearest(name, keys)} Name each class of "
                "the run by its name or its index."
            )
        rows.append(place[name] if name in place else place[str(index)])
    kind = "a matrix" if path.suffix == ".csv" else "steps through a tree"
    return Distances(wanted, values[np.ix_(rows, rows)], f"{path.name}, {kind}")


def tree_distances(paths: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """Return the steps between leaves of a tree: up to what both have above them, and down again.

    Args:
        paths: for each leaf what is above it from the root on, the leaf itself last.

    Returns:
        (C, C): d(c, d) = depth(c) + depth(d) − 2 · depth of the deepest node above both.

    >>> tree_distances([("animal", "cat"), ("animal", "dog"), ("tool", "axe")]).tolist()
    [[0.0, 2.0, 4.0], [2.0, 0.0, 4.0], [4.0, 4.0, 0.0]]
    """
    deepest = max(map(len, paths))
    numbers: dict[tuple[Any, ...], int] = {}
    # Each node by its whole way from the root, as a number; below a leaf nothing is shared.
    nodes = np.empty((len(paths), deepest), dtype=np.int64)
    for row, path in enumerate(paths):
        for depth in range(deepest):
            key = tuple(path[: depth + 1]) if depth < len(path) else (row, depth, None)
            nodes[row, depth] = numbers.setdefault(key, len(numbers))
    shared = np.zeros((len(paths), len(paths)))
    for depth in range(deepest):
        shared += nodes[:, None, depth] == nodes[None, :, depth]
    depths = np.array([len(path) for path in paths], dtype=np.float64)
    distances = depths[:, None] + depths[None, :] - 2 * shared
    np.fill_diagonal(distances, 0)
    return distances


def _read_matrix(text: str, path: str) -> tuple[list[str], NDArray[np.float64]]:
    try:
        frame = pd.read_csv(io.StringIO(text), index_col=0, dtype=str, keep_default_na=False)
        keys = [str(name).strip() for name in frame.columns]
        rows = [str(name).strip() for name in frame.index]
        values = frame.to_numpy().astype(np.float64)
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise NeuronPathError(f"{path!r} is no matrix of distances ({reason}); expected numbers with names.") from error
    if sorted(rows) != sorted(keys) or len(set(keys)) < len(keys):
        raise NeuronPathError(
            f"{path!r} names {len(set(rows))} classes in its first column and {len(set(keys))} in its first row; "
            "expected the same ones, each once."
        )
    place = {key: row for row, key in enumerate(rows)}
    values = values[[place[key] for key in keys]]
    if not np.isfinite(values).all() or not np.allclose(values, values.T, rtol=1e-6, atol=1e-9):
        raise NeuronPathError(f"{path!r} is not symmetric or not finite; expected d(c, d) = d(d, c).")
    if (values < 0).any() or np.diagonal(values).any():
        raise NeuronPathError(
            f"{path!r} has negative numbers, or others than 0 on its diagonal: expected distances, and no similarities."
        )
    return keys, (values + values.T) / 2


def _read_tree(text: str, path: str) -> tuple[list[str], NDArray[np.float64]]:
    try:
        leaves = list(_leaves(json.loads(text), ()))
    except (ValueError, RecursionError) as error:
        raise NeuronPathError(f"{path!r} is no JSON tree ({error}); expected nested objects and lists.") from error
    keys = [str(leaf[-1]) for leaf in leaves]
    if len(set(keys)) < len(keys) or not keys:
        doubled = next((key for key in keys if keys.count(key) > 1), "")
        raise NeuronPathError(
            f"{path!r} has the leaf '{doubled}' more than once; expected each class once."
            if doubled
            else f"{path!r} has no leaf; expected the classes as leaves."
        )
    return keys, tree_distances(leaves)


def _leaves(node: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Each leaf with what is above it."""
    if isinstance(node, Mapping):
        for key, below in node.items():
            if below is None:
                yield (*above, str(key))
            else:
                yield from _leaves(below, (*above, str(key)))
    elif isinstance(node, list):
        for below in node:
            yield from _leaves(below, above)
    elif isinstance(node, str | int) and not isinstance(node, bool):
        yield (*above, str(node))
    else:
        raise ValueError(f"{node!r} is no class")


def _wordnet(names: Sequence[str]) -> NDArray[np.float64]:
    try:
        from nltk.corpus import wordnet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise NeuronPathError("WordNet is read through NLTK, which is not installed: pip install nltk.") from error
    try:
        synsets = [_synset(wordnet, name) for name in names]
    except LookupError as error:
        raise NeuronPathError(
            "NLTK has no WordNet data here: fetch it once with python -m nltk.downloader wordnet."
        ) from error
    # Steps from each class up to each hypernym; a noun may have several ways up.
    places: dict[Any, int] = {}
    above = [
        {places.setdefault(hypernym, len(places)): steps for hypernym, steps in sorted(ways, key=_longest_first)}
        for ways in (synset.hypernym_distances() for synset in synsets)
    ]
    steps = np.full((len(names), len(places)), np.inf)
    for row, ways in enumerate(above):
        steps[row, list(ways)] = list(ways.values())
    # Through the hypernym of both that makes the way shortest; all nouns have one, the root.
    return np.stack([(steps + own).min(axis=1) for own in steps])


def _longest_first(way: tuple[Any, int]) -> int:
    return -way[1]


def _synset(wordnet: Any, name: str) -> Any:
    wnid = _WNID.fullmatch(name)
    if wnid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is None is said below
            found = wordnet.synset_from_pos_and_offset("n", int(wnid[1]))
        if found is None:
            raise NeuronPathError(f"WordNet has no id '{name}': give the distances as a file.")
        return found
    # Lists of classes name one by several words: "tench, Tinca tinca".
    for word in name.split(","):
        found = wordnet.synsets(word.strip().replace(" ", "_"), pos="n")
        if found:
            return found[0]
    raise NeuronPathError(f"WordNet knows no noun '{name}': give the distances as a file.")
