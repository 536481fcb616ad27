"""Paths in classes: the record that all class statistics start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from neuron_path.errors import NeuronPathError

Source = Literal["label", "target"]
"""What the classes of a run are."""


@dataclass(frozen=True, eq=False)
class ClassPaths:
    """The paths of n images in C classes, sorted by class and then by image.

    Attributes:
        images: (n,) sample ids.
        paths: (n, L, k) neurons, k distinct ones in each block.
        classes: (C,) the classes that have images, ascending.
        counts: (C,) images of each class, at least 1.
        n_neurons: (L,) FFN width F of each block.
        source: whether classes are the images' labels or their targets.
        scorer: of the method, empty where it has no name.
        search: likewise.
    """

    images: NDArray[np.str_]
    paths: NDArray[np.int64]
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_neurons: NDArray[np.int64]
    source: Source = "label"
    scorer: str = ""
    search: str = ""

    @property
    def n_images(self) -> int:
        """Number of images n."""
        return len(self.images)

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)

    @property
    def n_blocks(self) -> int:
        """Number of blocks L."""
        return self.paths.shape[1]

    @property
    def top_k(self) -> int:
        """Number of path neurons a block k."""
        return self.paths.shape[2]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(C,) where the images of each class begin."""
        return np.cumsum(self.counts) - self.counts

    @property
    def members(self) -> NDArray[np.int64]:
        """(n,) each image's class, as its position in ``classes``."""
        return np.repeat(np.arange(self.n_classes), self.counts)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(L,) where the neurons of each block begin when those of all blocks are numbered through."""
        return np.cumsum(self.n_neurons) - self.n_neurons

    def take(self, rows: NDArray[np.integer]) -> ClassPaths:
        """Return some of the images, given by ascending row; classes of which none is left are left out."""
        classes, counts = np.unique(self.members[rows], return_counts=True)
        return replace(
            self,
            images=self.images[rows],
            paths=self.paths[rows],
            classes=self.classes[classes],
            counts=counts.astype(np.int64),
        )

    def incidence(self) -> sparse.csr_array:
        """Return which neurons each image's path has: (n, ΣF) int64, 1 or 0, blocks side by side."""
        columns = (self.paths + self.offsets[:, None]).reshape(self.n_images, -1)
        columns.sort(axis=1)
        pointers = np.arange(self.n_images + 1) * columns.shape[1]
        ones = np.ones(columns.size, dtype=np.int64)
        return sparse.csr_array((ones, columns.ravel(), pointers), shape=(self.n_images, int(self.n_neurons.sum())))


