"""Means over images with bootstrap confidence intervals, and the jackknife's interval for other statistics."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neuron_path.errors import NeuronPathError
from neuron_path.stats.resampling import alike, resampled_means

_AT_ONCE = 2**23  # redrawn means at once: 64 MiB
_THREADS = 4  # that draw at the same time, at most


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` images and the interval that holds the true mean with probability ``confidence``."""

    mean: float
    low: float
    high: float
    n: int
    confidence: float = 0.95

    @property
    def includes_zero(self) -> bool:
        """Whether 0, no effect, cannot be excluded. So it is also for one image, whose bounds are unknown (NaN).

        >>> Interval(0.3, -0.1, 0.7, n=20).includes_zero, Interval(0.3, 0.1, 0.5, n=20).includes_zero
        (True, False)
        """
        return not (self.low > 0 or self.high < 0)

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return the numbers by name, ``includes_zero`` among them.

        >>> Interval(0.3, 0.1, 0.5, n=20).to_dict()
        {'mean': 0.3, 'low': 0.1, 'high': 0.5, 'n': 20, 'confidence': 0.95, 'includes_zero': False}
        """
        return {**dataclasses.asdict(self), "includes_zero": self.includes_zero}


def bootstrap_mean(values: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0) -> Interval:
    """Return the mean of ``values`` with its percentile bootstrap interval.

    Images are redrawn with replacement ``n_resamples`` times; the bounds are the (1 ∓ confidence)/2 quantiles of the
    redrawn means (Efron and Tibshirani 1993, ch. 13). Percentile, not BCa, because it exists for every sample, also
    where BCa degenerates (nearly all values equal, as accuracy changes are), and because its cost grows with n, where
    BCa's jackknife grows with n². Over the hundreds of images of a run the two hardly differ.

    Args:
        values: (n,) one finite number per image, in any unit.
        confidence: probability that the interval is to hold, in (0, 1).
        n_resamples: number of redrawn samples, at least 1.
        seed: of the draws; the same seed and values give the same interval.

    Returns:
        Mean and bounds in the unit of ``values``. One value says nothing about the spread: its bounds are NaN. Values
        that are all equal give that value as both bounds: no redraw can differ.

    Raises:
        NeuronPathError: for no values, values that are not finite, another shape, or arguments out of range.

    >>> interval = bootstrap_mean([0.1, 0.2, 0.3, 0.4])
    >>> round(interval.mean, 9), interval.low < 0.2, interval.high > 0.3, interval.n
    (0.25, True, True, 4)
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise NeuronPathError(f"The values to average have shape {sample.shape}; expected (n,), one per image.")
    return bootstrap_means(sample[None], confidence=confidence, n_resamples=n_resamples, seed=seed)[0]


def bootstrap_means(
    rows: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> list[Interval]:
    """Return the interval of each of ``rows``, K sets of values for the same n images, from the same redraws.

    Args:
        rows: (K, n) finite numbers; a row's interval is that of :func:`bootstrap_mean`, to rounding.
        confidence: as there.
        n_resamples: as there.
        seed: as there.

    Raises:
        NeuronPathError: as there.

    >>> [interval.mean for interval in bootstrap_means([[1.0, 3.0], [0.0, 0.0]])]
    [2.0, 0.0]
    """
    samples = np.asarray(rows, dtype=np.float64)
    check_samples(samples, confidence, n_resamples)
    low, high = np.empty((2, len(samples)))
    varied = np.flatnonzero((samples != samples[:, :1]).any(axis=1))  # of others no redraw can differ
    size = max(1, _AT_ONCE // n_resamples)
    blocks = [varied[begin : begin + size] for begin in range(0, len(varied), size)]

    def fill(block: NDArray[np.intp]) -> None:
        low[block], high[block] = percentiles(resampled_means(samples[block], n_resamples, seed), confidence)

    # NumPy lets go of the interpreter's lock; a block's numbers do not depend on the others.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, blocks))
    return intervals_of(samples, low, high, confidence)


def bootstrap_tables(
    tables: Sequence[NDArray[np.float64]], *, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> list[list[Interval]]:
    """Return what :func:`bootstrap_means` gives for each table, (K, n), in less time where many have the same n."""
    found: list[list[Interval]] = [[] for _ in tables]
    for same in alike(table.shape[1] for table in tables):
        rows = np.concatenate([tables[index] for index in same])
        intervals = iter(bootstrap_means(rows, confidence=confidence, n_resamples=n_resamples, seed=seed))
        for index in same:
            found[index] = list(islice(intervals, len(tables[index])))
    return found


def intervals_of(
    samples: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], confidence: float
) -> list[Interval]:
    """Return the intervals of K sets of n values, (K, n), given the bounds of those whose values are not all equal."""
    n = samples.shape[1]
    means, constant = samples.mean(axis=1), (samples == samples[:, :1]).all(axis=1)
    # The rounded mean of equal values may differ from them in the last digit.
    means[constant] = samples[constant, 0]
    if n == 1:
        low = high = np.full_like(means, np.nan)
    else:
        low, high = np.where(constant, means, low), np.where(constant, means, high)
    return [
        Interval(*map(float, numbers), n=n, confidence=confidence) for numbers in zip(means, low, high, strict=True)
    ]


def percentiles(redrawn: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (1 ∓ confidence)/2 quantiles of each row of redrawn means, (K, R), as ``numpy.quantile`` has them.

    It parts nothing off but the two tails, in place, so that rows are in another order afterwards: a quarter of the
    time for the many rows of a comparison class by class.
    """
    last = redrawn.shape[1] - 1
    rank = last * (1 - confidence) / 2
    least = int(rank)
    share, after = rank - least, min(least + 1, last)
    redrawn.partition(after, axis=1)
    low = redrawn[:, : least + 1].max(axis=1)
    low += share * (redrawn[:, after] - low)
    redrawn.partition(last - after, axis=1)
    high = redrawn[:, last - least :].min(axis=1)
    high -= share * (high - redrawn[:, last - after])
    return low, high


def check_samples(samples: np.ndarray, confidence: float, n_resamples: int) -> None:
    """Raise a NeuronPathError unless there are K rows of n finite values, and the options are in range."""
    if samples.ndim != 2:
        raise NeuronPathError(f"The rows to average have shape {samples.shape}; expected (K, n), a column per image.")
    if not samples.shape[1]:
        raise NeuronPathError("There are no values to average; expected at least one image. Check the selection.")
    if wrong := int((~np.isfinite(samples)).sum()):
        raise NeuronPathError(
            f"{wrong} of {samples.size} values to average are NaN or infinite; expected finite numbers. "
            "Find the images that gave them, or leave them out."
        )
    if not 0 < confidence < 1:
        raise NeuronPathError(f"confidence is {confidence}; expected a number between 0 and 1, such as 0.95.")
    if n_resamples < 1:
        raise NeuronPathError(f"n_resamples is {n_resamples}; expected 1 or more, such as 9999.")


def jackknife_interval(value: float, without: NDArray[np.float64], confidence: float) -> Interval:
    """The normal interval of a statistic with the jackknife's standard error (Arvesen 1969).

    Args:
        value: of the statistic, on all n images.
        without: (n,) its values without each image in turn; the bounds are NaN where one of them is none.
        confidence: in (0, 1).
    """
    n = len(without)
    without = np.where(np.isfinite(without), without, np.nan)
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Interval(value, value - reach, value + reach, n=n, confidence=confidence)
