"""`neuron-path evaluate`, and what the evaluation stage stores, against the Python interface."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.data.digits import DigitsDataset
from neuron_path.interventions.donors import donors_of
from neuron_path.pipeline import run
from neuron_path.store.lock import locked
from neuron_path.store.reader import load_effects, load_scores
from tests import pictures
from tests.command import call, run_in

N = 6
OPERATIONS = ["remove", "enhance", "mean_ablation", "resample_ablation", "keep_only"]
OPTIONS = [f"evaluation.operations=[{','.join(OPERATIONS)}]", "evaluation.reference=val", "evaluation.factor=3"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three neurons a block, in batches of four."""
    run_dir = tmp_path_factory.mktemp("searched") / "run"
    outcome = run_in(run_dir, "search", f"data.limit={N}", "data.batch_size=4", "top_k=3", "seed=2")
    assert (outcome.code, outcome.err) == (0, "")
    return run_dir


@pytest.fixture(scope="module")
def evaluated(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, evaluated afterwards by all operations."""
    run_dir = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(searched, run_dir)
    code, out, err = call("evaluate", f"run_dir={run_dir}", "trainer.threads=1", *OPTIONS)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["Effects:", "Scores:"]
    assert "mean ablation" in out
    return run_dir


def images_of(names: list[str]) -> tuple[Tensor, list[int]]:
    """The named test digits with their labels."""
    data = DigitsDataset("test")
    places = [data.sample_ids.index(name) for name in names]
    return torch.stack([data[place]["image"] for place in places]), [data.labels[place] for place in places]


def test_what_is_stored_is_what_the_python_interface_gives(evaluated: Path) -> None:
    paths, effects, scores = neuron_path.load_paths(evaluated), load_effects(evaluated), load_scores(evaluated)
    names = paths["sample_id"].tolist()
    images, labels = images_of(names)
    model, chosen = neuron_path.load_model(), torch.tensor(np.stack(paths["path"].tolist()))
    donors = donors_of(names, seed=2)
    extra = {
        "enhance": {"factor": 3.0},
        "mean_ablation": {"reference_images": neuron_path.load_digits("val")[0]},
        "resample_ablation": {"donor_images": images_of([donors[name] for name in names])[0]},
    }
    clean, target = model(images).detach().double(), torch.tensor(labels).unsqueeze(1)
    for _, rows in effects.groupby(["operation", "size"]):
        operation, size = rows["operation"].iloc[0], rows["size"].iloc[0]
        assert rows["sample_id"].tolist() == names
        part = chosen[:, :, : int(size)]
        logits = neuron_path.intervene(model, images, part, operation, **extra.get(operation, {})).double()
        p, q = clean.log_softmax(1), logits.log_softmax(1)
        for column, expected in {
            "clean_probability": p.exp().gather(1, target).squeeze(1),
            "edited_probability": q.exp().gather(1, target).squeeze(1),
            "clean_logit": clean.gather(1, target).squeeze(1),
            "edited_logit": logits.gather(1, target).squeeze(1),
            "kl_divergence": (p.exp() * (p - q)).sum(1),
        }.items():
            np.testing.assert_allclose(rows[column], expected, rtol=1e-5, atol=1e-6)
        assert rows["clean_prediction"].tolist() == clean.argmax(1).tolist()
        assert rows["edited_prediction"].tolist() == logits.argmax(1).tolist()
        assert rows["target"].tolist() == labels
    sizes = effects.groupby("operation")["size"].unique().map(sorted).to_dict()
    curve = [0, 1, 2, 3]
    assert sizes == {name: curve if name in ("remove", "keep_only") else [3] for name in OPERATIONS}
    unedited = effects.loc[(effects["operation"] == "remove") & (effects["size"] == 0)]
    np.testing.assert_allclose(unedited["edited_probability"], unedited["clean_probability"], rtol=1e-6)

    complete, delta = neuron_path.score_paths(
        model, images, labels, chosen, measure="complete", return_convergence_delta=True
    )
    assert scores["joint"].tolist() == paths["score"].tolist()
    np.testing.assert_allclose(scores["complete"], complete, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores["convergence_delta"], delta, atol=1e-6)


def test_an_evaluation_afterwards_is_that_of_the_run(evaluated: Path, tmp_path: Path) -> None:
    options = [f"data.limit={N}", "top_k=3", "seed=2", "baselines=[]", "report=false", *OPTIONS]
    assert run_in(tmp_path / "run", "run", *options).code == 0
    for load in (load_effects, load_scores):
        one, two = load(tmp_path / "run"), load(evaluated)
        floats = one.select_dtypes("float").columns
        pd.testing.assert_frame_equal(one.drop(columns=floats), two.drop(columns=floats))
        np.testing.assert_allclose(one[floats], two[floats], rtol=1e-5, atol=1e-6)


def test_it_says_what_it_did_and_leaves_the_paths(searched: Path, evaluated: Path) -> None:
    assert (evaluated / "paths.parquet").read_bytes() == (searched / "paths.parquet").read_bytes()
    assert load_effects(evaluated).attrs["provenance"]["evaluation"]["factor"] == 3
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert [row["operation"] for row in metrics["effects"]] == OPERATIONS
    assert metrics["images"] == N


def test_all_tokens_can_be_edited(searched: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(searched, run_dir)
    options = ["evaluation.tokens=all", "evaluation.operations=[remove]", "evaluation.sizes=[]", "data.batch_size=2"]
    assert call("evaluate", f"run_dir={run_dir}", *options, "trainer.threads=1")[0] == 0
    effects, paths = load_effects(run_dir), neuron_path.load_paths(run_dir)
    assert set(effects["tokens"]) == {"all"}
    images, labels = images_of(paths["sample_id"].tolist())
    chosen = torch.tensor(np.stack(paths["path"].tolist()))
    logits = neuron_path.intervene(neuron_path.load_model(), images, chosen, "remove", tokens="all")
    expected = logits.softmax(1).gather(1, torch.tensor(labels).unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(effects["edited_probability"], expected, rtol=1e-5, atol=1e-6)


REFUSED = {
    "no run": ([], "Whose paths to measure must be said"),
    "a setting of the search": (["run_dir={run}", "scorer=activation"], "The setting 'scorer' belongs to the search"),
    "another part of the data": (["run_dir={run}", "data.limit=3"], "The setting 'data.limit' belongs to the search"),
    "other data": (["run_dir={run}", "data=image_folder", "data.root=x"], "The paths are of data=digits"),
    "no directory": (["run_dir={run}/none"], "There is no run directory"),
    "no operation": (["run_dir={run}", "evaluation.operations=[ablate]"], "No operation is named 'ablate'"),
    "a negative size": (["run_dir={run}", "evaluation.sizes=[-1]"], "expected numbers of neurons, 0 or more"),
    "an odd factor": (["run_dir={run}", "evaluation.factor=inf"], "expected a finite number"),
    "no such tokens": (["run_dir={run}", "evaluation.tokens=both"], "No choice of tokens is named 'both'"),
    "no such split": (
        ["run_dir={run}", "evaluation.reference=tset", "evaluation.operations=[mean_ablation]"],
        "No digits split is named 'tset'. Did you mean 'test'?",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_line_and_changes_nothing(case: str, searched: Path, tmp_path: Path) -> None:
    arguments, expected = REFUSED[case]
    before = sorted(file.name for file in searched.iterdir())
    code, out, err = call("evaluate", *(argument.format(run=searched) for argument in arguments))
    assert code != 0
    assert out == ""
    assert err.count("\n") == 1
    assert expected in err
    assert sorted(file.name for file in searched.iterdir()) == before


@pytest.mark.filterwarnings("ignore:The weights of .* are random")
def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "pictures")
    model = ["model=timm", "model.name=vit_tiny_patch16_224", "+model.kwargs.depth=2", "data=image_folder"]
    checkpoint = tmp_path / "model.pt"
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(neuron_path.load_model("vit_tiny_patch16_224", depth=2).state_dict(), checkpoint)
        if seed == 0:
            options = [*model, f"model.checkpoint={checkpoint}", f"data.root={folder}", "data.limit=2"]
            assert run_in(tmp_path / "run", "search", *options, "scorer=activation").code == 0
    code, _, err = call("evaluate", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert "The model's weights are not those" in err


def test_one_image_cannot_donate(tmp_path: Path) -> None:
    outcome = run_in(
        tmp_path / "run",
        "run",
        "data.limit=1",
        "scorer=activation",
        "baselines=[]",
        "evaluation.operations=[resample_ablation]",
    )
    assert outcome.code == 1
    assert "there is only one image" in outcome.err
    assert (tmp_path / "run" / "paths.parquet").exists()  # what was found is kept


def test_several_runs_are_evaluated_in_one_sweep(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        shutil.copytree(searched, folder)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    named = ",".join(map(str, folders))
    code, _, err = call("evaluate", "-m", f"run_dir={named}", "evaluation.operations=[remove]", "trainer.threads=1")
    assert (code, err) == (0, "")
    assert all(len(load_scores(folder)) == N for folder in folders)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["outputs"]  # the record of the sweep


def test_a_search_by_the_adaptive_rule_is_stored_and_measured(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    options = ["data.limit=2", "quadrature=adaptive", "quadrature.max_steps=32", "baselines=[activation]"]
    outcome = run_in(run_dir, "search", *options, "memory_budget=80MB")
    assert (outcome.code, outcome.err) == (0, "")
    rows = neuron_path.load_paths(run_dir)
    images, labels = neuron_path.load_digits("test")
    part = [DigitsDataset("test").sample_ids.index(name) for name in rows["sample_id"]]
    rule = Quadrature("adaptive", max_steps=32)
    found = neuron_path.find_paths(neuron_path.load_model(), images[part], labels[part], quadrature=rule)
    assert found.score_errors is not None
    assert rows["n_steps"].tolist() == found.n_steps.tolist()
    np.testing.assert_allclose(rows["score_error"], found.score_errors, rtol=1e-2, atol=1e-9)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["precision"] == "fp32"
    assert metrics["mean_n_steps"]["joint_attribution"] == pytest.approx(rows["n_steps"].mean())
    assert call("evaluate", f"run_dir={run_dir}", "evaluation.operations=[remove]")[0] == 0
    assert np.abs(load_scores(run_dir)["convergence_delta"].to_numpy()).max() < 1e-3


def test_a_run_that_is_searched_at_this_moment_is_left_alone(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(searched, run_dir)
    before = {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()}
    monkeypatch.setattr(run, "locked", partial(locked, patience=0.0))
    with locked(run_dir):
        code, out, err = call("evaluate", f"run_dir={run_dir}", "trainer.threads=1")
    assert (code, out) == (1, "")
    assert err == f"neuron-path: error: Run directory '{run_dir}' is in use by another command: let it finish.\n"
    assert {file.name: file.read_bytes() for file in run_dir.iterdir() if file.is_file()} == before
