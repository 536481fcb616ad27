"""Usage and its concentration, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from neuron_path.classes.class_paths import ClassPaths, make_class_paths
from neuron_path.classes.usage import concentration, count_usage
from neuron_path.errors import NeuronPathError
from tests.classes.runs import literal_usage, small_runs


@given(small_runs())
def test_counts_are_those_made_by_hand(paths: ClassPaths) -> None:
    frame = count_usage(paths).to_frame()
    keys = zip(frame["class"], frame["block"], frame["neuron"], strict=True)
    assert dict(zip(keys, frame["count"], strict=True)) == literal_usage(paths)
    assert frame[["class", "block", "neuron"]].to_numpy().tolist() == sorted(map(list, literal_usage(paths)))
    n = dict(zip(paths.classes.tolist(), paths.counts.tolist(), strict=True))
    assert frame["n"].tolist() == [n[index] for index in frame["class"]]
    np.testing.assert_allclose(frame["frequency"], frame["count"] / frame["n"])


@given(small_runs())
def test_the_array_the_blocks_and_the_table_agree(paths: ClassPaths) -> None:
    usage = count_usage(paths)
    array = usage.to_array()
    assert array.shape == (paths.n_classes, paths.n_blocks, paths.n_neurons[0])
    np.testing.assert_allclose(array.sum(axis=2), paths.top_k)
    for (index, block, neuron), count in literal_usage(paths).items():
        row = paths.classes.tolist().index(index)
        assert array[row, block, neuron] == pytest.approx(count / paths.counts[row])
        assert usage.block(block).toarray()[row, neuron] == count


def test_blocks_may_differ_in_width() -> None:
    usage = count_usage(make_class_paths([[0, 4], [1, 0]], [0, 0], n_neurons=[2, 5]))
    assert usage.block(1).toarray().tolist() == [[1, 0, 0, 0, 1]]
    with pytest.raises(NeuronPathError, match="equal widths"):
        usage.to_array()


@given(small_runs())
def test_concentration_follows_its_definition(paths: ClassPaths) -> None:
    found = concentration(count_usage(paths)).to_dict("records")
    assert len(found) == paths.n_classes * paths.n_blocks
    usage = literal_usage(paths)
    n_neurons = int(paths.n_neurons[0])
    for row in found:
        counts = [usage.get((row["class"], row["block"], neuron), 0) for neuron in range(n_neurons)]
        shares = np.array(counts) / sum(counts)
        assert row["used_neurons"] == np.count_nonzero(counts)
        assert row["entropy"] == pytest.approx(stats.entropy(shares), abs=1e-12)
        assert row["effective_neurons"] == pytest.approx(math.exp(stats.entropy(shares)))
        differences = sum(abs(a - b) for a in shares for b in shares)
        assert row["gini"] == pytest.approx(differences / (2 * n_neurons), abs=1e-12)
        assert row["top_neuron"] == counts.index(max(counts))
        assert row["top_share"] == pytest.approx(max(counts) / row["n"])


def test_extremes() -> None:
    alone = concentration(count_usage(make_class_paths([[3], [3]], [0, 0], n_neurons=4))).iloc[0]
    assert (alone["entropy"], alone["effective_neurons"], alone["gini"], alone["top_share"]) == (0, 1, 0.75, 1)
    alike = concentration(count_usage(make_class_paths([[0], [1], [2], [3]], [0] * 4, n_neurons=4))).iloc[0]
    assert (alike["gini"], alike["top_neuron"], alike["top_share"]) == (0, 0, 0.25)
    assert alike["effective_neurons"] == pytest.approx(4)
