"""Comparison of run directories whose effects are planted: found, not invented, and never dropped in silence."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.comparison import Comparison, compare
from neuron_path.report.cells import to_records
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.stats.paired import holm, paired_test
from neuron_path.store.reader import load_effects, load_scores
from tests.evaluation import stores
from tests.evaluation.stores import CLASSES, OPERATIONS, STRENGTH, provenance, write_run

FAST: dict[str, Any] = {"n_bootstrap": 199, "n_permutations": 1999}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every scorer in a run of its own, as a sweep leaves them."""
    root = tmp_path_factory.mktemp("sweep")
    for index, scorer in enumerate(STRENGTH):
        write_run(root / str(index), [scorer])
    return root


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> Comparison:
    return compare([sweep])


def cell(comparison: Comparison, scorer: str, operation: str, measure: str, **others: Any) -> dict[str, Any]:
    wanted = {"scorer": scorer, "operation": operation, "measure": measure} | others
    (found,) = (row for row in to_records(comparison.cells) if wanted.items() <= row.items())
    return found


def numbers(table: pd.DataFrame, *names: str) -> np.ndarray:
    return table[list(names)].to_numpy(dtype=np.float64)


def refusal(*run_dirs: Path, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as error:
        compare(run_dirs, **(FAST | options))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_method_has_every_column(comparison: Comparison) -> None:
    cells = comparison.cells
    assert list(dict.fromkeys(cells["scorer"])) == [
        "joint_attribution", "activation", "complete_attribution", "influence_pattern", "random",
        "activation_matched_random",
    ]  # fmt: skip
    assert len(cells) == len(STRENGTH) * (2 + 4 * len(OPERATIONS))
    assert set(cells["n"]) == {60}
    assert (np.diff(numbers(cells, "low", "mean", "high")) >= 0).all()
    assert (comparison.missing, comparison.notes) == ([], [])
    assert [run["methods"][0]["scorer"] for run in comparison.runs] == list(STRENGTH)


def test_a_cell_is_the_mean_of_the_stored_effects(sweep: Path, comparison: Comparison) -> None:
    effects = load_effects(sweep / "0").sort_values("sample_id")
    effects = effects.loc[effects["operation"] == "remove"]
    deviation = 100 * (effects["edited_probability"] / effects["clean_probability"] - 1).to_numpy()
    found, expected = (
        cell(comparison, "joint_attribution", "remove", "probability_deviation"),
        bootstrap_mean(deviation),
    )
    assert [found[name] for name in ("mean", "low", "high")] == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    scores = load_scores(sweep / "0")
    assert cell(comparison, "joint_attribution", "", "complete_score")["mean"] == pytest.approx(
        scores["complete"].mean()
    )


def test_a_planted_effect_is_found_and_bold(comparison: Comparison) -> None:
    best = cell(comparison, "joint_attribution", "remove", "probability_deviation")
    assert best["best"]
    assert best["mean"] == pytest.approx(-20, abs=1)
    assert np.isnan(best["p_reference"])
    assert best["p_random"] < 0.01
    assert best["p_activation_matched_random"] < 0.01
    other = cell(comparison, "activation", "remove", "probability_deviation")
    assert not other["best"]
    assert other["p_reference"] < 0.01
    assert other["difference"] == pytest.approx(other["mean"] - best["mean"])
    assert other["difference_low"] < other["difference"] < other["difference_high"]


@pytest.mark.parametrize(
    ("operation", "measure", "better"),
    [
        ("remove", "probability_deviation", "smaller"),
        ("remove", "kl_divergence", "larger"),
        ("mean_ablation", "logit_difference", "smaller"),
        ("keep_only", "probability_deviation", "larger"),
        ("keep_only", "kl_divergence", "smaller"),
        ("", "joint_score", "larger"),
    ],
)
def test_the_best_is_at_the_right_end(operation: str, measure: str, better: str, comparison: Comparison) -> None:
    found = cell(comparison, "joint_attribution", operation, measure)
    assert (found["better"], found["best"]) == (better, True)


def test_without_an_effect_nothing_is_bold(tmp_path: Path) -> None:
    scorers = ["joint_attribution", "activation", "random"]
    for scorer in scorers:
        write_run(tmp_path / scorer, [scorer], strength=dict.fromkeys(scorers, 0.05))
    found = compare([tmp_path])
    assert set(found.cells["best"]) == {False}
    # 66 tests of true nulls, corrected column by column: a few below 0.05 may come by chance, none should be certain.
    assert numbers(found.tests, "p_planned").min() > 0.001


def test_tests_are_corrected_in_their_families(sweep: Path, comparison: Comparison) -> None:
    tests = comparison.tests
    column = tests.loc[(tests["operation"] == "enhance") & (tests["measure"] == "probability_deviation")]
    assert len(column) == 15
    np.testing.assert_allclose(column["p_all_pairs"], holm(column["p"]))
    roles = {"joint_attribution", "random", "activation_matched_random"}
    planned = column[["scorer", "other_scorer"]].isin(roles).any(axis=1)
    assert planned.sum() == 12
    np.testing.assert_allclose(column.loc[planned, "p_planned"], holm(column.loc[planned, "p"]))
    assert column.loc[~planned, "p_planned"].isna().all()
    deviation = {}
    for index, scorer in enumerate(STRENGTH):
        rows = load_effects(sweep / str(index)).sort_values("sample_id").query("operation == 'enhance'")
        deviation[scorer] = 100 * (rows["edited_probability"] / rows["clean_probability"] - 1).to_numpy()
    for row in column.to_dict("records"):
        expected = paired_test(deviation[row["scorer"]], deviation[row["other_scorer"]])
        assert row["difference"] == pytest.approx(expected.difference.mean)
        assert row["p"] == expected.p


def test_neither_the_order_of_directories_nor_that_of_rows_matters(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "sweep")
    run_dirs = sorted((tmp_path / "sweep").iterdir())
    one = compare(run_dirs, **FAST)
    for changed in (run_dirs[::-1], [tmp_path / "sweep"], [*run_dirs, run_dirs[0], tmp_path / "sweep" / "." / "1"]):
        other = compare(changed, **FAST)
        for name in ("cells", "tests", "classes"):
            pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)
        assert (one.runs, one.notes) == (other.runs, other.notes)
    assert not one.cells.equals(compare(run_dirs, seed=1, **FAST).cells)


