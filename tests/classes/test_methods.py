"""Methods side by side: the same paths, the same similarities, or nothing in common."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.methods import compare_methods, path_agreement
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from neuron_path.stats.mantel import mantel
from tests.classes.runs import draw_paths, literal_overlap, planted


@pytest.mark.parametrize(("k", "other_k"), [(1, 1), (2, 2), (3, 1)])
def test_agreement_is_the_mean_overlap_of_the_same_image(k: int, other_k: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"i{place}" for place in rng.permutation(15)]
    one = make_class_paths(draw_paths(rng, 15, 3, 5, k), rng.integers(0, 3, 15), images=names)
    paths = draw_paths(rng, 15, 3, 5, other_k)
    other = make_class_paths(paths, rng.integers(0, 3, 15), images=names)
    found = path_agreement(one, other, n_permutations=999)
    by_name = dict(zip(other.images.tolist(), other.paths, strict=True))
    pairs = [
        [literal_overlap(path, theirs) for theirs in by_name.values()] for path in one.paths
    ]  # fmt: skip
    own = [literal_overlap(path, by_name[name]) for name, path in zip(one.images.tolist(), one.paths, strict=True)]
    assert found.overlap == pytest.approx(np.mean(own))
    # Of random orders each pair comes equally often.
    assert found.expected == pytest.approx(np.mean(pairs), abs=0.01)
    assert found.n_images == 15


def test_pairs_are_compared_as_far_as_they_can_be() -> None:
    one = planted(6, 8, own=0.5, seed=0)
    other = planted(6, 8, own=0.5, seed=1)
    wider = planted(6, 8, own=0.5, n_neurons=99, seed=0)
    table = compare_methods(
        [("a", "m", one), ("b", "m", other), ("c", "n", wider)], n_permutations=19
    ).set_index(["method", "other"])  # fmt: skip
    assert len(table) == 3
    assert table["n_images"].tolist() == [48, 48, 48]
    same_model = table.loc[("a", "b")]
    assert same_model["overlap"] < 0.1
    expected = mantel(*(class_similarity(count_usage(p)) for p in (one, other)), n_permutations=95)
    assert (same_model["similarity_r"], same_model["similarity_p"]) == (expected.r, expected.p)
    # Neurons of different models have nothing to do with each other, classes have.
    assert np.isnan(table.loc[("a", "c"), "overlap"])
    assert np.isfinite(table.loc[("a", "c"), "similarity_r"])
    assert path_agreement(one, one, n_permutations=19).p == 0.05


def test_methods_without_common_images_or_classes_have_no_numbers() -> None:
    one = make_class_paths([[0], [1]], [0, 1], images=["a", "b"])
    other = make_class_paths([[0], [1]], [0, 1], images=["c", "d"])
    row = compare_methods([("a", "m", one), ("b", "m", other)]).iloc[0]
    assert row["n_images"] == 0
    assert np.isnan(row["overlap"])
    assert np.isnan(row["similarity_r"])
    with pytest.raises(NeuronPathError, match="expected the same images and blocks"):
        path_agreement(one, other)


def test_one_method_makes_no_pair() -> None:
    table = compare_methods([("a", "m", planted(4, 2))])
    assert len(table) == 0
    assert "similarity_r" in table.columns
