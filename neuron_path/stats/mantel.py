"""Whether two matrices over the same classes go together: the Mantel test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neuron_path.errors import NeuronPathError, unknown_name

Correlation = Literal["spearman", "pearson"]

_CORRELATIONS: Final = ("spearman", "pearson")
_LEAST: Final = 4
_BATCH: Final = 2**22
"""Pairs that a batch of shuffles handles at once."""
_ROUNDING: Final = 1e-11


@dataclass(frozen=True, slots=True)
class Mantel:
    """How two matrices over the same classes go together.

    Attributes:
        r: correlation over pairs of classes, in [−1, 1].
        p: two-sided p-value of the permutation test, in (0, 1].
        correlation: ``spearman`` (of ranks) or ``pearson``.
        n_permutations: shuffles behind it.
        n_classes: the classes.
    """

    r: float
    p: float
    correlation: str
    n_permutations: int
    n_classes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def mantel(
    one: ArrayLike,
    other: ArrayLike,
    *,
    correlation: Correlation = "spearman",
    n_permutations: int = 9999,
    seed: int = 0,
) -> Mantel:
    """Correlate two symmetric matrices over the same classes, and test it by shuffling the classes of one.

    r is the correlation over the C (C − 1) / 2 pairs of classes. Pairs that share a class are not independent, so the
    test shuffles classes, not pairs: p = (1 + #{shuffles with |r| at least the observed}) / (1 + n_permutations)
    (Mantel 1967; Phipson and Smyth 2010).

    Args:
        one: (C, C) symmetric, such as a class similarity; C at least 4. The diagonal is not read.
        other: (C, C) symmetric, such as a semantic distance.
        correlation: ``spearman`` of ranks, which any monotonic relation makes ±1, or ``pearson``.
        n_permutations: shuffles, at least 1.
        seed: of the shuffles.

    Raises:
        NeuronPathError: for unequal shapes, fewer than four classes (too few to shuffle), values that are not finite or
            not symmetric, and a matrix whose pairs are all equal.

    >>> near = [[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]]
    >>> found = mantel(near, np.square(near), n_permutations=99)
    >>> round(found.r, 9), found.n_classes
    (1.0, 4)
    """
    if correlation not in _CORRELATIONS:
        raise unknown_name("correlation", correlation, _CORRELATIONS)
    if n_permutations < 1:
        raise NeuronPathError(f"n_permutations is {n_permutations}; expected 1 or more, such as 9999.")
    first, second = _check(one), _check(other)
    if first.shape != second.shape:
        raise NeuronPathError(
            f"The two matrices have {len(first)} and {len(second)} classes; expected the same classes in both."
        )
    n = len(first)
    pairs = np.triu_indices(n, k=1)
    ours = _standardised(first[pairs], correlation)
    theirs = np.zeros((n, n))
    theirs[pairs] = _standardised(second[pairs], correlation)
    theirs += theirs.T
    observed = float(ours @ theirs[pairs])
    rng = np.random.default_rng(seed)
    reached = 0
    size = max(1, _BATCH // len(ours))
    for begin in range(0, n_permutations, size):
        orders = rng.permuted(np.tile(np.arange(n), (min(size, n_permutations - begin), 1)), axis=1)
        shuffled = theirs[orders[:, pairs[0]], orders[:, pairs[1]]] @ ours
        reached += int((np.abs(shuffled) >= abs(observed) - _ROUNDING).sum())
    p = (1 + reached) / (1 + n_permutations)
    return Mantel(float(np.clip(observed, -1, 1)), p, correlation, n_permutations, n)


def _check(matrix: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < _LEAST:
        raise NeuronPathError(
            f"A matrix over classes has shape {values.shape}; expected (C, C) for {_LEAST} classes or more."
        )
    values = values.copy()
    np.fill_diagonal(values, 0)
    if not np.isfinite(values).all() or not np.allclose(values, values.T, rtol=1e-9, atol=1e-9):
        raise NeuronPathError("A matrix over classes is not symmetric or not finite; expected m(c, d) = m(d, c).")
    return values


def _standardised(values: NDArray[np.float64], correlation: str) -> NDArray[np.float64]:
    """Centred, of length 1: the product of two is their correlation."""
    ranked = stats.rankdata(values.round(12)) if correlation == "spearman" else values
    centred = ranked - ranked.mean()
    length = float(np.linalg.norm(centred))
    if length <= 1e-12 * max(1.0, float(np.abs(ranked).max())):
        raise NeuronPathError("All pairs of classes have the same value, so there is nothing to correlate.")
    return centred / length
