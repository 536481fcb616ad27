"""Which neurons are looked at: those on the paths, the most used first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def choose_neurons(methods: Sequence[NDArray[np.integer]], limit: int) -> tuple[list[NDArray[np.int64]], list[int]]:
    """Choose, block by block, the neurons that are on most paths; those of an earlier method before those of a later.

    Args:
        methods: (n, L, k) the paths of each method, the one that matters most first.
        limit: neurons per block.

    Returns:
        For each block the neurons, ascending; and how many others are on paths.

    >>> neurons, left = choose_neurons([np.array([[[3]], [[3]], [[1]]]), np.array([[[0]], [[3]], [[2]]])], limit=3)
    >>> [part.tolist() for part in neurons], left
    ([[0, 1, 3]], [1])
    """
    chosen, left = [], []
    for block in range(methods[0].shape[1]):
        ranked: dict[int, None] = {}
        for paths in methods:
            neurons, counts = np.unique(paths[:, block], return_counts=True)
            ranked |= dict.fromkeys(neurons[np.lexsort((neurons, -counts))].tolist())
        chosen.append(np.array(sorted([*ranked][:limit]), dtype=np.int64))
        left.append(max(0, len(ranked) - limit))
    return chosen, left
