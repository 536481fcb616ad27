"""The cells of a study as arrays over images: what the tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from neuron_path.evaluation.measures import accuracy_deviation, probability_deviation
from real_study.methods import METHODS
from real_study.store import Arrays, Cell, Store

Floats = NDArray[np.float64]
Groups: Final = ("all", "right", "wrong")
"""All images, those that the model classifies rightly, and the others."""


class Results:
    """What a store holds by now.

    Args:
        store: of a study.
        methods: that count; None: all.
    """

    def __init__(self, store: Store, methods: Sequence[str] | None = None) -> None:
        self.store, self.identity = store, store.identity
        self._counted = METHODS if methods is None else methods
        self._read: dict[Cell, Arrays] = {}

    def read(self, cell: Cell) -> Arrays:
        """A cell, read once."""
        if cell not in self._read:
            self._read[cell] = self.store.read(cell)
        return self._read[cell]

    def chunks(self, kind: str, method: str, k: int) -> list[int]:
        """Of which chunks there is a cell."""
        return [cell.chunk for cell in self._cells(kind) if (cell.method, cell.k) == (method, k)]

    def methods(self, kind: str, k: int) -> list[str]:
        """Of which methods, in the order of the tables."""
        there = {cell.method for cell in self._cells(kind) if cell.k == k}
        return [name for name in METHODS if name in there and name in self._counted]

    def sizes(self, kind: str) -> list[int]:
        """Neurons a block that there are cells of."""
        return sorted({cell.k for cell in self._cells(kind)})

    def common(self, kind: str, k: int) -> list[int]:
        """Chunks that there is a cell of by every method that has any."""
        found = [set(self.chunks(kind, name, k)) for name in self.methods(kind, k)]
        return sorted(set.intersection(*found)) if found else []

    def joined(self, kind: str, method: str, k: int, chunks: Sequence[int], name: str, axis: int = 0) -> NDArray[Any]:
        """An array of a method over the images of some chunks."""
        return np.concatenate([self.read(Cell(kind, method, k, chunk))[name] for chunk in chunks], axis=axis)

    def paths(self, method: str, k: int, chunks: Sequence[int]) -> NDArray[np.int64]:
        """(n, L, k)."""
        return self.joined("paths", method, k, chunks, "paths").astype(np.int64)

    def scores(self, method: str, k: int, chunks: Sequence[int]) -> Floats:
        """(n,) joint attribution scores of the paths; of a method that ranks, of those of one neuron a block."""
        return self.joined("paths", method, k, chunks, "scores").astype(np.float64)

    def labels(self, chunks: Sequence[int]) -> NDArray[np.int64]:
        """(n,) each image's class, which is its target."""
        return self.joined("clean", "", 0, chunks, "labels")

    def clean(self, chunks: Sequence[int], view: str = "") -> Floats:
        """(n, C) logits of the untouched network."""
        return self.joined("clean", "", 0, chunks, f"logits_{view}".rstrip("_")).astype(np.float64)

    def right(self, chunks: Sequence[int]) -> NDArray[np.bool_]:
        """(n,) whether the untouched network is right."""
        return self.clean(chunks).argmax(1) == self.labels(chunks)

    def rows(self, chunks: Sequence[int], group: str) -> NDArray[np.int64]:
        """Places of a group's images."""
        right = self.right(chunks)
        return np.flatnonzero({"all": np.ones_like(right), "right": right, "wrong": ~right}[group])

    def deviation(self, method: str, k: int, chunks: Sequence[int], operation: str, view: str = "") -> Floats:
        """(n,) change of the target's probability in percent."""
        edited = self.joined("effects", method, k, chunks, operation)
        return self.change(edited, chunks, view)

    def change(self, edited: NDArray[Any], chunks: Sequence[int], view: str = "") -> Floats:
        """(n,) the same of given logits."""
        labels = self.labels(chunks)
        clean, after = (target_probability(logits, labels) for logits in (self.clean(chunks, view), edited))
        return 100 * probability_deviation(clean, after)

    def accuracy(self, method: str, k: int, chunks: Sequence[int], operation: str) -> Floats:
        """(n,) change of top-1, in points."""
        edited = self.joined("effects", method, k, chunks, operation)
        return accuracy_deviation(self.clean(chunks).argmax(1), edited.argmax(1), self.labels(chunks))

    def lead(self, logits: NDArray[Any], chunks: Sequence[int]) -> Floats:
        """(n,) the target's logit over that of the class which comes next to it in the untouched network."""
        labels, clean = self.labels(chunks), self.clean(chunks)
        others = clean.copy()
        others[np.arange(len(labels)), labels] = -np.inf
        at = np.arange(len(labels))
        return logits[..., at, labels].astype(np.float64) - logits[..., at, others.argmax(1)]

    @cached_property
    def cpu_seconds(self) -> float:
        """Of all cells; what a cell of ratings took is in that of the paths which were made of it."""
        kinds = [folder.name for folder in self.store.folder.iterdir() if folder.is_dir() and folder.name != "ratings"]
        return float(sum(self.read(cell)["seconds"][1] for kind in kinds for cell in self.store.cells(kind)))

    def _cells(self, kind: str) -> list[Cell]:
        return self.store.cells(kind)


def target_probability(logits: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """(n,) softmax of each image's target."""
    return softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def log_probability(logits: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """(…, n) its logarithm."""
    return log_softmax(logits.astype(np.float64), axis=-1)[..., np.arange(len(labels)), labels]
