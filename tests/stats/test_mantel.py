"""The Mantel test against scipy's correlations, every permutation written down, and honest p-values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from neuron_path.errors import NeuronPathError
from neuron_path.stats.mantel import mantel


def symmetric(n: int, rng: np.random.Generator) -> np.ndarray:
    matrix = rng.random((n, n))
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0)
    return matrix


@pytest.mark.parametrize("correlation", ["spearman", "pearson"])
def test_r_and_p_are_those_of_every_permutation(correlation: str) -> None:
    rng = np.random.default_rng(3)
    one, other = symmetric(5, rng), symmetric(5, rng)
    pairs = list(itertools.combinations(range(5), 2))
    measure = stats.spearmanr if correlation == "spearman" else stats.pearsonr

    def literal(order: tuple[int, ...]) -> float:
        found = measure([one[c, d] for c, d in pairs], [other[order[c], order[d]] for c, d in pairs])
        return float(found[0])  # pyright: ignore[reportArgumentType, reportIndexIssue]

    observed = literal((0, 1, 2, 3, 4))
    every = [abs(literal(order)) >= abs(observed) - 1e-12 for order in itertools.permutations(range(5))]
    found = mantel(one, other, correlation=correlation, n_permutations=20_000)  # pyright: ignore[reportArgumentType]
    assert found.r == pytest.approx(observed, abs=1e-12)
    assert found.p == pytest.approx(np.mean(every), abs=0.015)
    assert (found.n_classes, found.correlation) == (5, correlation)


def test_p_is_uniform_where_nothing_is_related() -> None:
    rng = np.random.default_rng(0)
    values = [mantel(symmetric(8, rng), symmetric(8, rng), n_permutations=99, seed=seed).p for seed in range(300)]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert min(values) >= 0.01


def test_a_relation_is_found_and_its_direction() -> None:
    rng = np.random.default_rng(1)
    points = rng.random((20, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    noise = symmetric(20, rng) * 0.1
    found = mantel(np.exp(-distances - noise), distances, n_permutations=999)
    assert found.r < -0.8
    assert found.p == 0.001
    assert mantel(distances, distances**2, n_permutations=9).r == pytest.approx(1)


def test_the_same_seed_gives_the_same_p() -> None:
    one, other = (symmetric(9, np.random.default_rng(seed)) for seed in (1, 2))
    assert mantel(one, other, seed=5) == mantel(one, other, seed=5)


def test_what_cannot_be_correlated_is_refused() -> None:
    one = symmetric(5, np.random.default_rng(0))
    for other, words in [
        (one[:4, :4], "5 and 4 classes"),
        (one[:3, :3], r"shape \(3, 3\)"),
        (np.triu(one), "not symmetric"),
        (np.full((5, 5), np.nan), "not finite"),
        (1 - np.eye(5), "same value"),
    ]:
        with pytest.raises(NeuronPathError, match=words):
            mantel(one, other)
    with pytest.raises(NeuronPathError, match="n_permutations is 0"):
        mantel(one, one, n_permutations=0)
    with pytest.raises(NeuronPathError, match="No correlation is named 'kendall'"):
        mantel(one, one, correlation="kendall")  # pyright: ignore[reportArgumentType]
