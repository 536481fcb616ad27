"""Donors: a derangement of the whole data set, whatever its order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.interventions.donors import donors_of

names = st.lists(st.text(max_size=8), min_size=2, max_size=40, unique=True)
seeds = st.integers(0, 2**31 - 1)


@given(names, seeds)
def test_everyone_gives_once_and_nobody_to_itself(sample_ids: list[str], seed: int) -> None:
    donors = donors_of(sample_ids, seed)
    assert sorted(donors) == sorted(donors.values()) == sorted(sample_ids)
    assert all(image != donor for image, donor in donors.items())


@given(names, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(sample_ids: list[str], seed: int, shuffler: random.Random) -> None:
    shuffled = shuffler.sample(sample_ids, len(sample_ids))
    assert donors_of(shuffled, seed) == donors_of(sample_ids, seed)


def test_names_of_one_picture_take_another_picture() -> None:
    shared = {"a#0": "a", "a#1": "a", "b#0": "b", "c#0": "c", "c#1": "c", "c#2": "c"}
    for seed in range(20):
        plain = donors_of(["a", "b", "c"], seed)
        found = donors_of(list(shared), seed, shared)
        assert {name: shared[donor] for name, donor in found.items()} == {
            name: plain[picture] for name, picture in shared.items()
        }
    with pytest.raises(NeuronPathError, match="only one image"):
        donors_of(["a#0", "a#1"], 0, shared)


def test_another_seed_gives_others() -> None:
    sample_ids = [f"image-{n}" for n in range(50)]
    first, second = donors_of(sample_ids, 0), donors_of(sample_ids, 1)
    assert sum(first[name] == second[name] for name in sample_ids) < 10


def test_every_other_image_is_as_likely() -> None:
    # Each of 5 images has 4 possible donors: 400 seeds give each about 100 times.
    sample_ids = list("abcde")
    counts = dict.fromkeys([(a, b) for a in sample_ids for b in sample_ids if a != b], 0)
    for seed in range(400):
        for pair in donors_of(sample_ids, seed).items():
            counts[pair] += 1
    for image in sample_ids:
        statistic = sum((n - 100) ** 2 / 100 for (name, _), n in counts.items() if name == image)
        assert statistic < 19.5  # the 99.98 % quantile of chi-squared with 3 degrees of freedom; the draws are fixed


def test_one_image_alone_has_no_donor() -> None:
    with pytest.raises(NeuronPathError, match="image") as error:
        donors_of(["alone"], 0)
    assert "\n" not in str(error.value)


def test_a_name_twice_is_a_mistake() -> None:
    with pytest.raises(NeuronPathError):
        donors_of(["a", "b", "a"], 0)
