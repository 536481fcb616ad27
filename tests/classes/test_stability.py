"""Halves of the images: compared literally, stable where there is structure, unstable where there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.stability import split_half_stability
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from tests.classes.runs import draw_paths, make_frame, planted


@pytest.mark.parametrize(("n_each", "top_k"), [(4, 1), (5, 2)])
def test_numbers_are_those_of_literal_halves(n_each: int, top_k: int) -> None:
    paths = planted(5, n_each, n_blocks=3, n_neurons=6, top_k=top_k, own=0.4)
    rng = np.random.default_rng(7)
    usages, similarities, recognised = [], [], []
    for _ in range(9):
        draws = rng.random(paths.n_images)
        halves: tuple[list[int], list[int]] = [], []
        for index in range(paths.n_classes):
            own = sorted(np.flatnonzero(paths.members == index).tolist(), key=lambda image: draws[image])
            halves[0].extend(own[: n_each // 2])
            halves[1].extend(own[n_each // 2 :])
        vectors = []
        for half in halves:
            rows = count_usage(paths.take(np.sort(half))).to_array().reshape(5, -1)
            vectors.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        across = vectors[0] @ vectors[1].T
        usages.append(np.mean(across.diagonal()))
        pairs = np.triu_indices(5, 1)
        one, other = (class_similarity(count_usage(paths.take(np.sort(half))))[pairs] for half in halves)
        similarities.append(np.corrcoef(one, other)[0, 1])
        recognised.append(np.mean([across[i, i] > np.delete(across[i], i).max() + 1e-9 for i in range(5)]))
    found = split_half_stability(paths, n_splits=9, seed=7, confidence=0.8)
    for spread, values in (
        (found.usage, usages), (found.similarity, similarities), (found.recognised, recognised),
    ):  # fmt: skip
        assert [spread.low, spread.median, spread.high] == pytest.approx(np.quantile(values, [0.1, 0.5, 0.9]))


def test_planted_structure_is_stable() -> None:
    found = split_half_stability(planted(12, 40, own=0.3, shared=0.4, groups=3), n_splits=30)
    assert found.usage.low > 0.8
    assert found.similarity.low > 0.9
    assert found.recognised.median == 1


def test_chance_is_not_stable() -> None:
    found = [split_half_stability(planted(12, 20, own=0.0, seed=seed), n_splits=20) for seed in range(10)]
    assert np.mean([one.similarity.median for one in found]) == pytest.approx(0, abs=0.1)
    assert np.mean([one.recognised.median for one in found]) == pytest.approx(1 / 12, abs=0.08)


def test_more_images_are_steadier() -> None:
    few, many = (split_half_stability(planted(8, n, own=0.3), n_splits=20) for n in (6, 60))
    assert many.usage.median > few.usage.median
    assert many.usage.high - many.usage.low < few.usage.high - few.usage.low


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    frame = make_frame(draw_paths(np.random.default_rng(0), 40, 3, 5, 1), [0, 1, 2, 3] * 10)
    first = split_half_stability(group_paths(frame), n_splits=5)
    assert first == split_half_stability(group_paths(frame.sample(frac=1, random_state=3)), n_splits=5)
    assert first != split_half_stability(group_paths(frame), n_splits=5, seed=1)


def test_classes_of_one_image_are_left_out() -> None:
    paths = make_class_paths([[0, 1], [0, 1], [2, 2], [2, 2], [3, 3]], [0, 0, 1, 1, 2])
    found = split_half_stability(paths, n_splits=3)
    assert (found.n_classes, found.n_images) == (2, 4)
    assert found.usage.median == pytest.approx(1)
    assert found.recognised.median == 1
    # Two classes have one similarity, which correlates with nothing.
    assert math.isnan(found.similarity.median)


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        ([7, 7, 7], {}, "the label of every image (3) is 7"),
        ([0, 1, 2], {}, "with two images or more"),
        ([0, 0, 1], {}, "needs two classes or more"),
        ([0, 0, 1], {"n_splits": 0}, "n_splits is 0"),
        ([0, 0, 1], {"confidence": 1.0}, "confidence is 1.0"),
    ],
)
def test_what_cannot_be_halved_is_one_line(labels: list[int], options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        split_half_stability(make_class_paths([[0], [1], [2]], labels), **options)
    assert told in str(error.value)
