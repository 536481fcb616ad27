"""Trees and clusters: written down literally, planted ones found, and measured against known labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from scipy.stats import entropy, hypergeom

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.clustering import Linkage, agreement, class_agreement, cluster_classes, cluster_images
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from tests.classes.runs import draw_paths, literal_overlap, make_frame, planted


def draw_similarity(n: int, seed: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).random((n, n))
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1)
    return matrix


def literal_tree(distances: np.ndarray, join: Any) -> tuple[list[set[frozenset[int]]], np.ndarray]:
    """Every partition from all apart to all in one, and the heights at which two classes are joined."""
    clusters = [frozenset([index]) for index in range(len(distances))]
    partitions, heights = [set(clusters)], np.zeros_like(distances)
    while len(clusters) > 1:
        height, one, other = min(
            (join([distances[i, j] for i in a for j in b]), a, b) for x, a in enumerate(clusters) for b in clusters[:x]
        )
        for i in one:
            for j in other:
                heights[i, j] = heights[j, i] = height
        clusters = [cluster for cluster in clusters if cluster not in (one, other)] + [one | other]
        partitions.append(set(clusters))
    return partitions, heights


def as_sets(clusters: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(clusters == index).tolist()) for index in np.unique(clusters)}


@pytest.mark.parametrize(("linkage", "join"), [("average", np.mean), ("complete", max), ("single", min)])
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_is_the_one_built_by_hand(linkage: Linkage, join: Any, seed: int) -> None:
    similarity = draw_similarity(7, seed)
    partitions, heights = literal_tree(1 - similarity, join)
    tree = cluster_classes(similarity, linkage=linkage)
    for partition in partitions:
        assert as_sets(tree.cut(len(partition))) == partition
    expected = np.corrcoef(squareform(1 - similarity, checks=False), squareform(heights))[0, 1]
    assert tree.cophenetic == pytest.approx(expected)
    assert hierarchy.leaves_list(tree.linkage).tolist() == tree.order.tolist()
    assert sorted(tree.order.tolist()) == list(range(7))


def test_clusters_are_numbered_by_their_first_class() -> None:
    similarity = np.kron(np.eye(3), np.full((2, 2), 0.9))[[0, 2, 4, 1, 3, 5]][:, [0, 2, 4, 1, 3, 5]]
    np.fill_diagonal(similarity, 1)
    assert cluster_classes(similarity).cut(3).tolist() == [0, 1, 2, 0, 1, 2]


def test_a_constant_similarity_has_no_cophenetic_correlation() -> None:
    assert math.isnan(cluster_classes([[1, 0.3], [0.3, 1]]).cophenetic)
    assert math.isnan(cluster_classes(np.full((4, 4), 0.5)).cophenetic)


def test_planted_groups_of_classes_are_recovered() -> None:
    paths = planted(20, 15, own=0.2, shared=0.5, groups=4)
    tree = cluster_classes(class_similarity(count_usage(paths)))
    assert agreement(tree.cut(4), paths.classes % 4) == pytest.approx(1)
    assert tree.cophenetic > 0.95
    # Groups lie together in the order of the leaves.
    assert np.count_nonzero(np.diff(paths.classes[tree.order] % 4)) == 3


@pytest.mark.parametrize("top_k", [1, 3])
def test_planted_classes_of_images_are_recovered(top_k: int) -> None:
    found = class_agreement(planted(10, 12, own=0.7, top_k=top_k))
    assert found.ami == pytest.approx(1)
    assert (found.n_clusters, found.n_images, found.n_all) == (10, 120, 120)


def test_chance_agrees_with_nothing() -> None:
    found = [class_agreement(planted(5, 12, own=0.0, seed=seed)).ami for seed in range(20)]
    assert np.mean(found) == pytest.approx(0, abs=0.02)


def test_of_many_images_some_are_clustered() -> None:
    paths = planted(5, 40, own=0.8)
    found = class_agreement(paths, max_images=60)
    assert (found.n_images, found.n_all) == (60, 200)
    assert found.ami == pytest.approx(1)
    assert found == class_agreement(paths, max_images=60)


def test_image_clusters_are_wards() -> None:
    paths = planted(3, 5, n_blocks=4, n_neurons=8, top_k=2)
    distances = [
        math.sqrt(1 - literal_overlap(paths.paths[i], paths.paths[j])) for i in range(15) for j in range(i + 1, 15)
    ]
    for n_clusters in (1, 2, 3, 6, 15):
        expected = hierarchy.fcluster(hierarchy.linkage(distances, "ward"), n_clusters, "maxclust")
        assert as_sets(cluster_images(paths, n_clusters)) == as_sets(expected)


def test_clusters_know_neither_classes_nor_rows() -> None:
    # Few neurons and blocks, so that many distances tie.
    paths = draw_paths(np.random.default_rng(0), 24, 2, 3, 1)
    frame = make_frame(paths, [0, 1, 2] * 8)
    clusters = {}
    for labels in ([0, 1, 2] * 8, [2] * 12 + [1] * 12):
        for rows in (frame, frame.sample(frac=1, random_state=1)):
            given_labels = [labels[int(name[6:-4])] for name in rows["sample_id"]]
            grouped = group_paths(rows.assign(label=given_labels))
            found = dict(zip(grouped.images.tolist(), cluster_images(grouped, 4).tolist(), strict=True))
            clusters[str(labels), rows is frame] = [found[f"image/{index}.png"] for index in range(24)]
    (first, *others) = (as_sets(np.array(numbers)) for numbers in clusters.values())
    assert all(other == first for other in others)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=9))
def test_agreement_is_its_formula(rows: list[tuple[int, int]]) -> None:
    one, other = np.array(rows).T
    n = len(rows)
    a, b = np.bincount(one), np.bincount(other)
    a, b = a[a > 0], b[b > 0]

    def term(count: float, x: int, y: int) -> float:
        return count / n * math.log(n * count / (x * y)) if count else 0.0

    mutual = sum(
        term(np.sum((one == i) & (other == j)), np.sum(one == i), np.sum(other == j))
        for i in set(one)
        for j in set(other)
    )
    expected = sum(
        hypergeom.pmf(count, n, x, y) * term(count, x, y) for x in a for y in b for count in range(min(x, y) + 1)
    )
    normaliser = float(entropy(a / n) + entropy(b / n)) / 2
    if len(a) == len(b) == 1 or len(a) == len(b) == n:
        assert agreement(one, other) == 1
    elif abs(normaliser - expected) > 1e-6:
        assert agreement(one, other) == pytest.approx((mutual - expected) / (normaliser - expected), abs=1e-8)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: cluster_classes([[1.0]]), "shape (1, 1)"),
        (lambda: cluster_classes(np.eye(3), linkage="ward"), "No linkage is named 'ward'"),  # pyright: ignore
        (lambda: cluster_classes(np.eye(3)).cut(4), "n_clusters is 4; expected 1 to 3"),
        (lambda: cluster_images(planted(2, 2), 5), "n_clusters is 5; expected 1 to 4"),
        (lambda: class_agreement(make_class_paths([[0], [1]], [1, 1])), "the label of every image (2) is 1"),
        (lambda: class_agreement(make_class_paths([[0], [1]], [0, 1])), "with two images or more"),
        (lambda: class_agreement(planted(2, 2), max_images=1), "max_images is 1"),
        (lambda: agreement([0, 1], [0]), "shape (2,) and the labels (1,)"),
        (lambda: agreement([], []), "one per item"),
    ],
)
def test_mistakes_are_one_line(call: Any, told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        call()
    assert told in str(error.value)
    assert "\n" not in str(error.value)
