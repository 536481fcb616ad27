"""A table of paths put in classes: labels or targets, one method, any order of rows, and mistakes in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.grouping import group_paths
from neuron_path.errors import NeuronPathError
from neuron_path.store.reader import load_paths
from tests.classes.runs import draw_paths, make_frame
from tests.evaluation.stores import write_run

PATHS = [[0, 3], [1, 3], [1, 2], [2, 0]]


def test_images_are_sorted_by_class_and_name() -> None:
    grouped = group_paths(make_frame(PATHS, [5, 2, 5, 2]).iloc[::-1], n_neurons=4)
    assert grouped.images.tolist() == [f"image/{index}.png" for index in (1, 3, 0, 2)]
    assert grouped.paths[:, :, 0].tolist() == [PATHS[index] for index in (1, 3, 0, 2)]
    assert (grouped.classes.tolist(), grouped.counts.tolist()) == ([2, 5], [2, 2])
    assert (grouped.members.tolist(), grouped.starts.tolist()) == ([0, 0, 1, 1], [0, 2])
    assert (grouped.n_blocks, grouped.top_k, grouped.source, grouped.scorer) == (2, 1, "label", "joint_attribution")


def test_the_order_of_rows_changes_nothing() -> None:
    frame = make_frame(draw_paths(np.random.default_rng(0), 30, 4, 9, 2), [0, 1, 2] * 10)
    one, other = group_paths(frame), group_paths(frame.sample(frac=1, random_state=1))
    for name in ("images", "paths", "classes", "counts", "n_neurons"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("labels", "by", "source", "classes"),
    [
        ([5, 5, 2, 2], "auto", "label", [2, 5]),
        ([5, 5, 2, 2], "target", "target", [1, 3]),
        ([None] * 4, "auto", "target", [1, 3]),
        ([5, None, 2, 2], "auto", "target", [1, 3]),
    ],
)
def test_classes_are_labels_else_targets(labels: Any, by: Any, source: str, classes: list[int]) -> None:
    grouped = group_paths(make_frame(PATHS, labels, target=[1, 1, 3, 3]), by=by)
    assert (grouped.source, grouped.classes.tolist()) == (source, classes)


@pytest.mark.parametrize("top_k", [1, 2])
def test_stored_runs_are_read(tmp_path: Any, top_k: int) -> None:
    run_dir = write_run(tmp_path, ["joint_attribution", "random"], top_k=top_k, n=8, n_neurons=[100, 100, 120])
    frame = load_paths(run_dir)
    grouped = group_paths(frame, scorer="random")
    own = frame.loc[frame["scorer"] == "random"].set_index("sample_id")
    for image, path in zip(grouped.images, grouped.paths, strict=True):
        np.testing.assert_array_equal(path, np.reshape(own.loc[image, "path"], (3, top_k)))
    assert grouped.n_neurons.tolist() == [100, 100, 120]
    # As pandas itself reads it, a top-k path is an array of arrays.
    plain = pd.read_parquet(run_dir / "paths.parquet")
    np.testing.assert_array_equal(group_paths(plain, scorer="random").paths, grouped.paths)


def test_incidence_has_each_neuron_once() -> None:
    grouped = make_class_paths([[[0, 2], [4, 1]], [[1, 0], [2, 3]]], [0, 1], n_neurons=[3, 5])
    assert grouped.incidence().toarray().tolist() == [[1, 0, 1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 1, 1, 0]]


def test_a_part_keeps_its_classes() -> None:
    grouped = make_class_paths(PATHS, [5, 2, 7, 5])
    part = grouped.take(np.array([1, 2]))
    assert (part.images.tolist(), part.classes.tolist(), part.counts.tolist()) == (
        ["000000000", "000000003"], [5], [2],
    )  # fmt: skip


def change(**columns: Any) -> pd.DataFrame:
    return make_frame(PATHS, [5, 5, 2, 2], **columns)


@pytest.mark.parametrize(
    ("frame", "options", "told"),
    [
        (change().iloc[:0], {}, "no row"),
        (change().drop(columns=["label", "path"]), {}, "lacks the column(s) label, path"),
        (change(scorer=["a", "a", "b", "b"]), {}, "several methods (scorer a, b)"),
        (change(search=["a", "a", "b", "b"]), {}, "say which with search='a'"),
        (change(), {"scorer": "joint"}, "No scorer is named 'joint'"),
        (change(top_k=[1, 1, 5, 5]), {}, "mixes paths with top_k 1, 5"),
        (change(sample_id=["a", "b", "a", "c"]), {}, "Image 'a' has 2 paths"),
        (change(label=pd.array([5, None, 2, 2], dtype="Int32")), {"by": "label"}, "1 of 4 images have no label"),
        (change(label=["cat", "dog", "cat", "dog"]), {}, "'label' holds no class indices"),
        (change(), {"by": "class"}, "No kind of class is named 'class'"),
        (change(path=[[0, 3], [1, 3], [1, 2], [2]]), {}, "differ in shape"),
        (change(path=[[0.5, 3], [1, 3], [1, 2], [2, 0]]), {}, "type float64"),
        (change(path=[[0, -3], [1, 3], [1, 2], [2, 0]]), {}, "neuron index -3"),
        (change(path=[[[0, 0]], [[1, 3]], [[1, 2]], [[2, 0]]]), {}, "a neuron twice"),
        (change(), {"n_neurons": 3}, "neuron 3 in block 1, which has 3 neurons"),
        (change(), {"n_neurons": [4, 4, 4]}, "n_neurons is [4, 4, 4]"),
    ],
)
def test_mistakes_are_one_line(frame: pd.DataFrame, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        group_paths(frame, **options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("paths", "classes", "options", "told"),
    [
        ([0, 1], [0, 1], {}, "shape (2,)"),
        (PATHS, [0, 1], {}, "shape (2,)"),
        (PATHS, [0.0, 1.0, 0.0, 1.0], {}, "type float64"),
        (PATHS, [0, 1, 0, 1], {"images": ["a"]}, "1 image names and 4 paths"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(paths: Any, classes: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        make_class_paths(paths, classes, **options)
    assert told in str(error.value)
