"""Similarity of classes and who is nearest, against scipy and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from neuron_path.classes.class_paths import ClassPaths, make_class_paths
from neuron_path.classes.similarity import class_similarity, neighbours, rank_pairs
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from tests.classes.runs import planted, small_runs

SIMILARITY = st.integers(2, 7).flatmap(
    lambda n: st.lists(st.integers(0, 4), min_size=n * n, max_size=n * n).map(
        lambda values: np.maximum(np.reshape(values, (n, n)), np.reshape(values, (n, n)).T) / 4
    )
)


@given(small_runs(min_classes=2))
def test_cosines_are_scipys(paths: ClassPaths) -> None:
    usage = count_usage(paths)
    rows = usage.to_array().reshape(paths.n_classes, -1)
    found = class_similarity(usage)
    expected = [[1 - cosine(one, other) for other in rows] for one in rows]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found == found.T).all()
    assert (found.diagonal() == 1).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_size_of_a_class_does_not_matter() -> None:
    paths = [[0, 1], [2, 1], [0, 3]]
    once = class_similarity(count_usage(make_class_paths(paths, [0, 0, 1])))
    often = class_similarity(count_usage(make_class_paths(paths[:2] * 5 + paths[2:], [0] * 10 + [1])))
    np.testing.assert_allclose(once, often)


@given(SIMILARITY)
def test_neighbours_are_the_extremes_of_each_row(similarity: np.ndarray) -> None:
    classes = 10 + 2 * np.arange(len(similarity))
    for row, found in enumerate(neighbours(similarity, classes).to_dict("records")):
        others = {int(name): similarity[row, place] for place, name in enumerate(classes) if place != row}
        assert found["class"] == classes[row]
        assert found["nearest"] == min(others, key=lambda name: (-others[name], name))
        assert found["farthest"] == min(others, key=lambda name: (others[name], name))
        assert found["nearest_similarity"] == max(others.values())
        assert found["farthest_similarity"] == min(others.values())


@given(SIMILARITY)
def test_pairs_are_ranked(similarity: np.ndarray) -> None:
    names = [f"class {index}" for index in range(len(similarity))]
    pairs = [
        (names[i], names[j], similarity[i, j]) for i in range(len(names)) for j in range(i + 1, len(names))
    ]  # fmt: skip
    ranked = list(rank_pairs(similarity, names).itertuples(index=False, name=None))
    assert ranked == sorted(pairs, key=lambda pair: (-pair[2], names.index(pair[0]), names.index(pair[1])))


def test_classes_of_a_planted_group_are_nearest() -> None:
    paths = planted(12, 20, own=0.2, shared=0.5, groups=4)
    nearest = neighbours(class_similarity(count_usage(paths)), paths.classes)
    group = {name: nearest[name].to_numpy() % 4 for name in ("class", "nearest", "farthest")}
    assert (group["nearest"] == group["class"]).all()
    assert (group["farthest"] != group["class"]).all()


@pytest.mark.parametrize(
    ("similarity", "classes", "told"),
    [
        ([[1.0]], [0], "shape (1, 1)"),
        ([[1.0, 0.2]], [0], "shape (1, 2)"),
        ([[1.0, 0.2], [0.3, 1.0]], [0, 1], "not symmetric"),
        ([[1.0, np.nan], [np.nan, 1.0]], [0, 1], "not finite"),
        ([[1.0, 0.2], [0.2, 1.0]], [0], "1 classes for a similarity of 2"),
    ],
)
def test_what_is_no_similarity_is_one_line(similarity: Any, classes: Any, told: str) -> None:
    for function in (neighbours, rank_pairs):
        with pytest.raises(NeuronPathError) as error:
            function(similarity, classes)
        assert told in str(error.value)


def test_one_class_is_like_no_other() -> None:
    with pytest.raises(NeuronPathError, match="two classes or more, but all images are of class 3"):
        class_similarity(count_usage(make_class_paths([[0], [1]], [3, 3])))
