"""How often the images of a class have each neuron on their path, and how concentrated that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from neuron_path.classes.class_paths import ClassPaths
from neuron_path.errors import NeuronPathError


@dataclass(frozen=True, eq=False)
class Usage:
    """Usage of neurons by classes: sparse, because a class uses few of the neurons.

    Attributes:
        counts: (C, ΣF) int64: images of the class whose path has the neuron. Blocks lie side by side.
        classes: (C,) the classes.
        n_images: (C,) images of each class.
        n_neurons: (L,) FFN width F of each block.
        top_k: path neurons a block k: the counts of a class and block sum to k times its images.
    """

    counts: sparse.csr_array
    classes: NDArray[np.int64]
    n_images: NDArray[np.int64]
    n_neurons: NDArray[np.int64]
    top_k: int

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(L + 1,) where the neurons of each block begin and end among the columns."""
        return np.concatenate([[0], np.cumsum(self.n_neurons)])

    def block(self, index: int) -> sparse.csr_array:
        """Return the counts in one block, (C, F)."""
        begin, end = self.offsets[index : index + 2]
        return self.counts[:, begin:end]

    def frequencies(self) -> sparse.csr_array:
        """Return the share of the class's images whose path has the neuron, (C, ΣF) in [0, 1]."""
        return sparse.csr_array(sparse.diags_array(1 / self.n_images) @ self.counts)

    def to_array(self) -> NDArray[np.float64]:
        """Return the frequencies as (C, L, F), for blocks of one width. It may be large.

        Raises:
            NeuronPathError: when blocks differ in width.
        """
        if len(set(self.n_neurons.tolist())) > 1:
            raise NeuronPathError(
                f"The blocks have {self.n_neurons.tolist()} neurons, but an array needs equal widths; use to_frame()."
            )
        return self.frequencies().toarray().reshape(len(self.classes), len(self.n_neurons), -1)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per class, block and neuron in use, sorted by these.

        Columns: ``class``, ``block``, ``neuron``, ``count`` (images), ``n`` (images of the class), ``frequency`` (count
        / n).
        """
        table = self.counts.tocoo()
        rows, columns = table.coords
        order = np.lexsort((columns, rows))
        rows, columns, counts = rows[order], columns[order], table.data[order]
        blocks = np.searchsorted(self.offsets, columns, side="right") - 1
        n = self.n_images[rows]
        return pd.DataFrame(
            {
                "class": self.classes[rows],
                "block": blocks,
                "neuron": columns - self.offsets[blocks],
                "count": counts,
                "n": n,
                "frequency": counts / n,
            }
        )


def count_usage(paths: ClassPaths) -> Usage:
    """Count for each class how many of its images have each neuron on their path.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> usage = count_usage(make_class_paths([[0, 3], [1, 3], [1, 2]], [5, 5, 2], n_neurons=4))
    >>> usage.counts.toarray().tolist()
    [[0, 1, 0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0, 2]]
    """
    summed = _one_hot(paths) @ paths.incidence()
    counts = sparse.csr_array(summed)
    counts.sort_indices()
    return Usage(counts, paths.classes, paths.counts, paths.n_neurons, paths.top_k)


def concentration(usage: Usage) -> pd.DataFrame:
    """Say for each class and block how concentrated its choices are.

    With p_j = count_j / Σ count the share of the class's choices in this block that fell on neuron j of F:

    - ``entropy`` = −Σ p_j log p_j, in nats; ``effective_neurons`` = exp(entropy), from 1 (always the same k: k) to F;
    - ``gini`` = Σ_i Σ_j |p_i − p_j| / (2 F), over all F neurons, used or not: 0 when all are used alike, 1 − 1/F when
      one is used alone. Of thousands of neurons a class can use no more than its images choose, so it is always high;
      compare classes of like size;
    - ``top_neuron``, the most often chosen one (ties: the lowest index), and ``top_share``, the share of the class's
      *images* whose path has it.

    All of these depend on ``n``, the images of the class: n images cannot choose more than n · k neurons.

    Returns:
        One row per class and block, sorted by these: ``class``, ``block``, ``n``, ``used_neurons``, ``entropy``,
        ``effective_neurons``, ``gini``, ``top_neuron``, ``top_share``.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> table = concentration(count_usage(make_class_paths([[0], [0], [0], [2]], [1, 1, 1, 1], n_neurons=4)))
    >>> table[["used_neurons", "gini", "top_neuron", "top_share"]].iloc[0].tolist()
    [2.0, 0.625, 0.0, 0.75]
    """
    frame = usage.to_frame()
    classes, blocks, neurons, counts, n = (
        frame[name].to_numpy(dtype=np.int64) for name in ("class", "block", "neuron", "count", "n")
    )
    # The rows of a class and block follow each other; one is a group.
    starts = np.flatnonzero(np.diff(classes, prepend=classes[0] - 1) | np.diff(blocks, prepend=-1))
    used = np.diff(starts, append=len(frame))
    group = np.repeat(np.arange(len(starts)), used)
    share = counts / (n * usage.top_k)
    entropy = np.maximum(-np.add.reduceat(share * np.log(share), starts), 0.0)
    # Over the sorted p: Σ (2 rank − F − 1) p / F; the unused neurons take the first ranks and add nothing.
    widths = usage.n_neurons[blocks]
    order = np.lexsort((counts, group))
    rank = np.arange(len(frame)) - starts[group] + 1 + widths - used[group]
    gini = np.add.reduceat((2 * rank - widths - 1) * share[order] / widths, starts)
    top = np.lexsort((neurons, -counts, group))[starts]
    return pd.DataFrame(
        {
            "class": classes[starts],
            "block": blocks[starts],
            "n": n[starts],
            "used_neurons": used,
            "entropy": entropy,
            "effective_neurons": np.exp(entropy),
            "gini": np.maximum(gini, 0.0),
            "top_neuron": neurons[top],
            "top_share": counts[top] / n[starts],
        }
    )


def _one_hot(paths: ClassPaths) -> sparse.csr_array:
    """(C, n), 1 where the image is of the class; images are sorted by class already."""
    pointers = np.concatenate([paths.starts, [paths.n_images]])
    ones = np.ones(paths.n_images, dtype=np.int64)
    return sparse.csr_array((ones, np.arange(paths.n_images), pointers), shape=(paths.n_classes, paths.n_images))
