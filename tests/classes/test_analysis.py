"""All statistics at once: the same as one by one, for any order of rows, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from neuron_path.classes.analysis import analyze_classes
from neuron_path.classes.clustering import class_agreement, cluster_classes
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.overlap import overlap_test
from neuron_path.classes.stability import split_half_stability
from neuron_path.errors import NeuronPathError
from tests.classes.runs import draw_paths, make_frame, planted


def test_the_parts_are_those_computed_alone() -> None:
    paths = planted(6, 10, own=0.4, top_k=2)
    found = analyze_classes(paths, n_permutations=99, n_splits=10, seed=4)
    assert found.overlap.to_dict() == overlap_test(paths, n_permutations=99, seed=4).to_dict()
    assert found.stability == split_half_stability(paths, n_splits=10, seed=4)
    assert found.agreement == class_agreement(paths, seed=4)
    assert found.tree.cophenetic == cluster_classes(found.similarity).cophenetic
    assert len(found.concentration) == 6 * paths.n_blocks
    assert len(found.neighbours) == 6


def test_the_summary_says_what_it_is_of_and_is_plain() -> None:
    frame = make_frame(draw_paths(np.random.default_rng(0), 30, 3, 5, 1), [None] * 30, target=[0, 1, 2] * 10)
    summary = analyze_classes(group_paths(frame), n_permutations=9, n_splits=3).summary()
    assert (summary["classes_are"], summary["n_classes"], summary["scorer"]) == ("target", 3, "joint_attribution")
    assert json.loads(json.dumps(summary)) == summary
    again = analyze_classes(group_paths(frame.sample(frac=1, random_state=1)), n_permutations=9, n_splits=3)
    assert again.summary() == summary


def test_one_class_is_refused() -> None:
    with pytest.raises(NeuronPathError, match="needs two classes or more"):
        analyze_classes(planted(1, 4))


@pytest.mark.parametrize("top_k", [1, 3])
def test_many_classes_of_a_large_model(top_k: int) -> None:
    paths = planted(60, 8, n_blocks=12, n_neurons=4096, top_k=top_k, own=0.2, shared=0.3, groups=6)
    found = analyze_classes(paths, n_permutations=99, n_splits=5)
    assert found.overlap.p == 0.01
    # Four images a half, and half of the blocks say nothing: far above the 1/60 of chance.
    assert found.stability.recognised.median > 0.5
    assert len(np.unique(paths.classes[found.tree.order] % 6)) == 6
    assert np.count_nonzero(np.diff(paths.classes[found.tree.order] % 6)) == 5


def test_nothing_here_needs_torch() -> None:
    code = "import sys, neuron_path.classes.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
