"""Bootstrap intervals against an independent bootstrap, the normal interval, and their promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.stats.intervals import Interval, bootstrap_mean


def test_agrees_with_a_plain_bootstrap() -> None:
    values = np.random.default_rng(3).exponential(size=150) - 0.7
    rng = np.random.default_rng(99)
    means = [values[rng.integers(150, size=150)].mean() for _ in range(20_000)]
    interval = bootstrap_mean(values, confidence=0.9)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(np.quantile(means, 0.05), abs=0.01)
    assert interval.high == pytest.approx(np.quantile(means, 0.95), abs=0.01)
    assert (interval.n, interval.confidence) == (150, 0.9)


def test_agrees_with_the_normal_interval_on_many_images() -> None:
    values = np.random.default_rng(4).normal(0.1, 2.0, size=4000)
    error = values.std(ddof=1) / math.sqrt(4000)
    interval = bootstrap_mean(values)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error)


def test_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    intervals = [bootstrap_mean(rng.normal(size=60), n_resamples=500, seed=i) for i in range(300)]
    held = np.mean([interval.includes_zero for interval in intervals])
    assert 0.90 <= held <= 0.98


def test_the_seed_decides() -> None:
    values = np.arange(20.0)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_bounds_stay_around_the_mean_and_within_the_data(values: list[float]) -> None:
    interval = bootstrap_mean(values, n_resamples=999)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack
    assert interval.low - slack <= interval.mean <= interval.high + slack


def test_equal_values_give_a_point() -> None:
    assert bootstrap_mean([0.1] * 10) == Interval(0.1, 0.1, 0.1, 10)
    assert bootstrap_mean([0.0, 0.0]).includes_zero


def test_one_value_has_no_bounds() -> None:
    interval = bootstrap_mean([-0.4])
    assert (interval.mean, interval.n) == (-0.4, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.includes_zero


@pytest.mark.parametrize(
    ("low", "high", "included"), [(-1, 1, True), (0, 1, True), (-1, 0, True), (0.1, 1, False), (-1, -0.1, False)]
)
def test_zero_on_a_bound_counts_as_included(low: float, high: float, included: bool) -> None:
    assert Interval((low + high) / 2, low, high, n=5).includes_zero is included


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([], {}, "no values"),
        ([1.0, float("nan")], {}, "1 of 2"),
        ([1.0, float("inf")], {}, "1 of 2"),
        ([[1.0, 2.0]], {}, "(1, 2)"),
        (1.0, {}, "shape ()"),
        ([1.0, 2.0], {"confidence": 95}, "confidence is 95"),
        ([1.0, 2.0], {"n_resamples": 0}, "n_resamples is 0"),
    ],
)
def test_what_has_no_interval_is_one_line(values: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        bootstrap_mean(values, **options)
    assert told in str(error.value)
