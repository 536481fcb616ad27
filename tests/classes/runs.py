"""Made-up runs whose classes are known, and their statistics written down literally, pair by pair, count by count."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from neuron_path.classes.class_paths import ClassPaths, make_class_paths


def make_frame(paths: Any, labels: Any, **columns: Any) -> pd.DataFrame:
    """The columns of a stored run that class statistics read."""
    n = len(labels)
    rows = {
        "sample_id": [f"image/{index}.png" for index in range(n)],
        "label": pd.array(list(labels), dtype="Int32"),
        "target": [0 if label is None else int(label) for label in labels],
        "path": list(np.asarray(paths, dtype=np.int32)),
        "scorer": ["joint_attribution"] * n,
        "search": ["greedy"] * n,
        "top_k": [1 if np.ndim(paths) == 2 else np.shape(paths)[2]] * n,
    }
    return pd.DataFrame(rows | columns)


def draw_paths(rng: np.random.Generator, n: int, n_blocks: int, n_neurons: int, top_k: int) -> np.ndarray:
    """Paths (n, L, k) of distinct neurons, drawn without regard to anything."""
    order = rng.random((n, n_blocks, n_neurons)).argsort(axis=2)
    return order[:, :, :top_k]


def planted(
    n_classes: int, n_each: int, *, n_blocks: int = 8, n_neurons: int = 64, top_k: int = 1, own: float = 0.6,
    shared: float = 0.0, groups: int = 1, seed: int = 0,
) -> ClassPaths:  # fmt: skip
    """Paths that follow their class's favourites in a share ``own`` of the blocks, and their group's in ``shared``."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n_each)
    paths = draw_paths(rng, len(labels), n_blocks, n_neurons, top_k)
    favourites = draw_paths(rng, n_classes, n_blocks, n_neurons, top_k)[labels]
    common = draw_paths(rng, groups, n_blocks, n_neurons, top_k)[labels % groups]
    choice = rng.random((len(labels), n_blocks, 1))
    paths = np.where(choice < own, favourites, np.where(choice < own + shared, common, paths))
    return make_class_paths(paths, labels, n_neurons=n_neurons)


@st.composite
def small_runs(draw: st.DrawFn, *, max_k: int = 3, min_classes: int = 1) -> ClassPaths:
    """A few images, blocks and neurons, so that much coincides."""
    n, n_blocks, n_neurons = draw(st.integers(3, 12)), draw(st.integers(1, 3)), draw(st.integers(3, 6))
    top_k = draw(st.integers(1, max_k))
    neurons = st.lists(st.integers(0, n_neurons - 1), min_size=top_k, max_size=top_k, unique=True)
    path = st.lists(neurons, min_size=n_blocks, max_size=n_blocks)
    paths = draw(st.lists(path, min_size=n, max_size=n))
    labels = [*range(min_classes), 0, *draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))][:n]
    return make_class_paths(paths, np.array(labels) * 3, n_neurons=n_neurons)


def literal_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over blocks of the Jaccard index of two paths, by Python's sets."""
    indices = [len({*a} & {*b}) / len({*a} | {*b}) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    return sum(indices) / len(indices)


def literal_pairs(paths: ClassPaths, labels: Any) -> tuple[list[float], list[float]]:
    """The overlaps of all pairs of images of the same class, and of different classes."""
    within, between = [], []
    for i, j in itertools.combinations(range(paths.n_images), 2):
        (within if labels[i] == labels[j] else between).append(literal_overlap(paths.paths[i], paths.paths[j]))
    return within, between


def literal_usage(paths: ClassPaths) -> dict[tuple[int, int, int], int]:
    """Images by class, block and neuron."""
    found: dict[tuple[int, int, int], int] = {}
    for image, member in enumerate(paths.members.tolist()):
        for block, chosen in enumerate(paths.paths[image].tolist()):
            for neuron in chosen:
                key = int(paths.classes[member]), block, neuron
                found[key] = found.get(key, 0) + 1
    return found
