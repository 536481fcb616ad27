"""Paired tests against exact enumeration, scipy and published examples; nothing depends on batches or neighbours."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from neuron_path.errors import NeuronPathError
from neuron_path.stats import resampling
from neuron_path.stats.intervals import bootstrap_mean, bootstrap_means, bootstrap_tables
from neuron_path.stats.paired import holm, paired_test, paired_tests
from neuron_path.stats.resampling import resampled_means, sign_flip_p_values


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=6))
def test_few_images_are_enumerated_exactly(differences: list[int]) -> None:
    observed = abs(sum(differences))
    sums = [abs(sum(np.multiply(signs, differences))) for signs in itertools.product((1, -1), repeat=len(differences))]
    expected = np.mean([total >= observed for total in sums])
    assert paired_test(differences, np.zeros(len(differences))).p == pytest.approx(expected)


def test_five_images_that_all_agree() -> None:
    assert paired_test([3, 1, 4, 1, 5], [0, 0, 0, 0, 0]).p == 2 / 2**5


@pytest.mark.parametrize("n", [8, 60])
def test_agrees_with_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.2, 1, size=n), rng.normal(size=n)
    outcome = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=19_999,
        rng=np.random.default_rng(1),
    )
    assert paired_test(first, second).p == pytest.approx(outcome.pvalue, abs=1e-12 if n == 8 else 0.015)


def test_many_images_agree_with_the_t_test() -> None:
    rng = np.random.default_rng(7)
    first = rng.normal(size=400)
    for shift in (0.05, 0.1, 0.2):
        second = first - shift + rng.normal(size=400)
        expected = stats.ttest_rel(first, second).pvalue
        assert paired_test(first, second).p == pytest.approx(expected, rel=0.15, abs=1e-3)


def test_a_true_null_is_rejected_as_often_as_it_says() -> None:
    rows = np.random.default_rng(8).normal(size=(1200, 40))
    share = np.mean(sign_flip_p_values(rows, np.arange(1200).reshape(600, 2), 999, seed=0) < 0.05)
    assert 0.03 < share < 0.075


def test_one_image_and_equal_methods_show_nothing() -> None:
    assert paired_test([0.5], [0.1]).p == 1
    for n in (2, 50):
        test = paired_test(np.full(n, 0.3), np.full(n, 0.3))
        assert (test.p, test.difference.mean, test.difference.low, test.difference.high) == (1, 0, 0, 0)


def test_no_p_value_is_zero_and_none_is_smaller_than_its_draws_allow() -> None:
    assert paired_test(np.ones(100), np.zeros(100), n_permutations=999).p == 1 / 1000


def test_swapping_the_methods_swaps_the_sign_only() -> None:
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=(2, 80))
    one, other = paired_test(first, second), paired_test(second, first)
    assert one.p == other.p
    assert one.difference.mean == -other.difference.mean
    assert one.difference.low == pytest.approx(-other.difference.high, abs=1e-12)


def test_rounding_does_not_decide_ties() -> None:
    rng = np.random.default_rng(10)
    points = rng.choice([-100.0, 0.0, 100.0], size=200)
    assert paired_test(points, np.zeros(200)).p == paired_test(points * 0.1 + 0.3, np.full(200, 0.3)).p


@pytest.mark.parametrize("n", [3, 14, 70, 400])
def test_batches_and_neighbours_change_nothing(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(n).normal(0.02, 1, size=(5, n))
    pairs = np.array([[0, 1], [2, 4], [3, 0], [2, 2]])
    means, p_values = resampled_means(rows, 501, seed=3), sign_flip_p_values(rows, pairs, 501, seed=3)
    monkeypatch.setattr(resampling, "BATCH_VALUES", 7 * n)
    np.testing.assert_allclose(resampled_means(rows[2:3], 501, seed=3), means[2:3], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(sign_flip_p_values(rows[[2, 4]], np.array([[0, 1]]), 501, seed=3), p_values[1:2])
    intervals, tests = paired_tests(rows, pairs, n_bootstrap=99, n_permutations=501, seed=3)
    assert [test.p for test in tests] == p_values.tolist()
    for interval, alone in zip(intervals, bootstrap_means(rows, n_resamples=99, seed=3), strict=True):
        assert (interval.low, interval.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


@pytest.mark.parametrize("n_different", [0, 1, 2, 60])
@pytest.mark.parametrize("scale", [1, 1e9])
def test_a_difference_is_bootstrapped_as_if_it_were_a_row(n_different: int, scale: float) -> None:
    # With one or two images that differ, many a redrawn sample holds neither: its mean is 0 and no rounding error.
    rows = scale * np.random.default_rng(14).normal(size=(2, 60))
    rows[1, n_different:] = rows[0, n_different:]
    difference = paired_test(*rows, n_bootstrap=999, n_permutations=9).difference
    expected = bootstrap_mean(rows[0] - rows[1], n_resamples=999)
    assert difference.mean == expected.mean
    for bound, right in ((difference.low, expected.low), (difference.high, expected.high)):
        assert bound == pytest.approx(right, rel=1e-11, abs=0)


def test_tables_of_as_many_images_have_the_intervals_that_they_have_alone() -> None:
    tables = [np.random.default_rng(n).normal(size=(rows, n)) for rows, n in ((2, 30), (1, 7), (3, 30), (1, 1))]
    for table, found in zip(tables, bootstrap_tables(tables, n_resamples=99), strict=True):
        expected = bootstrap_means(table, n_resamples=99)
        assert [interval.mean for interval in found] == [interval.mean for interval in expected]
        for ours, alone in zip(found, expected, strict=True):
            assert (ours.low, ours.high) == pytest.approx((alone.low, alone.high), nan_ok=True)


def test_the_draws_are_those_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(11).exponential(size=90)
    bounds = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    interval = bootstrap_mean(values, n_resamples=2000, seed=5)
    assert (interval.low, interval.high) == (pytest.approx(bounds.low), pytest.approx(bounds.high))


def test_rows_have_the_intervals_that_they_have_alone() -> None:
    rows = np.random.default_rng(12).normal(size=(3, 30))
    rows[1] = 0.1
    for row, interval in zip(rows, bootstrap_means(rows, n_resamples=500), strict=True):
        alone = bootstrap_mean(row, n_resamples=500)
        assert interval.mean == alone.mean
        assert (interval.low, interval.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


def test_holms_correction_of_a_worked_example() -> None:
    # Four tests in ascending order are multiplied by 4, 3, 2, 1, and none may fall below one before it.
    np.testing.assert_allclose(holm([0.01, 0.013, 0.014, 0.19, 0.35]), [0.05, 0.052, 0.052, 0.38, 0.38])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([]).tolist() == []
    assert holm([0.03]).tolist() == [0.03]


def test_holm_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(13)
    p_values = np.concatenate([rng.uniform(size=20), rng.uniform(size=20) ** 6, [0.01, 0.01]])
    np.testing.assert_allclose(holm(p_values), np.asarray(multipletests(p_values, method="holm")[1]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_step_by_step(p_values: list[float]) -> None:
    expected = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        expected[index] = running
    np.testing.assert_allclose(holm(p_values), expected)


@pytest.mark.parametrize(
    ("first", "second", "options", "told"),
    [
        ([1.0, 2.0], [1.0], {}, "shapes (2,) and (1,)"),
        ([[1.0]], [[1.0]], {}, "expected (n,) twice"),
        ([], [], {}, "no values"),
        ([1.0, float("nan")], [0.0, 0.0], {}, "1 of 4"),
        ([1.0, 2.0], [0.0, 0.0], {"n_permutations": 0}, "n_permutations is 0"),
        ([1.0, 2.0], [0.0, 0.0], {"confidence": 2}, "confidence is 2"),
    ],
)
def test_what_cannot_be_tested_is_one_line(first: Any, second: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        paired_test(first, second, **options)
    assert told in str(error.value)


def test_only_probabilities_are_corrected() -> None:
    for wrong in ([0.5, 1.5], [-0.1], [float("nan")], [[0.5]]):
        with pytest.raises(NeuronPathError, match="p-values to correct"):
            holm(wrong)
