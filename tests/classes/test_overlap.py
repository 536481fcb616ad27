"""Overlaps pair by pair, planted differences found, and honest p-values without any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from scipy import stats

from neuron_path.classes import pairs
from neuron_path.classes.class_paths import ClassPaths, make_class_paths
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.overlap import overlap_test
from neuron_path.classes.pairs import pair_overlaps
from neuron_path.errors import NeuronPathError
from neuron_path.stats import permutation
from tests.classes.runs import draw_paths, literal_overlap, literal_pairs, make_frame, planted, small_runs


@given(paths=small_runs())
@pytest.mark.parametrize(("popular", "size"), [(0.0, 2**24), (0.3, 17), (1.0, 1)])
def test_each_pair_has_its_jaccard_index(paths: ClassPaths, popular: float, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_POPULAR", popular)
        patch.setattr(pairs, "BATCH_VALUES", size)
        found = np.concatenate([rows for _, _, rows in pair_overlaps(paths)])
    expected = [[literal_overlap(one, other) for other in paths.paths] for one in paths.paths]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(small_runs(min_classes=2))
def test_means_are_those_over_pairs(paths: ClassPaths) -> None:
    members = paths.members
    within, between = literal_pairs(paths, members)
    test = overlap_test(paths, n_permutations=3)
    assert (test.within_pairs, test.between_pairs) == (len(within), len(between))
    assert test.within == pytest.approx(np.mean(within), abs=1e-12)
    assert test.between == pytest.approx(np.mean(between), abs=1e-12)
    assert test.difference.mean == pytest.approx(test.within - test.between)
    for i in range(paths.n_images):
        own, others = [], []
        for j in range(paths.n_images):
            if i != j:
                (own if members[i] == members[j] else others).append(literal_overlap(paths.paths[i], paths.paths[j]))
        assert test.own[i] == pytest.approx(np.mean(own) if own else np.nan, abs=1e-12, nan_ok=True)
        assert test.others[i] == pytest.approx(np.mean(others), abs=1e-12)
    for c in range(paths.n_classes):
        for d in range(paths.n_classes):
            both = [
                literal_overlap(paths.paths[i], paths.paths[j])
                for i in np.flatnonzero(members == c) for j in np.flatnonzero(members == d) if i != j
            ]  # fmt: skip
            expected = np.mean(both) if both else np.nan
            assert test.class_overlap[c, d] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(paths=small_runs(min_classes=2))
@hypothesis_settings(max_examples=25)
@pytest.mark.parametrize("few", [0, 8])
def test_p_counts_shuffles_that_reach_the_observed_difference(few: int, paths: ClassPaths) -> None:
    rng = np.random.default_rng(5)
    within, between = literal_pairs(paths, paths.members)
    observed = np.mean(within) - np.mean(between)
    reached = 0
    for _ in range(19):
        # The k-th image of a shuffled order takes the class of the k-th place.
        labels = np.empty(paths.n_images, dtype=int)
        labels[rng.permutation(paths.n_images)] = paths.members
        within, between = literal_pairs(paths, labels)
        reached += np.mean(within) - np.mean(between) >= observed - 1e-9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation, "_FEW", few)
        patch.setattr(permutation, "_BATCH", 100)
        patch.setattr(pairs, "BATCH_VALUES", 20)
        assert overlap_test(paths, n_permutations=19, seed=5).p == pytest.approx((1 + reached) / 20)


@pytest.mark.parametrize("top_k", [1, 3])
def test_the_interval_is_that_of_a_literal_jackknife(top_k: int) -> None:
    paths = planted(3, 5, n_blocks=3, n_neurons=6, top_k=top_k)
    members = paths.members
    without = []
    for left_out in range(paths.n_images):
        kept = np.delete(np.arange(paths.n_images), left_out)
        within, between = literal_pairs(paths.take(kept), members[kept])
        without.append(np.mean(within) - np.mean(between))
    n = len(without)
    error = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    interval = overlap_test(paths, n_permutations=1, confidence=0.9).difference
    assert interval.low == pytest.approx(interval.mean - 1.6448536 * error)
    assert interval.high == pytest.approx(interval.mean + 1.6448536 * error)
    assert (interval.n, interval.confidence) == (n, 0.9)


@pytest.mark.parametrize("top_k", [1, 4])
@pytest.mark.parametrize("n_classes", [3, 12])
def test_planted_classes_are_found(top_k: int, n_classes: int) -> None:
    test = overlap_test(planted(n_classes, 12, top_k=top_k, own=0.5), n_permutations=199)
    # Two images follow their class in the same block with probability 1/4.
    assert test.within == pytest.approx(0.26, abs=0.05)
    assert test.between < 0.05
    assert test.p == 1 / 200
    assert test.difference.low > 0.15


@pytest.mark.parametrize("top_k", [1, 2])
def test_shuffled_runs_have_uniform_p_values(top_k: int) -> None:
    p_values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        # Some neurons are popular, as in real runs; labels say nothing. So many images and blocks that sums seldom tie,
        # because ties count against the observed one.
        paths = np.stack([draw_paths(rng, 60, 12, 40, top_k), 40 + draw_paths(rng, 60, 12, 4, top_k)])
        chosen = paths[(rng.random(60) < 0.5).astype(int), np.arange(60)]
        labels = rng.permutation(np.repeat(np.arange(4), 15))
        p_values.append(overlap_test(make_class_paths(chosen, labels), n_permutations=99, seed=1000 + seed).p)
    # A p-value of 0.01 stands for all from 0 to 0.01.
    jitter = np.random.default_rng(0).random(len(p_values)) / 100
    assert stats.kstest(np.array(p_values) - jitter, "uniform").pvalue > 0.05
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_seed_decides_and_the_order_of_rows_does_not(top_k: int) -> None:
    frame = make_frame(draw_paths(np.random.default_rng(0), 30, 3, 5, top_k), [0, 1, 2] * 10)
    first = overlap_test(group_paths(frame), n_permutations=199)
    again = overlap_test(group_paths(frame.sample(frac=1, random_state=3)), n_permutations=199)
    other = overlap_test(group_paths(frame), n_permutations=199, seed=1)
    assert first.to_dict() == again.to_dict()
    assert (first.within, first.between) == (other.within, other.between)
    assert first.p != other.p


def test_ten_thousand_images_need_no_pairs() -> None:
    paths = planted(50, 200, n_blocks=4, n_neurons=256, own=0.3)
    test = overlap_test(paths, n_permutations=19)
    assert test.within_pairs + test.between_pairs == 10_000 * 9_999 // 2
    # 0.3² + (1 − 0.3²) / 256 within; favourites that coincide add a little between.
    assert test.within == pytest.approx(0.0936, abs=0.003)
    assert test.p == 0.05


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        ([7, 7, 7, 7], {}, "the label of every image (4) is 7"),
        ([0, 1, 2, 3], {}, "each of the 4 classes (by label) has one"),
        ([0, 0, 1, 1], {"n_permutations": 0}, "n_permutations is 0"),
        ([0, 0, 1, 1], {"confidence": 95}, "confidence is 95"),
    ],
)
def test_what_cannot_be_compared_is_one_line(labels: list[int], options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        overlap_test(make_class_paths([[0], [1], [2], [3]], labels), **options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_one_pair_has_a_mean_and_no_interval() -> None:
    test = overlap_test(make_class_paths([[0], [0], [1]], [0, 0, 1]), n_permutations=9)
    assert (test.within, test.between) == (1, 0)
    assert np.isnan(test.difference.low)
    assert np.isnan(test.own[2])