def test_another_seed_of_a_null_changes_only_its_rows(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "sweep")
    one = compare([tmp_path / "sweep"], **FAST).cells.query("operation != 'resample_ablation'").reset_index(drop=True)
    shutil.rmtree(tmp_path / "sweep" / "4")
    write_run(tmp_path / "sweep" / "4", ["random"], seed=1)
    other = compare([tmp_path / "sweep"], **FAST).cells  # whose donors would be others: no resample-ablation
    same = one["scorer"] != "random"
    means = ["mean", "low", "high", "n"]
    pd.testing.assert_frame_equal(one.loc[same, means], other.loc[same, means], check_exact=True)
    assert not one.loc[~same].equals(other.loc[~same])


def test_classes_are_labels_with_their_names(comparison: Comparison) -> None:
    classes = comparison.classes
    assert set(classes["class_kind"]) == {"label"}
    assert list(dict.fromkeys(classes["class_name"])) == CLASSES
    assert len(classes) == 4 * len(comparison.cells)
    assert set(classes["n"]) == {15}
    whole = cell(comparison, "activation", "remove", "kl_divergence")["mean"]
    own = classes.query("scorer == 'activation' and operation == 'remove' and measure == 'kl_divergence'")
    assert numbers(own, "mean").mean() == pytest.approx(whole)


