"""How alike classes are by the neurons that they use."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from neuron_path.classes.usage import Usage
from neuron_path.errors import NeuronPathError


def class_similarity(usage: Usage) -> NDArray[np.float64]:
    """Return the cosine similarity of the classes' usage frequencies over all blocks and neurons.

    s(c, d) = Σ f_c f_d / √(Σ f_c² · Σ f_d²): 1 for classes that use the same neurons equally often, 0 for classes that
    share none.

    Returns:
        (C, C) symmetric, in [0, 1], 1 on the diagonal.

    Raises:
        NeuronPathError: for one class only.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> from neuron_path.classes.usage import count_usage
    >>> class_similarity(count_usage(make_class_paths([[0, 3], [0, 2]], [0, 1]))).round(3).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    if len(usage.classes) < 2:
        raise NeuronPathError(
            f"Similarity needs two classes or more, but all images are of class {usage.classes[0]}. Give paths of "
            "several classes."
        )
    rows = unit_rows(usage.counts)
    similarity = (rows @ rows.T).toarray().clip(0, 1)
    # The order of summation may differ between the two halves.
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 1)
    return similarity


def unit_rows(counts: sparse.csr_array) -> sparse.csr_array:
    """Return the rows scaled to length 1, float64; no row may be 0."""
    values = counts.astype(np.float64)
    lengths = np.sqrt(values.multiply(values).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1 / np.asarray(lengths).ravel()) @ values)


def neighbours(similarity: ArrayLike, classes: ArrayLike) -> pd.DataFrame:
    """Return each class's nearest and farthest class; ties go to the class that comes first.

    Args:
        similarity: (C, C) symmetric.
        classes: (C,) the classes.

    Returns:
        One row per class: ``class``, ``nearest``, ``nearest_similarity``, ``farthest``, ``farthest_similarity``.

    Raises:
        NeuronPathError: for anything but a symmetric matrix of two classes or more.

    >>> neighbours([[1, 0.2, 0.9], [0.2, 1, 0.1], [0.9, 0.1, 1]], [3, 5, 8])["nearest"].tolist()
    [8, 3, 3]
    """
    matrix, names = check_similarity(similarity, classes)
    rows = np.arange(len(matrix))
    others = matrix.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = others.argmax(axis=1)
    np.fill_diagonal(others, np.inf)
    farthest = others.argmin(axis=1)
    return pd.DataFrame(
        {
            "class": names,
            "nearest": names[nearest],
            "nearest_similarity": matrix[rows, nearest],
            "farthest": names[farthest],
            "farthest_similarity": matrix[rows, farthest],
        }
    )


def rank_pairs(similarity: ArrayLike, classes: ArrayLike) -> pd.DataFrame:
    """Return all pairs of classes, the most similar first; ties by class.

    Args:
        similarity: (C, C) symmetric.
        classes: (C,) the classes.

    Returns:
        One row per pair: ``class``, ``other``, ``similarity``.

    Raises:
        NeuronPathError: as :func:`neighbours`.

    >>> rank_pairs([[1, 0.2, 0.9], [0.2, 1, 0.1], [0.9, 0.1, 1]], [3, 5, 8]).iloc[0].tolist()
    [3.0, 8.0, 0.9]
    """
    matrix, names = check_similarity(similarity, classes)
    one, other = np.triu_indices(len(matrix), k=1)
    values = matrix[one, other]
    order = np.argsort(-values, kind="stable")
    return pd.DataFrame({"class": names[one[order]], "other": names[other[order]], "similarity": values[order]})


def check_similarity(
    similarity: ArrayLike, classes: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    """Return a similarity matrix as float64 and its classes, their numbers when not given.

    Raises:
        NeuronPathError: for another shape than (C, C) with C at least 2, values that are not finite or not symmetric,
            and another number of classes.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise NeuronPathError(f"The similarity has shape {matrix.shape}, expected (C, C) for two classes or more.")
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=0, atol=1e-9):
        raise NeuronPathError("The similarity is not symmetric or not finite, expected s(c, d) = s(d, c).")
    names = np.arange(len(matrix)) if classes is None else np.asarray(classes)
    if names.shape != (len(matrix),):
        raise NeuronPathError(f"There are {names.size} classes for a similarity of {len(matrix)}; give one per row.")
    return matrix, names