def make_class_paths(
    paths: ArrayLike | Sequence[ArrayLike],
    classes: ArrayLike,
    *,
    images: Sequence[str] | None = None,
    n_neurons: int | Sequence[int] | None = None,
    source: Source = "label",
    scorer: str = "",
    search: str = "",
) -> ClassPaths:
    """Put paths in classes, from arrays.

    Args:
        paths: (n, L), or (n, L, k) for top-k paths: neuron indices.
        classes: (n,) integers.
        images: (n,) names, each once; their numbers when not given.
        n_neurons: FFN width F, one for all blocks or one per block; the highest neuron of all plus 1 when not given.
        source: what the classes are.
        scorer: of the method.
        search: of the method.

    Raises:
        NeuronPathError: for other shapes and types, no image, an image twice, a neuron that its block does not have,
            and a neuron twice in one block of a path.

    >>> make_class_paths([[0, 3], [1, 3], [1, 2]], [5, 5, 2], n_neurons=4).counts.tolist()
    [1, 2]
    """
    array = _check_paths(paths)
    n_images = len(array)
    labels = np.asarray(classes)
    if labels.shape != (n_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise NeuronPathError(
            f"The classes have shape {labels.shape} and type {labels.dtype}, expected ({n_images},) integers: one "
            "class per path."
        )
    names = np.array([f"{i:09d}" for i in range(n_images)] if images is None else images, dtype=np.str_)
    if names.shape != (n_images,):
        raise NeuronPathError(
            f"There are {len(names)} image names and {n_images} paths; give one name per path, or leave images out."
        )
    unique, times = np.unique(names, return_counts=True)
    if len(unique) < n_images:
        raise NeuronPathError(
            f"Image {str(unique[times.argmax()])!r} has {times.max()} paths of one method; expected one. "
            "Give the rows of one run."
        )
    widths = _check_widths(n_neurons, array)
    order = np.lexsort((names, labels))
    found, counts = np.unique(labels, return_counts=True)
    return ClassPaths(
        images=names[order],
        paths=array[order],
        classes=found.astype(np.int64),
        counts=counts.astype(np.int64),
        n_neurons=widths,
        source=source,
        scorer=scorer,
        search=search,
    )


def check_classes(paths: ClassPaths, what: str, *, pairs: bool = False) -> None:
    """Raise a NeuronPathError when there is nothing to compare: one class only, or one image in each.

    Args:
        paths: grouped paths.
        what: what was to be computed, to begin the message with.
        pairs: whether some class must have two images.
    """
    if paths.n_classes < 2:
        raise NeuronPathError(
            f"{what} needs two classes or more, but the {paths.source} of every image ({paths.n_images}) is "
            f"{paths.classes[0]}. Give paths of several classes."
        )
    if pairs and paths.counts.max() < 2:
        raise NeuronPathError(
            f"{what} needs a class with two images or more, but each of the {paths.n_classes} classes (by "
            f"{paths.source}) has one. Search more images."
        )


def _check_paths(paths: Any) -> NDArray[np.int64]:
    try:
        array = np.asarray(paths)
    except ValueError as error:
        raise NeuronPathError("The paths differ in shape; expected as many blocks and neurons in each.") from error
    if array.ndim not in (2, 3) or array.size == 0:
        raise NeuronPathError(f"The paths have shape {array.shape}, expected (n, L) or (n, L, k) with no empty axis.")
    if not np.issubdtype(array.dtype, np.integer):
        raise NeuronPathError(f"The paths have values of type {array.dtype}, expected integer neuron indices.")
    array = array.astype(np.int64).reshape(*array.shape[:2], -1)
    if array.min() < 0:
        raise NeuronPathError(
            f"The paths hold the neuron index {array.min()}, expected 0 or more: classes are compared by paths with "
            "neurons in every block, as searches find them with per_block=true."
        )
    ordered = np.sort(array, axis=2)
    if (ordered[:, :, 1:] == ordered[:, :, :-1]).any():
        raise NeuronPathError(
            "Some paths have a neuron twice in one block; expected k distinct ones. Give paths as a search finds them."
        )
    return array


def _check_widths(n_neurons: int | Sequence[int] | None, paths: NDArray[np.int64]) -> NDArray[np.int64]:
    n_blocks = paths.shape[1]
    highest = paths.max(axis=(0, 2))
    if n_neurons is None:
        return np.full(n_blocks, highest.max() + 1)
    widths = np.asarray(n_neurons)
    if widths.ndim == 0:
        widths = np.full(n_blocks, widths)
    if widths.shape != (n_blocks,) or not np.issubdtype(widths.dtype, np.integer) or widths.min() < 1:
        raise NeuronPathError(
            f"n_neurons is {n_neurons}, expected a positive integer, or one for each of the {n_blocks} blocks; "
            "or leave it out."
        )
    if (beyond := np.flatnonzero(highest >= widths)).size:
        block = int(beyond[0])
        raise NeuronPathError(
            f"The paths name neuron {highest[block]} in block {block}, which has {widths[block]} neurons; expected "
            f"0 to {widths[block] - 1}. Give n_neurons={highest.max() + 1} or more, or leave it out."
        )
    return widths.astype(np.int64)
