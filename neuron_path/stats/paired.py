"""Tests of one method against another on the same images, and their correction for being many."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.stats.intervals import Interval, check_samples, intervals_of, percentiles
from neuron_path.stats.resampling import ROUNDING, resampled_means, sign_flip_p_values


@dataclasses.dataclass(frozen=True, slots=True)
class PairedTest:
    """The mean difference of two methods over the same images, and how likely one so large is without any.

    Attributes:
        difference: mean of first − second with its bootstrap interval, in the unit of the values.
        p: two-sided p-value of the sign-flip permutation test, uncorrected, in (0, 1].
    """

    difference: Interval
    p: float


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 9999,
    n_permutations: int = 19_999,
    seed: int = 0,
) -> PairedTest:
    """Test whether two methods differ, from their values for the same images.

    If the methods did not differ, each image's difference would as likely have the other sign. The p-value is the share
    of all (for up to 15 images) or of ``n_permutations`` random choices of signs whose mean difference is at least as
    far from 0 as the observed one; this one is counted among the random ones, so that no p is 0 (Phipson and Smyth
    2010). It is what ``scipy.stats.permutation_test`` with ``permutation_type="samples"`` estimates, but for taking
    both tails at once, which is the same because the signs make them equal.

    Args:
        first: (n,) one finite number per image.
        second: (n,) those of the other method, in the same unit and order of images.
        confidence: of the interval of the mean difference, in (0, 1).
        n_bootstrap: redrawn samples for that interval.
        n_permutations: random choices of signs.
        seed: of both; the same values in the same order give the same digits.

    Raises:
        NeuronPathError: for unequal shapes, no values, values that are not finite, or arguments out of range.

    >>> test = paired_test([0.9, 0.8, 0.7, 0.9], [0.5, 0.4, 0.6, 0.8])
    >>> round(test.difference.mean, 9), test.p
    (0.25, 0.125)
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise NeuronPathError(
            f"The values to compare have shapes {one.shape} and {other.shape}; expected (n,) twice. "
            "Join them by sample_id first."
        )
    _, (test,) = paired_tests(
        np.stack([one, other]),
        [(0, 1)],
        confidence=confidence,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        seed=seed,
    )
    return test


def paired_tests(
    rows: ArrayLike,
    pairs: ArrayLike,
    *,
    confidence: float = 0.95,
    n_bootstrap: int = 9999,
    n_permutations: int = 19_999,
    seed: int = 0,
) -> tuple[list[Interval], list[PairedTest]]:
    """Average K methods over the same n images and test P pairs of them, all from the same draws.

    What is drawn of a difference is the difference of what is drawn of its two rows, so that many pairs cost no more
    than their rows.

    Args:
        rows: (K, n) finite values, per method and image.
        pairs: (P, 2) which row is compared with which.
        confidence: as for :func:`paired_test`.
        n_bootstrap: as there.
        n_permutations: as there.
        seed: as there.

    Returns:
        The interval of each row, as :func:`neuron_path.stats.intervals.bootstrap_means` gives it, and the test of each
        pair.

    Raises:
        NeuronPathError: as there.
    """
    samples, indices = np.asarray(rows, dtype=np.float64), np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if n_permutations < 1:
        raise NeuronPathError(f"n_permutations is {n_permutations}; expected 1 or more, such as 19999.")
    check_samples(samples, confidence, n_bootstrap)
    redrawn = resampled_means(samples, n_bootstrap, seed)
    p_values = sign_flip_p_values(samples, indices, n_permutations, seed)
    rounding = ROUNDING * np.abs(samples).mean(axis=1)
    tests = []
    for (i, j), p in zip(indices.tolist(), p_values.tolist(), strict=True):
        difference = redrawn[i] - redrawn[j]
        # Samples on which two methods agree: what is left of their difference is rounding.
        difference[np.abs(difference) <= rounding[i] + rounding[j]] = 0
        bounds = percentiles(difference[None], confidence)
        (interval,) = intervals_of((samples[i] - samples[j])[None], *bounds, confidence)
        tests.append(PairedTest(interval, p))
    return intervals_of(samples, *percentiles(redrawn, confidence), confidence), tests


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Correct the p-values of one family of tests, so that all of it errs with the probability that each claims.

    The step-down procedure of Holm (1979): in ascending order, the i-th of K is multiplied by K − i + 1; none becomes
    smaller than one before it, nor larger than 1. It asks nothing about how the tests depend on each other.

    Args:
        p_values: (K,) in [0, 1]; no value is allowed.

    Returns:
        (K,) corrected p-values, in the same order.

    Raises:
        NeuronPathError: for another shape or values that are no probabilities.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    array([0.03, 0.06, 0.06, 0.02])
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise NeuronPathError(f"The p-values to correct are {values.tolist()}; expected (K,) values in [0, 1].")
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return corrected
