"""Splitting images in those that select and those that evaluate."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.selection import split_images

labels = st.lists(st.integers(0, 4), min_size=2, max_size=40)


@given(labels, st.floats(0.05, 0.95), st.integers(0, 9))
def test_the_parts_share_no_image_and_hold_every_one(classes: list[int], share: float, seed: int) -> None:
    names = [f"image/{number}" for number in range(len(classes))]
    if max(classes.count(index) for index in classes) == 1:
        with pytest.raises(NeuronPathError, match="none is left"):
            split_images(names, classes, share, seed)
        return
    split = split_images(names, classes, share, seed)
    assert sorted(split.selection + split.evaluation) == list(range(len(names)))
    assert not set(split.selection) & set(split.evaluation)
    for index in set(classes):
        n, chosen = classes.count(index), sum(classes[place] == index for place in split.selection)
        assert chosen >= 1
        assert n == 1 or chosen <= n - 1
        assert abs(chosen - share * n) <= 0.5 or chosen in (1, n - 1)


def test_it_depends_on_names_and_seed_only() -> None:
    names = [f"image/{number}" for number in range(60)]
    classes = [number % 3 for number in range(60)]

    def selected(order: list[int], seed: int) -> set[str]:
        split = split_images([names[i] for i in order], [classes[i] for i in order], 0.5, seed)
        return {names[order[place]] for place in split.selection}

    shuffled = list(range(60))
    random.Random(0).shuffle(shuffled)
    one = selected(list(range(60)), 0)
    assert one == selected(shuffled, 0)
    assert one != selected(shuffled, 1)
    # Every image selects with some seed, and with some it does not.
    drawn = [selected(shuffled, seed) for seed in range(20)]
    assert set.union(*drawn) == set(names)
    assert not set.intersection(*drawn)


def test_a_share_out_of_range_and_a_doubled_name_are_refused() -> None:
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(NeuronPathError, match="between 0 and 1"):
            split_images(["a", "b"], [0, 0], share, 0)
    with pytest.raises(NeuronPathError, match="'a' is there twice"):
        split_images(["a", "b", "a"], [0, 0, 0], 0.5, 0)
