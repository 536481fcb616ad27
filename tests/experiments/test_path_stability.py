"""What stays of paths: overlaps and matchings against literal ones."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from neuron_path.errors import NeuronPathError
from path_stability import correlations, match_neurons, path_overlap, translate


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_overlap_is_the_mean_jaccard_index(top_k: int) -> None:
    rng = np.random.default_rng(top_k)
    one, other = (
        np.stack([[rng.permutation(6)[:top_k] for _ in range(5)] for _ in range(8)]) for _ in range(2)
    )  # fmt: skip
    expected = [
        np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)])
        for ours, theirs in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(path_overlap(one, other), expected)
    if top_k == 1:
        np.testing.assert_allclose(path_overlap(one[..., 0], other[..., 0]), expected)
    assert path_overlap(one, one[..., ::-1]).tolist() == [1.0] * 8


def test_overlap_of_other_shapes_is_refused() -> None:
    with pytest.raises(NeuronPathError, match=r"have shapes \(1, 2\) and \(1, 3\)"):
        path_overlap([[1, 2]], [[1, 2, 3]])


def test_the_matching_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(30, 6))
    other = one @ rng.normal(size=(6, 6)) + rng.normal(size=(30, 6))
    found = match_neurons(one, other)
    table = np.corrcoef(one.T, other.T)[:6, 6:]
    np.testing.assert_allclose(correlations(one, other), table)
    best = max(permutations(range(6)), key=lambda order: table[np.arange(6), order].sum())
    assert found.tolist() == list(best)


def test_permuted_neurons_are_found_again_whatever_their_scale() -> None:
    rng = np.random.default_rng(1)
    activations, order = rng.normal(size=(50, 40)), rng.permutation(40)
    shown = 3 * activations[:, order] + 2 + 0.1 * rng.normal(size=(50, 40))
    matching = match_neurons(activations, shown)
    assert (order[matching] == np.arange(40)).all()
    paths = rng.integers(40, size=(7, 3))
    assert (order[translate(paths, np.stack([matching] * 3))] == paths).all()
    assert translate(paths[..., None], np.stack([matching] * 3)).shape == (7, 3, 1)


def test_a_neuron_that_never_varies_correlates_with_none() -> None:
    one = np.random.default_rng(2).normal(size=(9, 3))
    one[:, 1] = 0.1
    assert correlations(one, one)[1].tolist() == [0, 0, 0]
    assert match_neurons(one, one).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("one", "other"), [((4, 3), (4, 2)), ((1, 3), (1, 3)), ((4,), (4,))])
def test_activations_of_other_shapes_are_refused(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(NeuronPathError, match="expected \\(n, F\\) twice"):
        match_neurons(np.zeros(one), np.zeros(other))
