"""Rankings from stored paths against plain dictionaries."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.pruning.ranking import By, hidden_widths, path_ranking, rank_neurons
from neuron_path.store.reader import load_paths
from tests import tiny
from tests.evaluation.stores import write_run

BYS: tuple[By, ...] = ("frequency", "score", "both")


def table(paths: list[Any], scores: list[float], targets: list[int] | None = None, **method: Any) -> pd.DataFrame:
    top_k = np.asarray(paths[0]).reshape(len(paths[0]), -1).shape[1]
    columns = {"scorer": "joint_attribution", "search": "greedy", "top_k": top_k} | method
    held = [np.asarray(path, dtype=np.int32) for path in paths]
    return pd.DataFrame(columns | {"target": targets or [0] * len(paths), "score": scores, "path": held})


def literal(frame: pd.DataFrame, widths: list[int], by: By, classes: set[int] | None) -> list[list[float]]:
    """Row by row, neuron by neuron; −1 is none."""
    counts: dict[tuple[int, int], float] = defaultdict(float)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for row in frame.to_dict("records"):
        if classes is not None and row["target"] not in classes:
            continue
        for block, neurons in enumerate(row["path"]):
            for neuron in [neurons] if np.ndim(neurons) == 0 else neurons:
                counts[block, int(neuron)] += 1
                sums[block, int(neuron)] += row["score"]
    ranking = []
    for block, width in enumerate(widths):
        n, s = ([values[block, neuron] for neuron in range(width)] for values in (counts, sums))
        all_s = sum(abs(value) for value in s)
        both = [(a / (sum(n) or 1) + (b / all_s if all_s else 0)) / 2 for a, b in zip(n, s, strict=True)]
        ranking.append({"frequency": n, "score": s, "both": both}[by])
    return ranking


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, list[int]]:
    k = draw(st.integers(1, 3))
    widths = draw(st.lists(st.integers(k, 7), min_size=1, max_size=4))
    n = draw(st.integers(1, 8))
    paths = [[draw(st.permutations(range(-1, width)))[:k] for width in widths] for _ in range(n)]
    if k == 1 and draw(st.booleans()):
        paths = [[neurons[0] for neurons in path] for path in paths]
    scores = draw(st.lists(st.floats(-2, 2).map(lambda x: round(x, 3)), min_size=n, max_size=n))
    targets = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return table(paths, scores, targets), widths


@given(tables(), st.sampled_from(BYS), st.booleans())
def test_rankings_are_those_of_dictionaries(made: tuple[pd.DataFrame, list[int]], by: By, some_classes: bool) -> None:
    frame, widths = made
    classes = {int(frame["target"].iloc[0]), 2} if some_classes else None
    found = path_ranking(frame, widths, by, classes=classes)
    expected = literal(frame, widths, by, classes)
    assert [len(scores) for scores in found] == widths
    for one, two in zip(found, expected, strict=True):
        assert one.tolist() == pytest.approx(two, abs=1e-12)


@pytest.mark.parametrize("top_k", [1, 3])
def test_a_stored_runs_paths_are_ranked(tmp_path: Path, top_k: int) -> None:
    run = write_run(tmp_path / "run", ["joint_attribution", "activation"], n=20, top_k=top_k)
    frame = load_paths(run)
    widths = [int(max(np.max(path[block]) for path in frame["path"])) + 1 for block in range(len(frame["path"][0]))]
    for scorer in ("joint_attribution", "activation"):
        found = path_ranking(frame, widths, scorer=scorer)
        expected = literal(frame.loc[frame["scorer"] == scorer], widths, "both", None)
        for one, two in zip(found, expected, strict=True):
            assert one.tolist() == pytest.approx(two, abs=1e-12)


def test_the_paths_of_a_search_fit_its_model() -> None:
    model, images = tiny.make(), tiny.make_images()
    result = neuron_path.find_paths(model, images, [3, 0, 4], top_k=2)
    frame = table(result.paths.tolist(), result.scores.tolist(), [3, 0, 4])
    for by in BYS:
        found = rank_neurons(result.paths, result.scores, hidden_widths(model), by)
        assert all(torch.equal(a, b) for a, b in zip(found, path_ranking(frame, [24] * 3, by), strict=True))
    assert hidden_widths(model) == [24] * 3
    ranking = path_ranking(frame, hidden_widths(model), "frequency", classes=[4])
    for block, scores in enumerate(ranking):
        assert scores.nonzero().flatten().tolist() == sorted(result.paths[2, block].tolist())


def one_line(error: pytest.ExceptionInfo[NeuronPathError], *parts: str) -> None:
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_several_methods_must_be_told_apart() -> None:
    frame = pd.concat([table([[0, 1]], [1.0]), table([[0, 1]], [1.0], scorer="activation")])
    with pytest.raises(NeuronPathError) as error:
        path_ranking(frame, [2, 2])
    one_line(error, "the paths of 2 methods", "joint_attribution, greedy, 1; activation, greedy, 1", "scorer=")
    assert path_ranking(frame, [2, 2], "frequency", scorer="activation")[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (table([[0, 1]], [1.0]).drop(columns="score"), {}, "lacks column(s) score"),
        (table([[0, 1]], [1.0]), {"by": "score+"}, "No path ranking is named 'score+'. Did you mean 'score'?"),
        (table([[0, 1]], [1.0]), {"scorer": "ablation"}, "No path in the table has scorer 'ablation'. Found: joint_at"),
        (table([[0, 1]], [1.0]), {"classes": [3, 1]}, "The table holds no path of the class(es) 1, 3"),
        (table([[0, 1]], [1.0]).iloc[:0], {}, "The table holds no path:"),
        (table([[0, 1, 0]], [1.0]), {}, "The paths run through 3 blocks, but 2 widths are given"),
        (table([[0, 2]], [1.0]), {}, "A path names neuron 2 in block 1, which has neurons 0 … 1"),
        (table([[0, 1]], [float("nan")]), {}, "A path's score is NaN or infinite"),
    ],
)
def test_wrong_tables_are_one_clear_line(frame: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        path_ranking(frame, [2, 2], **options)
    one_line(error, message)


@pytest.mark.parametrize(
    ("paths", "scores", "message"),
    [
        (torch.zeros(2, 2), torch.ones(2), "Paths have shape (2, 2) and dtype float32"),
        (torch.zeros(2, dtype=torch.int64), torch.ones(2), "Paths have shape (2,)"),
        (torch.zeros(0, 2, dtype=torch.int64), torch.ones(0), "of one image at least"),
        (torch.zeros(2, 2, dtype=torch.int64), torch.ones(3), "Scores have shape (3,); expected (2,)"),
    ],
)
def test_wrong_paths_are_one_clear_line(paths: Any, scores: Any, message: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        rank_neurons(paths, scores, [2, 2])
    one_line(error, message)
