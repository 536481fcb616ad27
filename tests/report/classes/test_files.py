"""What an analysis says in words: what is shown, what is not, and nothing from data that is markup."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from neuron_path.classes.runs import Settings, analyze_runs
from neuron_path.report.classes.files import headline_table, render_analysis
from neuron_path.report.classes.sentences import method_in_words, pairs_in_words
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import build_table, path_schema
from tests.classes.test_runs import write
from tests.store.rows import PathWriter


def shuffled(run: Path, target: Path) -> Path:
    """The same run with its labels dealt anew."""
    frame = load_paths(run)
    columns = {name: frame[name].tolist() for name in frame.columns}
    columns["label"] = np.random.default_rng(0).permutation(frame["label"].to_numpy(dtype=int)).tolist()
    writer = PathWriter(target, path_schema(1), frame.attrs["provenance"])
    writer.append(build_table(path_schema(1), columns))
    writer.merge([(name, "joint_attribution") for name in columns["sample_id"]])
    return target


def test_an_overlap_is_said_to_be_shown_only_where_it_is(tmp_path: Path) -> None:
    run = write(tmp_path / "a", {"joint_attribution": 0})
    settings = Settings(n_permutations=199, n_splits=3)
    planted = method_in_words(analyze_runs([run], settings).methods[0])
    assert "exceeds that of images of different ones" in planted[1]
    assert "p = 0.005 (199 shuffles of the labels)" in planted[1]
    without = method_in_words(analyze_runs([shuffled(run, tmp_path / "b")], settings).methods[0])
    assert "is not shown to exceed" in without[1]
    assert sum("chance: 25 %" in sentence for sentence in planted) == 1


def test_meaning_is_told_with_its_direction(tmp_path: Path) -> None:
    run = write(tmp_path / "a", {"joint_attribution": 0})
    (tmp_path / "tree.json").write_text(json.dumps({"first": ["a", "b"], "second": ["c", "d"]}))
    analysis = analyze_runs([run], Settings(distances=str(tmp_path / "tree.json"), n_permutations=99, n_splits=3))
    method = analysis.methods[0]
    assert method.meaning is not None
    (told,) = [sentence for sentence in method_in_words(method) if "semantic distance" in sentence]
    assert f"r = {method.meaning.r:.2f}".replace("-", "−") in told
    # Four classes have 24 orders: no p below 1/24 can be had, so nothing is shown.
    assert told.endswith("no relation is shown.")
    assert {"Meaning, r", "Meaning, p"} <= set(headline_table(analysis).columns)
    assert "tree.json, steps through a tree" in render_analysis(analysis, {}, tmp_path)


def test_pairs_are_told_as_far_as_they_can_be_compared(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {"joint_attribution": 0, "activation": 0})
    other = write(tmp_path / "b", {"joint_attribution": 0}, model="n|<i>", n_neurons=64)
    analysis = analyze_runs([one, other], Settings(n_permutations=9, n_splits=3))
    told = pairs_in_words(analysis)
    same = [sentence for sentence in told if "paths of the same image overlap" in sentence]
    assert len(told) == 3
    assert len(same) == 1
    assert "overlap by 100 %" in same[0]
    assert all("class similarities correlate" in sentence for sentence in told)
    assert not any("<i>" in sentence for sentence in told)
