"""Several runs: the shared images, names that tell methods apart, and tables that hold what was computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuron_path.classes.grouping import group_paths
from neuron_path.classes.overlap import overlap_test
from neuron_path.classes.runs import Settings, analyze_runs
from neuron_path.classes.tables import all_tables, class_table, pair_table
from neuron_path.errors import NeuronPathError
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import build_table, path_schema
from tests.classes.runs import planted
from tests.store.rows import PathWriter

QUICK = Settings(n_permutations=19, n_splits=3)


def write(
    run_dir: Path, scorers: dict[str, int], *, n: int = 40, model: str = "m", top_k: int = 1, labelled: bool = True,
    n_neurons: int = 32, targets: int = 0, n_classes: int = 4,
) -> Path:  # fmt: skip
    """A run whose scorers have planted paths of four kinds by seed; kinds are labels, or some the same one."""
    run_dir.mkdir(parents=True)
    made = {"model": model, "weight_hash": f"{model}0" * 8, "n_neurons": [n_neurons] * 5, "classes": list("abcd")}
    writer = PathWriter(run_dir, path_schema(top_k), made)
    ids = [f"image/{index:03d}" for index in range(n)]
    for scorer, seed in scorers.items():
        paths = planted(4, n // 4, n_blocks=5, n_neurons=n_neurons, top_k=top_k, own=0.5, seed=seed)
        chosen = paths.paths if top_k > 1 else paths.paths[:, :, 0]
        members = paths.members % n_classes
        rows = {
            "sample_id": ids, "label": members if labelled else [None] * n,
            "target": (members + targets) % 4, "prediction": members, "target_probability": [0.5] * n,
            "scorer": [scorer] * n, "search": ["greedy"] * n, "measure": ["joint"] * n, "top_k": [top_k] * n,
            "path": chosen, "score": [0.1] * n, "score_error": [None] * n, "n_steps": [8] * n,
            "objective": [None] * n, "passes": [None] * n,
            "margins": np.ones((n, 5)), "convergence_delta": [None] * n, "complete": [None] * n,
            "rounding": [None] * n,
        }  # fmt: skip
        writer.append(build_table(path_schema(top_k), rows))
    writer.merge([(name, scorer) for scorer in scorers for name in ids])
    return run_dir


def test_each_method_has_its_own_statistics(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0, "random": 1})
    found = analyze_runs([run], QUICK)
    assert [method.name for method in found.methods] == ["joint attribution", "random"]
    for method in found.methods:
        alone = group_paths(run, scorer=method.paths.scorer)
        assert method.found is not None
        assert method.found.overlap.within == overlap_test(alone, n_permutations=19).within
        assert method.paths.n_neurons.tolist() == [32] * 5
        assert method.class_names == list("abcd")
    assert len(found.pairs) == 1
    assert (found.notes, found.missing) == ([], [])
    alone = analyze_runs([run], Settings(scorer="random", n_permutations=19, n_splits=3))
    assert [method.name for method in alone.methods] == ["random"]


def test_runs_are_analysed_on_the_images_that_all_have(tmp_path: Path) -> None:
    write(tmp_path / "sweep" / "0", {"joint_attribution": 0})
    write(tmp_path / "sweep" / "1", {"joint_attribution": 0}, model="n", n_neurons=64)
    write(tmp_path / "sweep" / "2", {"joint_attribution": 0}, n=20, top_k=3)
    with pytest.raises(NeuronPathError, match="label of image 'image/005' is"):
        analyze_runs([tmp_path / "sweep"], QUICK)
    found = analyze_runs([tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"], QUICK)
    assert [method.name for method in found.methods] == ["m: joint attribution", "n: joint attribution"]
    assert np.isnan(found.pairs["overlap"][0])
    write(tmp_path / "more", {"activation": 0}, top_k=3)
    found = analyze_runs([tmp_path / "sweep" / "0", tmp_path / "more"], QUICK)
    assert [method.name for method in found.methods] == ["activation (k = 3)", "joint attribution (k = 1)"]
    assert np.isfinite(found.pairs["overlap"][0])


def test_what_only_some_runs_have_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "a", {"joint_attribution": 0})
    frame = load_paths(run)
    other = write(tmp_path / "b", {"activation": 0, "random": 1})
    kept = PathWriter(tmp_path / "c", path_schema(1), frame.attrs["provenance"] | {"model": "part"})
    names = frame["sample_id"].tolist()[::2]
    columns = {name: frame[name][::2].tolist() for name in frame.columns}
    columns["label"] = [int(label) for label in columns["label"]]
    kept.append(build_table(path_schema(1), columns | {"scorer": ["joint_attribution"] * 20}))
    kept.merge([(name, "joint_attribution") for name in names])
    found = analyze_runs([run, tmp_path / "c"], QUICK)
    assert found.notes == ["Only the 20 images that all methods have are analysed; some have 40."]
    assert {method.paths.n_images for method in found.methods} == {20}
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "run.json").write_text("{}")
    found = analyze_runs([other, tmp_path / "failed"], QUICK)
    assert [run.run_dir for run in found.missing] == [str(tmp_path / "failed")]


def test_unlabelled_runs_are_analysed_by_target(tmp_path: Path) -> None:
    labelled = write(tmp_path / "a", {"joint_attribution": 0}, targets=1)
    without = write(tmp_path / "b", {"activation": 0}, labelled=False, targets=1)
    assert analyze_runs([labelled], QUICK).methods[0].paths.source == "label"
    both = analyze_runs([labelled, without], QUICK)
    assert {method.paths.source for method in both.methods} == {"target"}
    with pytest.raises(NeuronPathError, match=r"target of image 'image/000' is 1 in .* and 2 in .*, or all by label: "):
        analyze_runs([labelled, write(tmp_path / "c", {"random": 0}, targets=2)], Settings(by="target"))


def test_meaning_is_the_mantel_test_of_similarity_and_distance(tmp_path: Path) -> None:
    run = write(tmp_path / "a", {"joint_attribution": 0})
    (tmp_path / "tree.json").write_text(json.dumps({"first": ["a", "b"], "second": ["c", "d"]}))
    found = analyze_runs([run], Settings(distances=str(tmp_path / "tree.json"), n_permutations=19, n_splits=3))
    meaning = found.methods[0].meaning
    assert meaning is not None
    assert (meaning.n_classes, meaning.n_permutations) == (4, 19)
    assert found.distances == "tree.json, steps through a tree"
    assert "meaning.r" in all_tables(found)["summary"].columns


def test_same_methods_of_two_runs_are_told_apart_by_their_directory(tmp_path: Path) -> None:
    write(tmp_path / "0", {"random": 0})
    write(tmp_path / "1", {"random": 1})
    found = analyze_runs([tmp_path], QUICK)
    assert [method.name for method in found.methods] == [f"random in {tmp_path / name}" for name in "01"]


def test_tables_hold_what_was_computed(tmp_path: Path) -> None:
    found = analyze_runs([write(tmp_path / "a", {"joint_attribution": 0, "random": 1})], QUICK)
    tables = all_tables(found)
    assert list(tables) == [
        "summary", "methods", "concentration", "usage", "neurons", "classes", "class_pairs", "images"
    ]  # fmt: skip
    for name, table in tables.items():
        if name not in ("summary", "methods"):
            assert table["method"].unique().tolist() == ["joint attribution", "random"], name
    own = found.methods[0].found
    assert own is not None
    classes = class_table(own)
    assert classes["within"].tolist() == own.overlap.class_overlap.diagonal().tolist()
    others = [np.mean(own.overlap.class_overlap[c, [d for d in range(4) if d != c]]) for c in range(4)]
    np.testing.assert_allclose(classes["between"], others)  # ten images in each
    assert sorted(classes["leaf"]) == [0, 1, 2, 3]
    assert (
        classes["class"].to_numpy()[np.argsort(classes["leaf"])].tolist() == own.paths.classes[own.tree.order].tolist()
    )
    ginis = [row["gini"] for row in own.concentration.to_dict("records") if row["class"] == 2]
    assert classes["gini"].tolist()[2] == pytest.approx(np.mean(ginis))
    pairs = pair_table(own)
    assert len(pairs) == 6
    assert np.diff(pairs["similarity"].to_numpy()).max() <= 1e-9
    for row in pairs.to_dict("records"):
        assert row["overlap"] == own.overlap.class_overlap[row["class"], row["other"]]
    summary = tables["summary"].set_index("scorer")
    assert summary.loc["joint_attribution", "overlap.within"] == own.overlap.within
    assert summary.loc["joint_attribution", "stability.recognised.median"] == own.stability.recognised.median


def test_the_mistakes_of_a_user_are_named(tmp_path: Path) -> None:
    run = write(tmp_path / "a", {"random": 0})
    with pytest.raises(NeuronPathError, match="No scorer of these runs is named 'randm'"):
        analyze_runs([run], Settings(scorer="randm"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NeuronPathError, match="holds paths"):
        analyze_runs([tmp_path / "empty"])


def test_a_table_read_by_pandas_is_as_good_as_the_directory(tmp_path: Path) -> None:
    for top_k in (1, 3):
        run = write(tmp_path / str(top_k), {"random": 0}, top_k=top_k)
        by_directory, by_file = group_paths(run), group_paths(run / "paths.parquet")
        by_pandas = group_paths(pd.read_parquet(run / "paths.parquet"), n_neurons=32)
        for other in (by_file, by_pandas):
            np.testing.assert_array_equal(other.paths, by_directory.paths)
            np.testing.assert_array_equal(other.n_neurons, by_directory.n_neurons)
