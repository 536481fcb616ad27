"""Means over seeds and images against redraws that are spelt out."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.stats.crossed import crossed_means
from neuron_path.stats.intervals import bootstrap_mean


def literal_interval(values: np.ndarray, n_resamples: int, seed: int) -> tuple[float, float]:
    """Seeds and images drawn one by one, and every value listed as often as both were."""
    rng, means = np.random.default_rng(seed), []
    for _ in range(n_resamples):
        seeds = rng.integers(len(values), size=len(values))
        images = rng.integers(values.shape[1], size=values.shape[1])
        listed = values[np.ix_(seeds, images)]
        means.append(np.nanmean(listed))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def some_values(n_seeds: int = 4, n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(n_seeds, 1)) + rng.normal(size=(1, n)) + rng.normal(size=(n_seeds, n))
    values[rng.random(values.shape) < 0.5] = np.nan
    return values


def test_it_is_the_interval_of_spelt_out_redraws() -> None:
    values = some_values()
    (interval,) = crossed_means(values[None], n_resamples=4000)
    assert interval.mean == pytest.approx(np.nanmean(values))
    low, high = literal_interval(values, 4000, seed=5)
    width = high - low
    assert interval.low == pytest.approx(low, abs=0.06 * width)
    assert interval.high == pytest.approx(high, abs=0.06 * width)
    # Wider than if the seeds did not matter.
    seen = values[:, ~np.isnan(values).all(axis=0)]
    images_only = bootstrap_mean(np.nanmean(seen, axis=0))
    assert interval.high - interval.low > 1.2 * (images_only.high - images_only.low)


def test_one_seed_is_the_bootstrap_over_its_images() -> None:
    values = some_values()[:1]
    assert crossed_means(values[None], n_resamples=500) == [bootstrap_mean(values[~np.isnan(values)], n_resamples=500)]


def test_many_tables_share_their_redraws() -> None:
    values = some_values()
    both = crossed_means(np.stack([values, 2 * values, -values]), n_resamples=300)
    (alone,) = crossed_means(values[None], n_resamples=300)
    assert (both[0].mean, both[0].low, both[0].high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert both[1].low == pytest.approx(2 * both[0].low)
    assert both[2].low == pytest.approx(-both[0].high)


def test_equal_values_leave_nothing_open_and_one_image_everything() -> None:
    (equal,) = crossed_means([[[3.0, np.nan, 3.0], [np.nan, 3.0, 3.0]]], n_resamples=100)
    assert (equal.mean, equal.low, equal.high, equal.n) == (3.0, 3.0, 3.0, 3)
    (alone,) = crossed_means([[[1.0], [2.0]]])
    assert alone.mean == 1.5
    assert np.isnan(alone.low)
    assert alone.includes_zero


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 2.0], "expected"),
        ([[np.nan, np.nan], [1.0, 2.0]], "no value for any image"),
        ([[1.0, np.inf], [1.0, 2.0]], "infinite"),
    ],
)
def test_what_cannot_be_averaged_is_refused(values: list, told: str) -> None:
    with pytest.raises(NeuronPathError, match=told):
        crossed_means([values])


def test_tables_of_different_images_are_refused() -> None:
    values = some_values()
    with pytest.raises(NeuronPathError, match="different seeds and images"):
        crossed_means(np.stack([values, values[:, ::-1]]))