def test_without_labels_there_is_no_accuracy_and_classes_are_targets(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution", "random"], labelled=False)
    found = compare([tmp_path], **FAST)
    assert "accuracy_deviation" not in set(found.cells["measure"])
    assert set(found.classes["class_kind"]) == {"target"}


def test_curves_have_areas(tmp_path: Path) -> None:
    scorers = ["joint_attribution", "activation", "random"]
    write_run(tmp_path / "a", scorers, top_k=4, sizes=(0, 1, 2, 4), strength=STRENGTH | {"random": 0.0})
    found = compare([tmp_path], **FAST)
    necessity = cell(found, "joint_attribution", "remove", "necessity_area")
    sufficiency = cell(found, "joint_attribution", "keep_only", "sufficiency_area")
    # The curves fall (rise) in a straight line from 1 to 0.8 (from 0.3 to 0.5).
    assert necessity["mean"] == pytest.approx(0.9, abs=0.01)
    assert sufficiency["mean"] == pytest.approx(0.4, abs=0.01)
    assert necessity["best"]
    assert sufficiency["best"]
    assert cell(found, "random", "remove", "necessity_area")["mean"] == pytest.approx(1, abs=0.01)
    assert set(found.cells["top_k"]) == {4}


def test_sizes_of_path_are_rows_of_their_own(tmp_path: Path) -> None:
    scorers = ["joint_attribution", "random"]
    write_run(tmp_path / "1", scorers)
    write_run(tmp_path / "5", scorers, top_k=5, sizes=(0, 5), operations=["remove"])
    found = compare([tmp_path], **FAST)
    assert list(dict.fromkeys(found.cells["top_k"])) == [1, 5]
    assert set(found.tests["top_k"]) == {1, 5}
    assert cell(found, "joint_attribution", "remove", "probability_deviation", top_k=5)["best"]
    assert set(found.cells.loc[found.cells["top_k"] == 5, "operation"]) == {"", "remove"}


def test_models_are_compared_each_for_itself(tmp_path: Path) -> None:
    weak = {"joint_attribution": 0.0, "activation": 0.2}
    write_run(tmp_path / "a", ["joint_attribution", "activation"])
    write_run(tmp_path / "b", ["joint_attribution", "activation"], strength=weak, weight_hash="fedcba9876543210")
    write_run(tmp_path / "c", ["activation"], model="vit_b_16", token_scope="cls", data="image_folder", n=20)
    found = compare([tmp_path], **FAST)
    models = ["digits_vit (weights 01234567)", "digits_vit (weights fedcba98)", "vit_b_16"]
    assert list(dict.fromkeys(found.cells["model"])) == models
    best = found.cells.loc[found.cells["best"] & (found.cells["measure"] == "probability_deviation")]
    assert best.loc[best["operation"] == "remove", ["model", "scorer"]].to_numpy().tolist() == [
        [models[0], "joint_attribution"],
        [models[1], "activation"],
    ]
    assert set(found.cells.loc[found.cells["model"] == "vit_b_16", "n"]) == {20}


def test_runs_without_results_are_listed(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep / "0", tmp_path / "good")
    shutil.copytree(sweep / "1", tmp_path / "searched")
    (tmp_path / "searched" / "effects.parquet").unlink()
    for name, inside in (("running", "parts/x"), ("failed", "run.json"), ("empty", "")):
        (tmp_path / name / inside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir(exist_ok=True)
        if inside:
            (tmp_path / name / inside).touch()
    (tmp_path / "good" / "figures").mkdir()
    (tmp_path / ".cache").mkdir()
    found = compare([tmp_path], **FAST)
    reasons = {Path(run.run_dir).name: run.reason for run in found.missing}
    assert sorted(reasons) == ["empty", "failed", "running", "searched"]
    assert reasons["searched"] == (
        f"no effects.parquet: measure its paths with neuron-path evaluate run_dir={tmp_path / 'searched'}"
    )
    assert reasons["running"].startswith("unfinished")
    assert reasons["failed"].startswith("failed or still running")
    assert reasons["empty"].startswith("empty")
    assert set(found.cells["scorer"]) == {"joint_attribution"}
    shutil.rmtree(tmp_path / "good")
    assert "None of 4 run directories can be compared" in refusal(tmp_path)


def test_a_path_without_effects_or_scores_is_told(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "a", ["joint_attribution"], scored=False)
    other = write_run(tmp_path / "b", ["joint_attribution", "activation"])
    shutil.copy(other / "paths.parquet", run_dir)
    shutil.rmtree(other)
    found = compare([tmp_path], **FAST)
    assert found.notes == [
        f"{run_dir} holds no scores.parquet: its methods have no scores in the table.",
        f"{run_dir} holds paths of activation (greedy, top_k 1), but no effects of them.",
    ]
    assert "joint_score" not in set(found.cells["measure"])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"token_scope": "patch"}, "token_scope is 'cls' in"),
        ({"data": "image_folder"}, "data is 'digits' in"),
        ({"folder": "pictures"}, "folder is None in"),
        ({"target": "logit"}, "target is 'probability' in"),
        ({"config": {**provenance()["config"], "contrast_class": 2}}, "contrast_class is None in"),
        ({"classes": ["a", "b"]}, "classes is ['class 0'"),
        ({"preprocessing": {"mean": [0.4], "std": [0.5]}}, "preprocessing.mean is [0.5] in"),
        ({"evaluation": {"factor": 3.0, "tokens": "scope"}}, "evaluation.factor is 2.0 in"),
        ({"config": {"target_class": "prediction", "data": {"split": "test"}}}, "target_class is 'auto' in"),
        ({"config": {"target_class": "auto", "data": {"split": "train"}}}, "data.split is 'test' in"),
    ],
)
def test_runs_that_disagree_are_refused_in_one_line(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    write_run(tmp_path / "b", ["activation"], **changed)
    message = refusal(tmp_path)
    assert f"Runs of digits_vit cannot be compared: {told}" in message
    assert f"{tmp_path / 'a'}" in message
    assert f"{tmp_path / 'b'}" in message


def test_what_changes_no_number_may_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"], evaluation={"operations": ["remove"]})
    config = provenance()["config"] | {"seed": 7, "trainer": {"threads": 3}}
    evaluation = {"operations": ["remove", "enhance"]}
    write_run(tmp_path / "b", ["random"], evaluation=evaluation, config=config, n_steps=4)
    found = compare([tmp_path], **FAST)
    assert found.notes == [
        f"digits_vit: n_steps differs: 4 in {tmp_path / 'b'}, 8 in {tmp_path / 'a'}. "
        "Scores are integrals by these rules."
    ]


def test_other_seeds_are_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    write_run(tmp_path / "b", ["random"], seed=1)
    dropped, note = compare([tmp_path], **FAST).notes
    assert dropped.startswith("digits_vit: resample_ablation is left out: their donors come from other images or")
    assert note.startswith(f"digits_vit: seed differs: 0 in {tmp_path / 'a'}, 1 in {tmp_path / 'b'}. Random paths")


def test_other_images_are_left_out_and_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"], n=60)
    write_run(tmp_path / "b", ["random"], n=25)
    found = compare([tmp_path], **FAST)
    assert set(found.cells["n"]) == {25}
    assert found.notes == [
        "digits_vit is compared on the 25 images that all its runs share: "
        f"{tmp_path / 'a'} has 60, {tmp_path / 'b'} has 25.",
        "digits_vit: resample_ablation is left out: their donors come from other images or another seed "
        "(scorer.seed draws other random paths alone).",
    ]
    assert "resample_ablation" not in set(found.cells["operation"])


def test_other_targets_of_the_same_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    plain = stores._effects
    monkeypatch.setattr(stores, "_effects", lambda *a: plain(*a) | {"target": np.zeros(60, dtype=int)})
    write_run(tmp_path / "b", ["random"])
    assert "image 'image/1.png' has the target 1 in" in refusal(tmp_path)


def test_a_method_that_two_runs_hold_is_taken_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution", "random"])
    write_run(tmp_path / "b", ["activation", "random"])
    found = compare([tmp_path], **FAST)
    assert len(found.cells.query("scorer == 'random' and operation == 'remove' and measure == 'kl_divergence'")) == 1
    write_run(tmp_path / "c", ["random"], seed=1)
    message = refusal(tmp_path)
    assert message == (
        f"random (greedy, top_k 1) was run twice with different paths: in '{tmp_path / 'a'}' and '{tmp_path / 'c'}'. "
        "Give only one of them."
    )


def test_copies_with_other_results_or_images_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    write_run(tmp_path / "b", ["joint_attribution"], strength={"joint_attribution": 0.3})
    assert "with different results (" in refusal(tmp_path)
    shutil.rmtree(tmp_path / "b")
    write_run(tmp_path / "b", ["joint_attribution"], n=10)
    assert "with different images" in refusal(tmp_path)


def test_curves_of_other_sizes_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"], top_k=4, sizes=(0, 1, 4))
    write_run(tmp_path / "b", ["random"], top_k=4, sizes=(0, 2, 4))
    assert "has the sizes [0, 1, 4] in" in refusal(tmp_path)


def test_one_image_and_one_method_have_no_intervals_and_no_tests(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"], n=1)
    found = compare([tmp_path], **FAST)
    assert np.isnan(numbers(found.cells, "low", "high")).all()
    assert set(found.cells["best"]) == {False}
    assert found.tests.empty
    write_run(tmp_path / "b", ["random"], n=1)
    assert set(compare([tmp_path], **FAST).tests["p"]) == {1}


def test_mistakes_of_the_caller_are_one_line(sweep: Path, tmp_path: Path) -> None:
    assert refusal() == "There are no run directories to compare; give one or more, or a folder above them."
    assert "Cannot look for runs in" in refusal(tmp_path / "nowhere")
    (tmp_path / "text").write_text("")
    assert "There is no run in" in refusal(tmp_path)
    assert "Cannot look for runs in" in refusal(tmp_path / "text")
    assert "No compared scorer is named 'joint_atribution'. Did you mean 'joint_attribution'?" in refusal(
        sweep, reference="joint_atribution"
    )


def test_a_reference_or_null_may_be_any_scorer(sweep: Path) -> None:
    found = compare([sweep], reference="activation", nulls=["random", "unheard_of"], **FAST)
    assert found.cells["scorer"].iloc[0] == "activation"
    assert np.isnan(numbers(found.cells, "p_unheard_of")).all()
    assert np.isnan(cell(found, "activation", "remove", "probability_deviation")["p_reference"])


def test_equal_methods_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    plain = stores._effects
    monkeypatch.setattr(
        stores,
        "_effects",
        lambda ids, scorer, *rest: plain(ids, "joint_attribution", *rest) | {"scorer": scorer},
    )
    write_run(tmp_path / "b", ["activation"], strength={"activation": STRENGTH["joint_attribution"]})
    found = compare([tmp_path], **FAST)
    tests = found.tests.loc[found.tests["operation"] != ""]
    assert (tests[["p", "p_planned", "p_all_pairs"]] == 1).all(axis=None)
    assert (tests[["difference", "low", "high"]] == 0).all(axis=None)


def test_torn_effects_are_named_and_lose_no_other_run(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep / "0", tmp_path / "a")
    whole = compare([tmp_path], **FAST)
    shutil.copytree(sweep / "1", tmp_path / "b")
    (tmp_path / "b" / "effects.parquet").write_bytes(b"PAR1 torn")
    found = compare([tmp_path], **FAST)
    assert [Path(run.run_dir).name for run in found.missing] == ["b"]
    assert "effects.parquet': it is torn" in found.missing[0].reason
    pd.testing.assert_frame_equal(found.cells, whole.cells)
    shutil.rmtree(tmp_path / "a")
    assert "effects.parquet': it is torn" in refusal(tmp_path)


def test_pairs_cover_every_two_methods(comparison: Comparison) -> None:
    tests = comparison.tests.query("operation == 'remove' and measure == 'kl_divergence'")
    found = {frozenset(pair) for pair in tests[["scorer", "other_scorer"]].to_numpy().tolist()}
    assert found == {frozenset(pair) for pair in itertools.combinations(STRENGTH, 2)}


@pytest.mark.parametrize("target", ["margin", "contrast", "logit"])
def test_effects_are_compared_in_what_was_attributed(target: str, tmp_path: Path) -> None:
    for scorer in ("joint_attribution", "random"):
        write_run(tmp_path / scorer, [scorer], target=target, valued=True)
    found = compare([tmp_path], **FAST)
    effects = load_effects(tmp_path / "joint_attribution")
    effects = effects.loc[effects["operation"] == "remove"]
    changed = cell(found, "joint_attribution", "remove", f"{target}_difference")
    assert found.quantity == target
    assert changed["mean"] == pytest.approx((effects["edited_value"] - effects["clean_value"]).mean())
    assert (changed["unit"], changed["better"], changed["best"]) == ("logits", "smaller", True)
    assert cell(found, "random", "remove", f"{target}_difference")["p_reference"] < 0.01


def test_of_an_earlier_version_the_probability_is_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution", "random"], target="margin")
    found = compare([tmp_path], **FAST)
    assert found.quantity == "probability"
    assert "margin_difference" not in set(found.cells["measure"])
    write_run(tmp_path / "b", ["activation"], target="margin", valued=True)
    assert "neuron-path evaluate run_dir=DIR" in refusal(tmp_path)


def test_no_table_mixes_a_probability_with_a_margin(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["joint_attribution"])
    write_run(tmp_path / "b", ["joint_attribution"], model="vit_b_16", target="margin", valued=True)
    message = refusal(tmp_path)
    assert f"The effects in '{tmp_path / 'a'}' are changes of the target's probability, those in " in message
    assert f"'{tmp_path / 'b'}' of its margin (logits), and a table holds one of them: compare runs of one " in message


def test_searches_that_maximise_something_else_are_other_methods(tmp_path: Path) -> None:
    for name, measure in (("a", "joint"), ("b", "effect of remove"), ("c", "complete")):
        strength = {"joint_attribution": len(measure) / 40}
        write_run(tmp_path / name, ["joint_attribution"], search="linearized", measure=measure, strength=strength)
    write_run(tmp_path / "d", ["activation"])
    found = compare([tmp_path], **FAST)
    assert set(found.cells["search"]) == {
        "linearized",
        "linearized, effect of remove",
        "linearized, complete",
        "greedy",
    }
    assert not found.notes
