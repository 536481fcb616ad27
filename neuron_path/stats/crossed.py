"""Means over seeds and images at once: intervals when every seed has seen some of the same images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.stats.intervals import Interval, bootstrap_means

_AT_ONCE = 2**21  # weights drawn at once


def crossed_means(
    values: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 1999, seed: int = 0
) -> list[Interval]:
    """Return the means of values that depend on a seed and an image, each with an interval over both.

    Seeds and images are redrawn with replacement, each on its own, and a value counts as often as its seed was drawn
    times its image (the pigeonhole bootstrap; Owen, Annals of Applied Statistics 2007, doi 10.1214/07-AOAS122). With
    few seeds it knows little about how these differ; with one, only the images are redrawn.

    Args:
        values: (K, S, n) tables of one number per seed and image, which share their redraws; NaN, at the same places in
            every table, where that seed has not seen that image.
        confidence: probability that the interval is to hold, in (0, 1).
        n_resamples: number of redraws.
        seed: of the redraws.

    Returns:
        Of each table mean of all values and bounds, in their unit; ``n`` counts the images that any seed has seen. For
        one image the bounds are NaN.

    Raises:
        NeuronPathError: another shape, a seed without any value, infinite values, NaN at different places, arguments
            out of range.

    >>> (interval,) = crossed_means([[[1.0, 0.0, np.nan], [1.0, np.nan, 1.0]]])
    >>> interval.mean, interval.n
    (0.75, 3)
    """
    tables = np.asarray(values, dtype=np.float64)
    seen = _seen(tables)
    if not 0 < confidence < 1 or n_resamples < 1:
        raise NeuronPathError(
            f"confidence is {confidence} and n_resamples {n_resamples}; expected a number between 0 and 1 and one from "
            "1 on, such as confidence=0.95, n_resamples=1999."
        )
    tables, seen = tables[:, :, seen.any(axis=0)], seen[:, seen.any(axis=0)]
    if tables.shape[1] == 1:
        return bootstrap_means(tables[:, 0], confidence=confidence, n_resamples=n_resamples, seed=seed)
    n = tables.shape[2]
    whole = np.where(seen, tables, 0.0)
    means = whole.sum(axis=(1, 2)) / seen.sum()
    low, high = np.full(len(tables), np.nan), np.full(len(tables), np.nan)
    if n > 1:
        redrawn = _redrawn(whole, seen, n_resamples, seed)
        low, high = np.quantile(redrawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return [Interval(*map(float, row), n=n, confidence=confidence) for row in zip(means, low, high, strict=True)]


def _seen(tables: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where there are values: (S, n)."""
    if tables.ndim != 3 or not tables.size:
        raise NeuronPathError(f"The values to average have shape {tables.shape}; expected (tables, seeds, images).")
    seen = ~np.isnan(tables)
    if (seen != seen[0]).any():
        raise NeuronPathError("The tables to average have values for different seeds and images: compare the same.")
    if not seen[0].any(axis=1).all():
        raise NeuronPathError("A seed has no value for any image: leave it out.")
    if not np.isfinite(tables[:, seen[0]]).all():
        raise NeuronPathError("Some values to average are infinite: find the images that gave them.")
    return seen[0]


def _redrawn(whole: NDArray[np.float64], seen: NDArray[np.bool_], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """(K, R) means of the redraws that hold any value."""
    (n_seeds, n), rng = seen.shape, np.random.default_rng(seed)
    parts = []
    for begin in range(0, n_resamples, max(1, _AT_ONCE // n)):
        size = min(max(1, _AT_ONCE // n), n_resamples - begin)
        seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size).astype(np.float64)
        images = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        counts = ((seeds @ seen) * images).sum(axis=1)
        held = counts > 0
        sums = np.stack([((seeds @ table) * images).sum(axis=1) for table in whole])
        parts.append(sums[:, held] / counts[held])
    return np.concatenate(parts, axis=1)
