"""Per-image effects of an intervention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.measures import (
    accuracy_deviation,
    curve_area,
    logit_difference,
    probability_deviation,
)


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_edited_probability_follows_from_the_deviation(pairs: list[tuple[float, float]]) -> None:
    clean, edited = np.array(pairs).T
    deviation = probability_deviation(clean, edited)
    assert (deviation >= -1).all()
    np.testing.assert_allclose(clean * (1 + deviation), edited, rtol=1e-12, atol=1e-15)


def test_single_precision_is_taken_and_double_given() -> None:
    deviation = probability_deviation(np.array([1.0000001], dtype=np.float32), np.array([0.5], dtype=np.float32))
    assert deviation.dtype == np.float64
    assert deviation[0] == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("clean", "edited", "told"),
    [
        ([0.5, 0.0], [0.5, 0.1], "1 of 2 clean probabilities are 0"),
        ([3.0], [0.5], "not logits"),
        ([0.5], [float("nan")], "1 of 1 edited"),
        ([0.5, 0.5], [0.5], "clean 2, edited 1"),
        ([[0.5]], [[0.5]], "(1, 1)"),
    ],
)
def test_wrong_probabilities_are_one_line(clean: Any, edited: Any, told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        probability_deviation(clean, edited)
    assert told in str(error.value)


classes = st.integers(0, 3)


@given(st.lists(st.tuples(classes, classes, classes), min_size=1, max_size=30))
def test_the_mean_is_the_difference_of_accuracies(rows: list[tuple[int, int, int]]) -> None:
    clean, edited, labels = np.array(rows).T
    deviation = accuracy_deviation(clean, edited, labels)
    assert set(deviation) <= {-100.0, 0.0, 100.0}
    right = sum(e == y for _, e, y in rows) - sum(c == y for c, _, y in rows)
    assert deviation.mean() == pytest.approx(100 * right / len(rows))


def test_labels_must_be_classes_of_the_same_images() -> None:
    with pytest.raises(NeuronPathError, match="'labels' has type float64"):
        accuracy_deviation([0], [0], [float("nan")])
    with pytest.raises(NeuronPathError, match="labels 1"):
        accuracy_deviation([0, 1], [0, 1], [0])


def test_logits_are_subtracted() -> None:
    np.testing.assert_array_equal(logit_difference([2.0, -1.0], np.array([1.5, 0.0])), [-0.5, 1.0])
    with pytest.raises(NeuronPathError, match="clean 2, edited 1"):
        logit_difference([1.0, 2.0], [1.0])


def test_the_area_of_straight_lines() -> None:
    sizes = [0, 1, 2, 5, 10]
    linear = [1 - size / 10 for size in sizes]
    constant = [0.3] * 5
    np.testing.assert_allclose(curve_area(sizes, [linear, constant]), [0.5, 0.3])
    # 0 to 1 falls at once: half a step of a tenth is lost, the rest stays at 0.
    np.testing.assert_allclose(curve_area(sizes, [[1.0, 0, 0, 0, 0]]), [0.05])


@given(st.permutations([0, 1, 3, 7]))
def test_the_order_of_the_sizes_does_not_matter(sizes: list[int]) -> None:
    heights = {0: 1.0, 1: 0.8, 3: 0.9, 7: 0.1}
    expected = (0.9 * 1 + 0.85 * 2 + 0.5 * 4) / 7
    assert curve_area(sizes, [[heights[size] for size in sizes]])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "retained", "told"),
    [
        ([1, 2], [[1.0, 0.5]], "measured at sizes [1.0, 2.0]"),
        ([0], [[1.0]], "measured at sizes [0.0]"),
        ([0, 2, 2], [[1.0, 0.5, 0.5]], "each once"),
        ([0, 1], [1.0, 0.5], "shape (2,)"),
        ([0, 1], [[1.0, 0.5, 0.2]], "shape (1, 3)"),
    ],
)
def test_what_is_no_curve_is_one_line(sizes: Any, retained: Any, told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        curve_area(sizes, retained)
    assert told in str(error.value)
