"""A whole run: what lies in its directory, and that the numbers are the Python interface's."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import neuron_path
from neuron_path.attribution.scorers.random import Random
from neuron_path.data.digits import DigitsDataset
from neuron_path.data.part import choose_part
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import searches
from neuron_path.store.provenance import weight_hash
from neuron_path.store.reader import load_effects
from tests.command import RESULTS, Outcome, call, run_in
from tests.pipeline.conftest import LIMIT

SCORERS = ["joint_attribution", "gradient_x_activation", "activation", "random"]


def strict_json(file: Path) -> dict[str, Any]:
    """Strict: no NaN, no infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


def stacked(column: Any) -> np.ndarray:
    """A column of lists as one array."""
    return np.stack([np.stack(entry) if np.ndim(entry[0]) else entry for entry in column])


def same_table(one: Any, two: Any) -> None:
    """Equal names, paths and classes; floats within rounding."""
    exact = ["sample_id", "label", "target", "prediction", "scorer", "search", "measure", "top_k"]
    pd.testing.assert_frame_equal(one[exact], two[exact])
    for name in ("path", "margins"):
        np.testing.assert_allclose(stacked(one[name]), stacked(two[name]), rtol=1e-5, atol=1e-6)
    for name in ("score", "target_probability"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def paths(finished: Outcome) -> pd.DataFrame:
    return neuron_path.load_paths(finished.run_dir)


@pytest.fixture(scope="module")
def part() -> list[int]:
    """Which of the test digits the run took."""
    data = DigitsDataset("test")
    return choose_part(data.labels, data.classes, limit=LIMIT)


def test_the_directory_holds_the_results_and_nothing_else(finished: Outcome) -> None:
    found = {file.name for file in finished.run_dir.iterdir()}
    assert found == set(RESULTS) - {"parts"}
    figures = sorted(file.name for file in (finished.run_dir / "figures").glob("*.png"))
    drawn = [
        "class_distribution",
        "class_overlap",
        "class_similarity",
        "effects",
        "path_0",
        "path_1",
        "path_2",
        "path_flow",
    ]
    assert figures == [f"{name}.png" for name in [*drawn, "usage_heat_map"]]
    for figure in figures:
        assert (finished.run_dir / "figures" / figure).with_suffix(".csv").exists()
        with Image.open(finished.run_dir / "figures" / figure) as picture:
            assert min(picture.size) > 200


def test_the_last_lines_say_what_was_found_and_where_it_is(finished: Outcome) -> None:
    first, removed, enhanced, second, third = finished.out.splitlines()
    assert re.fullmatch(rf"{LIMIT} images, [\d.]+ images/s", first)
    number = r"[−+][\d.]+ % \[[−+]?[\d.]+, [−+]?[\d.]+\]"
    assert re.match(rf"Removing the path changes the target probability by {number} .*for joint attribution", removed)
    assert "for random" in removed
    assert enhanced.startswith("Enhancing the path changes the target probability by ")
    assert second == f"Paths:  {finished.run_dir / 'paths.parquet'}"
    assert third == f"Report: {finished.run_dir / 'report.html'}"


def test_a_row_for_each_method_and_image_in_the_order_of_the_data(paths: pd.DataFrame, part: list[int]) -> None:
    data = DigitsDataset("test")
    names, labels = [data.sample_ids[index] for index in part], [data.labels[index] for index in part]
    assert paths["scorer"].tolist() == [scorer for scorer in SCORERS for _ in range(LIMIT)]
    assert paths["sample_id"].tolist() == names * len(SCORERS)
    assert paths["label"].tolist() == labels * len(SCORERS)
    assert paths["target"].tolist() == labels * len(SCORERS)
    assert set(paths["search"]) == {"greedy"}
    own = paths["scorer"] == "joint_attribution"
    assert paths.loc[own, ["complete", "convergence_delta"]].isna().to_numpy().all()
    assert paths.loc[~own, ["complete", "convergence_delta"]].notna().to_numpy().all()
    assert (paths["rounding"].to_numpy() < 1e-4).all()


@pytest.mark.parametrize("scorer", ["joint_attribution", "activation"])
def test_the_rows_are_find_paths_on_the_same_images(paths: pd.DataFrame, part: list[int], scorer: str) -> None:
    images, labels = neuron_path.load_digits("test")
    result = neuron_path.find_paths(neuron_path.load_model(), images[part], labels[part], scorer=scorer)
    rows = paths.loc[paths["scorer"] == scorer]
    assert np.array_equal(stacked(rows["path"]), result.paths.numpy())
    np.testing.assert_allclose(rows["score"], result.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows["target_probability"], result.target_probabilities, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stacked(rows["margins"]), result.margins, rtol=1e-4, atol=1e-5)
    assert rows["prediction"].tolist() == result.predictions.tolist()


def test_random_paths_are_drawn_by_seed_and_name(paths: pd.DataFrame, part: list[int]) -> None:
    images, labels = neuron_path.load_digits("test")
    rows = paths.loc[paths["scorer"] == "random"]
    finder = PathFinder(Session(neuron_path.load_model()), Method(Random(seed=3), searches.create("greedy")))
    [result] = finder.find(images[part], labels[part], rows["sample_id"].tolist(), progress=False)
    assert np.array_equal(stacked(rows["path"]), result.paths.squeeze(2).numpy())
    np.testing.assert_allclose(rows["score"], result.scores, rtol=1e-5, atol=1e-6)


def test_the_provenance_says_what_the_numbers_depend_on(paths: pd.DataFrame, finished: Outcome) -> None:
    made = paths.attrs["provenance"]
    weights = {name: tensor.numpy() for name, tensor in neuron_path.load_model().state_dict().items()}
    assert made["weight_hash"] == weight_hash(weights.items())
    expected = {
        "model": "digits_vit",
        "data": "digits",
        "n_images": LIMIT,
        "scorer": "joint_attribution",
        "baselines": ["gradient_x_activation", "activation", "random"],
        "search": "greedy",
        "measure": "joint",
        "target": "probability",
        "quadrature": "gauss_legendre",
        "n_steps": 8,
        "token_scope": "cls",
        "top_k": 1,
        "seed": 3,
        "n_neurons": [192] * 12,
        "classes": list("0123456789"),
    }
    assert {name: made[name] for name in expected} == expected
    assert made["preprocessing"]["mean"] == 0.5
    assert made["preprocessing"]["split"] == "test"
    assert made["versions"]["torch"] == importlib.metadata.version("torch")
    assert len(made["git"]["commit"]) == 40
    assert strict_json(finished.run_dir / "run.json") == made


def test_the_provenance_holds_the_whole_configuration(paths: pd.DataFrame) -> None:
    config = paths.attrs["provenance"]["config"]
    shown = call("run", "--cfg", "job")[1]
    top_level = set(re.findall(r"^(\w+):", shown, re.MULTILINE))
    assert set(config) == top_level
    assert config["data"] == {
        "name": "digits",
        "classes": None,
        "limit": LIMIT,
        "batch_size": 5,
        "num_workers": 0,
        "on_error": "raise",
        "max_skipped": None,
        "split": "test",
    }
    assert config["quadrature"] == {"rule": "gauss_legendre", "n_steps": 8}


def test_the_metrics_are_the_means_of_the_rows(paths: pd.DataFrame, finished: Outcome) -> None:
    metrics = strict_json(finished.run_dir / "metrics.json")
    assert (metrics["images"], metrics["skipped_images"], metrics["threads"]) == (LIMIT, 0, 1)
    assert metrics["images_per_second"] == pytest.approx(LIMIT / metrics["wall_seconds"])
    means = {scorer: paths.loc[paths["scorer"] == scorer, "score"].to_numpy().mean() for scorer in SCORERS}
    assert metrics["mean_score"] == pytest.approx(means)
    assert {(row["scorer"], row["operation"]) for row in metrics["effects"]} == {
        (scorer, operation) for scorer in SCORERS for operation in ("remove", "enhance")
    }


@pytest.mark.parametrize("operation", ["remove", "enhance"])
def test_the_effects_are_those_of_intervene(
    paths: pd.DataFrame, finished: Outcome, part: list[int], operation: Any
) -> None:
    images, labels = neuron_path.load_digits("test")
    effects = load_effects(finished.run_dir)
    for scorer in SCORERS:
        found = torch.tensor(stacked(paths.loc[paths["scorer"] == scorer, "path"]))
        logits = neuron_path.intervene(neuron_path.load_model(), images[part], found, operation)
        rows = effects.loc[(effects["scorer"] == scorer) & (effects["operation"] == operation)]
        expected = logits.softmax(1).gather(1, labels[part].unsqueeze(1)).squeeze(1)
        assert rows["sample_id"].tolist() == paths["sample_id"][:LIMIT].tolist()
        np.testing.assert_allclose(rows["edited_probability"], expected, rtol=1e-5, atol=1e-6)
        assert rows["edited_prediction"].tolist() == logits.argmax(1).tolist()


def test_the_report_gives_means_with_intervals_and_n(finished: Outcome) -> None:
    page = (finished.run_dir / "report.html").read_text(encoding="utf-8")
    rows = strict_json(finished.run_dir / "metrics.json")["effects"]
    assert {row["n"] for row in rows} == {LIMIT}
    assert {row["includes_zero"] for row in rows} == {True, False}  # so that both wordings are seen
    lines = re.findall(r"<tr>(.*?)</tr>", page.replace("\xa0", " "))
    cells = [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", line)] for line in lines]
    for row in rows:
        line = next(line for line in cells if line[:2] == [row["scorer"].replace("_", " "), row["operation"]])
        assert line[2] == str(LIMIT)
        assert re.search(r"[−+]?[\d.]+ % \[[−+][\d.]+, [−+][\d.]+\]", line[4])
        assert ("includes 0" in line[4]) == row["includes_zero"]
    for figure in (finished.run_dir / "figures").glob("*.png"):
        assert base64.b64encode(figure.read_bytes()).decode() in page


def test_the_example_paths_come_with_the_scores_of_all_candidates(finished: Outcome, paths: pd.DataFrame) -> None:
    table = pd.read_csv(finished.run_dir / "figures" / "path_0.csv")
    assert len(table) == 12 * 192
    chosen = table.loc[table["on_path"]]
    assert chosen["neuron"].tolist() == paths["path"].iloc[0].tolist()
    best = table.loc[table.groupby("block")["score"].idxmax()]
    assert best["neuron"].tolist() == chosen["neuron"].tolist()


@pytest.mark.parametrize(
    ("batch_size", "num_workers"),
    [pytest.param(1, 0, marks=pytest.mark.slow), (7, 2), pytest.param(360, 0, marks=pytest.mark.slow)],
)
def test_batches_and_workers_change_nothing(
    paths: pd.DataFrame, batch_size: int, num_workers: int, tmp_path: Path
) -> None:
    options = [f"data.limit={LIMIT}", f"data.batch_size={batch_size}", f"data.num_workers={num_workers}", "seed=3"]
    outcome = run_in(tmp_path / "run", "search", *options)
    assert (outcome.code, outcome.err) == (0, "")
    own = paths.loc[paths["scorer"] == "joint_attribution"].reset_index(drop=True)
    same_table(neuron_path.load_paths(tmp_path / "run"), own)


def test_the_same_configuration_gives_the_same_file(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        outcome = run_in(tmp_path / name, "search", "scorer=random", "data.limit=3", "seed=5")
        assert outcome.code == 0
        tables.append(neuron_path.load_paths(tmp_path / name))
    one, two = tables
    pd.testing.assert_frame_equal(one, two)
    first, second = ({**table.attrs["provenance"], "environment": None} for table in tables)
    assert first == second


def test_another_seed_draws_other_random_paths_and_the_same_others(tmp_path: Path) -> None:
    options = [
        "data.limit=1",
        "evaluation.operations=[remove]",
        "report=false",
        "baselines=[gradient_x_activation,activation,random,activation_matched_random]",
    ]
    for seed in (1, 2):
        assert run_in(tmp_path / str(seed), "run", *options, f"seed={seed}").code == 0
    one, two = (neuron_path.load_paths(tmp_path / str(seed)) for seed in (1, 2))
    for scorer in [*SCORERS, "activation_matched_random"]:
        first, second = (stacked(table.loc[table["scorer"] == scorer, "path"]) for table in (one, two))
        assert np.array_equal(first, second) == ("random" not in scorer)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("prediction", "prediction"), ("4", "constant")],
)
def test_the_target_can_be_chosen(target: str, expected: str, tmp_path: Path) -> None:
    assert run_in(tmp_path / "run", "search", f"target_class={target}", "data.limit=5", "scorer=activation").code == 0
    table = neuron_path.load_paths(tmp_path / "run")
    wanted = table["prediction"].tolist() if expected == "prediction" else [4] * 5
    assert table["target"].tolist() == wanted


def test_several_neurons_a_block(tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "search", "top_k=3", "data.limit=2", "token_scope=patch")
    assert (outcome.code, outcome.err) == (0, "")
    table = neuron_path.load_paths(tmp_path / "run")
    images, labels = neuron_path.load_digits("test")
    part = choose_part(labels.tolist(), [], limit=2)
    result = neuron_path.find_paths(neuron_path.load_model(), images[part], labels[part], top_k=3, token_scope="patch")
    assert np.array_equal(stacked(table["path"]), result.paths.numpy())


def test_classes_take_a_part(tmp_path: Path) -> None:
    options = ["data.classes=[3,8]", "data.limit=6", "data.split=val", "scorer=activation"]
    assert run_in(tmp_path / "run", "search", *options).code == 0
    table = neuron_path.load_paths(tmp_path / "run")
    assert sorted(set(table["label"])) == [3, 8]
    assert len(table) == 6
    assert set(table["sample_id"]) <= set(DigitsDataset("val").sample_ids)


def test_a_method_named_twice_runs_once(tmp_path: Path) -> None:
    options = ["baselines=[random,joint_attribution,random]", "evaluation.operations=[remove,remove]", "data.limit=2"]
    options += ["report=false"]
    assert run_in(tmp_path / "run", "run", *options).code == 0
    assert neuron_path.load_paths(tmp_path / "run")["scorer"].tolist() == ["joint_attribution"] * 2 + ["random"] * 2
    assert len(load_effects(tmp_path / "run")) == 4


def test_a_search_that_maximises_is_stored_with_what_and_baselines_stay_greedy(tmp_path: Path) -> None:
    tables: dict[str, Any] = {}
    for search in ("greedy", "linearized"):
        options = [f"search={search}", "baselines=[activation]", "data.limit=3", "report=false"]
        assert run_in(tmp_path / search, "run", *options).code == 0
        tables[search] = neuron_path.load_paths(tmp_path / search).set_index(["scorer", "sample_id"]).sort_index()
    greedy, better = tables["greedy"], tables["linearized"]
    own, baseline = better.loc["joint_attribution"], better.loc["activation"]
    assert set(own["search"]) == {"linearized"}
    np.testing.assert_array_equal(own["objective"], own["score"])
    assert own["score"].mean() > greedy.loc["joint_attribution"]["score"].mean()
    assert own["passes"].between(1, 10).all()
    assert set(baseline["search"]) == {"greedy"}
    np.testing.assert_array_equal(stacked(baseline["path"]), stacked(greedy.loc["activation"]["path"]))
    for rows in (baseline, greedy):
        assert rows[["objective", "passes"]].isna().to_numpy().all()


@pytest.mark.parametrize("operation", ["mean_ablation", "resample_ablation"])
def test_the_effect_that_is_maximised_is_the_one_that_is_measured(operation: str, tmp_path: Path) -> None:
    options = ["search=linearized", "search.measure=effect", f"search.operation={operation}", "baselines=[activation]"]
    options += [f"evaluation.operations=[{operation}]", "data.limit=4", "report=false"]
    assert run_in(tmp_path / "run", "run", *options).code == 0
    paths = neuron_path.load_paths(tmp_path / "run").set_index(["scorer", "sample_id"])
    effects = load_effects(tmp_path / "run").set_index(["scorer", "sample_id"])
    fall = effects["clean_probability"] - effects["edited_probability"]
    own, baseline = "joint_attribution", "activation"
    assert set(paths.loc[own]["measure"]) == {f"effect of {operation}"}
    np.testing.assert_allclose(paths.loc[own]["objective"], fall.loc[own], rtol=1e-4, atol=1e-7)
    assert fall.loc[own].mean() > fall.loc[baseline].mean()
