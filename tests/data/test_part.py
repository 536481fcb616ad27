"""Which images a run takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.data.part import choose_part
from neuron_path.errors import NeuronPathError

LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2]
CLASSES = ["ant", "bee", "cat"]


def test_everything_by_default() -> None:
    assert choose_part(LABELS, CLASSES) == list(range(9))
    assert choose_part([None, None], []) == [0, 1]


def test_named_classes_keep_the_order_of_the_data() -> None:
    assert choose_part(LABELS, CLASSES, only=["cat", "ant"]) == [0, 1, 2, 6, 7, 8]


def test_a_class_may_be_a_number_that_is_its_name() -> None:
    assert choose_part([0, 1, 2], ["0", "1", "2"], only=[2]) == [2]


def test_a_limit_takes_of_every_class() -> None:
    assert choose_part(LABELS, CLASSES, limit=3) == [0, 3, 6]
    assert choose_part(LABELS, CLASSES, only=["bee"], limit=2) == [3, 4]


@given(st.integers(1, 40), st.integers(1, 60))
def test_a_limit_takes_so_many_distinct_images(n: int, limit: int) -> None:
    part = choose_part([None] * n, [], limit=limit)
    assert len(part) == min(n, limit)
    assert part == sorted(set(part))
    assert part[0] == 0
    assert part[-1] < n


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(NeuronPathError, match=rf"data\.limit is {limit}; expected at least 1"):
        choose_part(LABELS, CLASSES, limit=limit)


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(NeuronPathError, match=r"No class is named 'bea'. Did you mean 'bee'\?"):
        choose_part(LABELS, CLASSES, only=["bea"])


def test_of_many_classes_the_message_names_one() -> None:
    with pytest.raises(NeuronPathError, match="No class is named 'x': expected one of 30, such as 'c0'"):
        choose_part([0], [f"c{number}" for number in range(30)], only=["x"])


def test_no_class_at_all_is_refused() -> None:
    with pytest.raises(NeuronPathError, match=r"data\.classes is empty"):
        choose_part(LABELS, CLASSES, only=[])


def test_classes_of_unlabelled_images_are_refused() -> None:
    with pytest.raises(NeuronPathError, match="the images have no labels"):
        choose_part([None], [], only=["cat"])
