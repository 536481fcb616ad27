"""`neuron-path prune` from the command line: what it saves, what it measures, and on which images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.config import Config, HuggingFaceConfig
from neuron_path.data.digits import DigitsDataset
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.pruning import RECORD_COLUMNS
from neuron_path.pipeline.pruning import command, study, trials
from neuron_path.pipeline.pruning.study import open_run
from neuron_path.pruning.methods import Selection, rank
from neuron_path.pruning.predictions import class_probabilities
from neuron_path.pruning.saved import load_pruned
from neuron_path.search.finder import digests
from neuron_path.store.parquet import read_parquet
from tests.command import Outcome, call, run_in

N = 30
QUICK = ["shares=[0.3]", "methods=[random,taylor]", "seeds=[0,1]", "latency.rounds=1"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paths of forty digits of the validation split, by two scorers."""
    run_dir = tmp_path_factory.mktemp("searched") / "run"
    options = ["data.split=val", f"data.limit={N}", "baselines=[random]", "report=false"]
    assert run_in(run_dir, "run", *options, "evaluation.operations=[remove]").code == 0
    return run_dir


@pytest.fixture(scope="module")
def pruned(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = run_in(tmp_path_factory.mktemp("pruned") / "out", "prune", f"run_dir={searched}", "keep=0.5", *QUICK)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome


def records_of(out: Path) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The records, and which images selected for each seed."""
    table, provenance = read_parquet(out / "pruning.parquet")
    return table.to_pandas(), provenance["selection"]


def test_it_saves_a_smaller_model_that_is_the_one_measured(pruned: Outcome) -> None:
    model = load_pruned(pruned.run_dir)
    assert [block.mlp.fc1.out_features for block in model.blocks] == [96] * 12  # pyright: ignore
    records, _ = records_of(pruned.run_dir)
    own = records.loc[(records["method"] == "path+taylor") & (records["keep"] == 0.5) & (records["seed"] == 0)]
    data = DigitsDataset("val")
    places = [data.sample_ids.index(name) for name in own["sample_id"]]
    probabilities = class_probabilities(model, torch.stack([data[place]["image"] for place in places]))
    assert probabilities.argmax(1).tolist() == own["prediction"].tolist()
    labels = torch.tensor([data.labels[place] for place in places])
    assert labels.tolist() == own["label"].tolist()
    expected = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(own["probability"], expected, rtol=1e-5)
    described = json.loads((pruned.run_dir / "pruned.json").read_text())
    assert described["provenance"]["kept_neurons"] == [96] * 12
    assert described["classes"] == list("0123456789")


def test_selection_and_evaluation_share_no_image(pruned: Outcome) -> None:
    records, selection = records_of(pruned.run_dir)
    assert list(records.columns) == list(RECORD_COLUMNS)
    assert set(records["seed"]) == {0, 1}
    for seed, own in records.groupby("seed"):
        evaluated = set(own["sample_id"])
        assert not evaluated & set(selection[str(seed)])
        assert len(evaluated | set(selection[str(seed)])) == N
    assert selection["0"] != selection["1"]


def test_only_images_that_select_are_seen_by_the_rankings(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Selection] = []
    ranked = lambda name, selection: (seen.append(selection), rank(name, selection))[1]  # noqa: E731
    monkeypatch.setattr(trials, "rank", ranked)
    means: list[list[str]] = []
    folded = trials.mean_activations

    def spy(model: nn.Module, images: Tensor, **options: Any) -> list[Tensor]:
        means.append(digests(images))
        return folded(model, images, **options)

    monkeypatch.setattr(trials, "mean_activations", spy)
    out = run_in(tmp_path / "out", "prune", f"run_dir={searched}", "seeds=[0,1]", "methods=[]", "latency.rounds=0")
    assert out.code == 0
    records, selection = records_of(out.run_dir)
    data = DigitsDataset("val")
    for trial, folded_images in zip(seen, means, strict=True):
        names = trial.paths.index.tolist()
        assert names == selection[str(trial.seed)]
        images = torch.stack([data[data.sample_ids.index(name)]["image"] for name in names])
        assert digests(trial.images) == digests(images) == folded_images
        assert not set(names) & set(records.loc[records["seed"] == trial.seed, "sample_id"])


def test_an_image_that_selects_is_not_evaluated_under_another_name(searched: Path) -> None:
    study = open_run(str(searched), evaluate_on="val")
    selection, evaluation = study.split(None, 0)
    assert len(selection) == N
    assert len(evaluation) == 360 - N
    assert not set(digests(selection.images)) & set(digests(evaluation.images))
    assert not set(selection.names) & set(evaluation.names)


def test_other_images_evaluate_where_they_are_named(searched: Path, tmp_path: Path) -> None:
    quick = ["seeds=[0]", "methods=[]", "latency.rounds=0"]
    out = run_in(tmp_path / "out", "prune", f"run_dir={searched}", "evaluate_on=test", *quick)
    assert (out.code, out.err) == (0, "")
    records, selection = records_of(out.run_dir)
    assert set(records["sample_id"]) == set(DigitsDataset("test").sample_ids)
    assert len(selection["0"]) == N
    model, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    right = (model(images).argmax(1) == labels).sum()
    own = records.loc[records["method"] == "original"]
    assert int((own["prediction"] == own["label"]).sum()) == int(right)


def test_it_prints_and_writes_costs_accuracy_and_curve(pruned: Outcome) -> None:
    metrics = json.loads((pruned.run_dir / "metrics.json").read_text())
    assert metrics["neurons"] == {"original": 2304, "pruned": 1152}
    assert metrics["parameters"]["original"] == 340_954
    assert metrics["parameters"]["pruned"] == 340_954 - 12 * 96 * 97
    assert metrics["flops"]["pruned"] < 0.7 * metrics["flops"]["original"]
    assert [one["batch_size"] for one in metrics["latency"]] == [1, 32]
    for text in ("parameters", "GFLOPs of an image", "batch of 32", "accuracy, %", "path, then taylor", "340,954"):
        assert text in pruned.out
    for file in ("pruning.csv", "pruning.md", "model.safetensors", "figures/pruning.png", "figures/pruning.svg"):
        assert (pruned.run_dir / file).exists()
    table = pd.read_csv(pruned.run_dir / "pruning.csv")
    assert set(table["method"]) == {"original", "path+taylor", "random", "taylor"}
    assert set(table.loc[table["method"] != "original", "keep"]) == {0.3, 0.5}
    assert np.all(table["accuracy_low"].to_numpy() <= table["accuracy"].to_numpy())
    page = (pruned.run_dir / "pruning.md").read_text()
    assert "against taylor" in page


def test_the_pruned_model_is_searched_evaluated_and_pruned_again(pruned: Outcome, tmp_path: Path) -> None:
    options = ["model=pruned", f"model.checkpoint={pruned.run_dir}", "data.split=val", "data.limit=4"]
    again = run_in(tmp_path / "run", "search", *options)
    assert (again.code, again.err) == (0, "")
    paths = neuron_path.load_paths(again.run_dir)
    assert max(int(path.max()) for path in paths["path"]) < 96
    model = load_pruned(pruned.run_dir)
    data = DigitsDataset("val")
    images = torch.stack([data[data.sample_ids.index(name)]["image"] for name in paths["sample_id"]])
    found = neuron_path.find_paths(model, images, paths["label"].astype(int).tolist())
    assert np.array_equal(np.stack(paths["path"].tolist()), found.paths.numpy())
    assert call("evaluate", f"run_dir={again.run_dir}", "evaluation.operations=[remove]", "trainer.threads=1")[0] == 0
    quick = ["methods=[]", "seeds=[0]", "latency.rounds=0"]
    twice = run_in(tmp_path / "twice", "prune", f"run_dir={again.run_dir}", "keep=0.5", *quick)
    assert (twice.code, twice.err) == (0, "")
    assert [block.mlp.fc1.out_features for block in load_pruned(twice.run_dir).blocks] == [48] * 12  # pyright: ignore


def test_classes_to_specialise_in_rank_alone_and_are_measured_apart(searched: Path, tmp_path: Path) -> None:
    quick = ["methods=[path]", "shares=[]", "seeds=[0]", "latency.rounds=0"]
    out = run_in(tmp_path / "out", "prune", f"run_dir={searched}", "classes=[3,5]", "keep=0.3", *quick)
    assert (out.code, out.err) == (0, "")
    records, selection = records_of(out.run_dir)
    data = DigitsDataset("val")
    label_of = dict(zip(data.sample_ids, data.labels, strict=True))
    assert {label_of[name] for name in selection["0"]} == {3, 5}
    assert set(records.loc[records["group"] == "chosen", "label"]) == {3, 5}
    others = set(records.loc[records["group"] == "others", "label"])
    assert len(others) > 4
    assert not others & {3, 5}
    assert "images of the chosen classes" in out.out


def test_fine_tuning_and_onnx_come_with_a_setting(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "export_onnx", lambda model, file: file.write_bytes(b"onnx"))  # see test_onnx
    quick = ["methods=[]", "seeds=[0]", "latency.rounds=0", "keep=0.2"]
    plain, tuned = (
        run_in(tmp_path / name, "prune", f"run_dir={searched}", *quick, *extra)
        for name, extra in (("plain", []), ("tuned", ["fine_tune.epochs=1", "onnx=true"]))
    )
    assert (plain.code, tuned.code, tuned.err) == (0, 0, "")
    one, two = (load_pruned(out.run_dir).state_dict() for out in (plain, tuned))
    assert one.keys() == two.keys()
    assert not torch.equal(one["head.weight"], two["head.weight"])
    assert (tuned.run_dir / "model.onnx").exists()
    assert not (plain.run_dir / "model.onnx").exists()


def test_results_do_not_depend_on_the_batch(searched: Path, pruned: Outcome, tmp_path: Path) -> None:
    out = run_in(
        tmp_path / "out", "prune", f"run_dir={searched}", "keep=0.5", *QUICK[:3], "batch_size=3", "latency.rounds=0"
    )
    one, two = records_of(out.run_dir)[0], records_of(pruned.run_dir)[0]
    pd.testing.assert_frame_equal(one.drop(columns="probability"), two.drop(columns="probability"))
    np.testing.assert_allclose(one["probability"], two["probability"], rtol=1e-5)


def test_heads_and_neurons_are_compared_at_equal_operations(tmp_path: Path) -> None:
    options = ["units=ffn+heads", "data.split=val", "data.limit=4", "scorer=activation"]
    both = run_in(tmp_path / "both", "search", *options).run_dir
    quick = ["seeds=[0]", "latency.rounds=0", "allocation=global", "budget=flops", "shares=[0.3,0.9]"]
    methods = ["method=heads:path+taylor", "methods=[ffn:path,ffn+heads:taylor]"]
    out = run_in(tmp_path / "out", "prune", f"run_dir={both}", "keep=0.85", *quick, *methods)
    assert (out.code, out.err) == (0, "")
    metrics = json.loads((out.run_dir / "metrics.json").read_text())
    left = metrics["flops"]["pruned"] / metrics["flops"]["original"]
    assert 0.84 < left <= 0.85  # a head is 1 %
    model: Any = load_pruned(out.run_dir)
    n_heads = [block.attn.num_heads for block in model.blocks]
    assert metrics["heads"] == {"original": 36, "pruned": sum(n_heads)}
    assert metrics["neurons"] == {"original": 2304, "pruned": 2304}
    assert min(n_heads) >= 1
    table = pd.read_csv(out.run_dir / "pruning.csv").set_index("method")
    assert table.loc["heads:path+taylor", "keep"].tolist() == [0.85, 0.9]  # 0.3 cannot be reached by heads alone,
    assert table.loc["ffn:path", "keep"].tolist() == [0.85, 0.9]  # nor by neurons
    assert table.loc["ffn+heads:taylor", "keep"].tolist() == [0.3, 0.85, 0.9]
    page = (out.run_dir / "pruning.md").read_text()
    assert "Method: path, then taylor (heads); 85% of the operations are kept." in page
    assert "| attention heads" in page
    again = run_in(
        tmp_path / "again",
        "search",
        "model=pruned",
        f"model.checkpoint={out.run_dir}",
        "units=heads",
        *options[1:],
    )
    assert (again.code, again.err) == (0, "")
    paths = np.stack(neuron_path.load_paths(again.run_dir)["path"].tolist())
    assert (paths < np.array(n_heads)).all()


REFUSED = {
    "no run": ([], "Whose paths are to rank the neurons must be said"),
    "no such run": (["run_dir=nowhere"], "There is no run directory 'nowhere'"),
    "share": (["run_dir={run}", "keep=0"], "A kept share is 0"),
    "method": (["run_dir={run}", "method=paths"], "Did you mean 'path'"),
    "curve": (["run_dir={run}", "methods=[path,tailor]"], "Did you mean 'taylor'"),
    "seeds": (["run_dir={run}", "seeds=[0,0]"], "seeds is [0, 0]"),
    "class": (["run_dir={run}", "classes=[11]"], "No class is named '11'"),
    "no class": (["run_dir={run}", "classes=[]"], "classes is empty"),
    "scorer": (["run_dir={run}", "path_scorer=ablation"], "No path in the table has scorer 'ablation'"),
    "selection": (["run_dir={run}", "selection_share=1"], "expected a number between 0 and 1"),
    "latency": (["run_dir={run}", "latency.rounds=-1"], "latency.rounds is -1; expected at least 0"),
    "split": (["run_dir={run}", "evaluate_on=tests"], "Did you mean 'test'"),
    "fine-tuning": (["run_dir={run}", "fine_tune.epochs=-1"], "fine_tune.epochs is -1; expected at least 0"),
    "setting": (["run_dir={run}", "kep=0.5"], "There is no setting 'kep'. Did you mean 'keep'"),
    "added": (["run_dir={run}", "+fine_tune.steps=3"], "There is no setting 'fine_tune.steps'"),
    "allocation": (["run_dir={run}", "allocation=globel"], "Did you mean 'global'"),
    "units": (["run_dir={run}", "units=head"], "Did you mean 'heads'"),
    "units of a method": (["run_dir={run}", "methods=[head:taylor]"], "No choice of units is named 'head'"),
    "paths of heads": (["run_dir={run}", "units=heads"], "paths of units=ffn, which do not rank units=heads"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_line(name: str, searched: Path, tmp_path: Path) -> None:
    arguments, told = REFUSED[name]
    outcome = run_in(tmp_path / "out", "prune", *(text.format(run=searched) for text in arguments))
    assert outcome.is_refusal(), outcome.err
    assert told in outcome.err
    assert not (tmp_path / "out" / "pruned.json").exists()


def test_a_pruned_model_is_not_overwritten(searched: Path, pruned: Outcome, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(pruned.run_dir, out)
    outcome = run_in(out, "prune", f"run_dir={searched}")
    assert outcome.code == 1
    assert "already holds a pruned model" in outcome.err
    assert (out / "pruned.json").read_bytes() == (pruned.run_dir / "pruned.json").read_bytes()


def test_a_foreign_folder_is_no_pruned_model(searched: Path, tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "search", "model=pruned", f"model.checkpoint={searched}")
    assert outcome.is_refusal()
    assert "holds no pruned.json" in outcome.err
    for extra in ("model.pretrained=true", "+model.kwargs.depth=3"):
        outcome = run_in(tmp_path / "run", "search", "model=pruned", f"model.checkpoint={searched}", extra)
        assert outcome.is_refusal()
        assert "takes a folder only" in outcome.err


def test_help_shows_its_own_settings() -> None:
    code, out, err = call("prune", "--help")
    assert (code, err) == (0, "")
    assert "selection_share" in out
    assert "quadrature" not in out


def test_of_a_data_set_another_split_is_evaluated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: Config, _: object) -> None:
        assert isinstance(config.data, HuggingFaceConfig)
        raise NeuronPathError(f"{config.data.root} {config.data.split}")

    monkeypatch.setattr(study, "build_data", build)
    config = Config(data=HuggingFaceConfig(root="DIR", split="train"))
    opened: Any = SimpleNamespace(session=SimpleNamespace(model=None))
    with pytest.raises(NeuronPathError, match=r"^DIR test$"):
        study._other_images(config, opened, "test")
