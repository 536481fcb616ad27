"""The head of a run: fitted or read, measured, stored with its hash, and the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import neuron_path
from neuron_path.config import DigitsConfig, LinearProbeConfig
from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import attach_head, load_head
from neuron_path.models.loading import load_model
from neuron_path.pipeline.head import HEAD_FILE, fit_probe
from tests import pictures
from tests.command import run_in

FEATURES = ["model=timm", "model.name=test_vit", "+model.kwargs.num_classes=0", "+model.kwargs.img_size=32"]
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:The weights of .* are random")


def colours(folder: Path, each: int = 6, names: tuple[str, ...] = ("blue", "green", "red")) -> Path:
    """Pictures of one colour with noise, in a folder of each colour's name."""
    for channel, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.random.default_rng(number).integers(0, 90, (40, 50, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def folders(tmp_path: Path) -> list[str]:
    """Arguments for coloured pictures to fit on and, other ones, to study."""
    data = colours(tmp_path / "data", each=1)
    root = colours(tmp_path / "train")
    return ["data=image_folder", f"data.root={data}", "data.num_workers=0", "head=linear_probe", f"head.root={root}"]


def provenance(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "run.json").read_text())


def test_a_probe_gives_a_model_classes_and_is_stored(tmp_path: Path) -> None:
    chosen = folders(tmp_path)
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *chosen)
    assert (outcome.code, outcome.err) == (0, "")
    head = provenance(outcome.run_dir)["head"]
    assert (head["name"], head["file"], head["classes"]) == ("linear_probe", HEAD_FILE, ["blue", "green", "red"])
    assert (head["n_fitted"], head["n_held_out"], head["converged"]) == (14, 4, True)
    assert (head["accuracy_fitted"], head["accuracy_held_out"]) == (1.0, 1.0)
    assert head["preprocessing"] == provenance(outcome.run_dir)["preprocessing"]
    assert f"Head:   {outcome.run_dir / HEAD_FILE}, accuracy 100.0 % on 4 held-out images" in outcome.out
    assert load_head(outcome.run_dir / HEAD_FILE).classes == ("blue", "green", "red")
    paths = neuron_path.load_paths(outcome.run_dir)
    assert list(paths["prediction"]) == list(paths["label"]) == [0, 1, 2]

    again = run_in(tmp_path / "again", "search", *FEATURES, *chosen)
    assert provenance(again.run_dir)["head"] == head
    assert (again.run_dir / HEAD_FILE).read_bytes() == (outcome.run_dir / HEAD_FILE).read_bytes()

    stored = ["head=file", f"head.path={outcome.run_dir / HEAD_FILE}"]
    read = run_in(tmp_path / "read", "search", *FEATURES, *chosen[:3], *stored)
    assert provenance(read.run_dir)["head"] == {
        "name": "file",
        "hash": head["hash"],
        "path": str(outcome.run_dir / HEAD_FILE),
    }
    assert provenance(read.run_dir)["weight_hash"] == provenance(outcome.run_dir)["weight_hash"]
    assert neuron_path.load_paths(read.run_dir)["score"].equals(paths["score"])
    assert not (read.run_dir / HEAD_FILE).exists()


def test_a_run_with_the_model_s_own_classifier_tells_no_head(tmp_path: Path) -> None:
    outcome = run_in(tmp_path, "search", "data.limit=1")
    assert provenance(outcome.run_dir)["head"] is None
    assert not (tmp_path / HEAD_FILE).exists()


def test_the_digits_probe_reads_the_digits() -> None:
    model: Any = load_model("digits_vit")
    options = LinearProbeConfig(root=None)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = fit_probe(options, DigitsConfig(batch_size=512), model, {}, CPU)
    assert chosen.record["n_fitted"] + chosen.record["n_held_out"] == 1077
    assert chosen.record["accuracy_held_out"] > 0.95
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    images, labels = neuron_path.load_digits("test")
    attach_head(model, chosen.head)
    assert (model(images).argmax(1) == labels).float().mean() > 0.95


def test_the_seed_chooses_what_is_held_out() -> None:
    model = load_model("digits_vit")
    records = [
        fit_probe(LinearProbeConfig(seed=seed, C=0.01), DigitsConfig(batch_size=512), model, {}, CPU).record
        for seed in (1, 1, 2)
    ]
    assert records[0] == records[1]
    assert records[0]["hash"] != records[2]["hash"]


def test_nothing_held_out_is_nothing_measured(tmp_path: Path) -> None:
    chosen = folders(tmp_path)
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *chosen, "head.held_out=0")
    head = provenance(outcome.run_dir)["head"]
    assert (head["n_fitted"], head["n_held_out"], head["accuracy_held_out"]) == (18, 0, None)
    assert "accuracy 100.0 % on the 18 it was fitted on" in outcome.out


def test_other_classes_than_the_head_s_are_refused(tmp_path: Path) -> None:
    colours(tmp_path / "other", each=1, names=("blue", "green", "rot"))
    outcome = run_in(
        tmp_path / "run",
        "search",
        *FEATURES,
        *folders(tmp_path),
        f"data.root={tmp_path / 'other'}",
        "target_class=label",
    )
    assert outcome.is_refusal(), outcome
    assert "class 'rot' stands where the model has 'red'" in outcome.err


def bad_folder(kind: str, folder: Path) -> Path:
    """A folder that no head can be fitted on."""
    if kind == "flat":
        return pictures.flat_folder(folder)
    if kind == "one class":
        return pictures.class_folders(folder, classes=1, each=3)
    if kind == "one picture":
        return pictures.class_folders(folder, classes=3, each=1)
    if kind.startswith("broken"):
        colours(folder)
        pictures.truncated(folder / "red" / "x.jpg")
    return folder


BAD = {
    "missing": "No image folder",
    "flat": "has 0 class folder(s)",
    "one class": "has 1 class folder(s)",
    "one picture": "Class '00' has 1 image(s) to fit a head on; expected 2 or more",
    "broken": "File 'red/x.jpg' is no image that can be read",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_folder_that_gives_no_head_is_refused(kind: str, tmp_path: Path) -> None:
    root = bad_folder(kind, tmp_path / "bad")
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *folders(tmp_path), f"head.root={root}")
    assert outcome.is_refusal(), outcome
    assert BAD[kind] in outcome.err


def test_broken_pictures_are_skipped_where_that_is_asked(tmp_path: Path) -> None:
    root = bad_folder("broken", tmp_path / "bad")
    chosen = [*folders(tmp_path), f"head.root={root}", "data.on_error=skip"]
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *chosen)
    assert provenance(outcome.run_dir)["head"]["skipped_images"] == 1


@pytest.mark.filterwarnings("ignore:The linear probe did not converge")
def test_a_probe_that_does_not_converge_says_so() -> None:
    options = LinearProbeConfig(max_iter=1)
    record = fit_probe(options, DigitsConfig(batch_size=512), load_model("digits_vit"), {}, CPU).record
    assert record["converged"] is False


def test_a_head_s_width_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3, 128), "bias": torch.ones(3)}, tmp_path / "head.pth")
    chosen = [*folders(tmp_path)[:3], "head=file", f"head.path={tmp_path / 'head.pth'}"]
    outcome = run_in(tmp_path / "run", "search", *FEATURES, *chosen)
    assert outcome.is_refusal(), outcome
    assert "The head reads 128 features, but the model gives 64" in outcome.err


def test_a_directory_with_results_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    assert run_in(tmp_path, "search", "data.limit=1").code == 0
    monkeypatch.setattr("neuron_path.pipeline.build.fit_head", never)
    outcome = run_in(tmp_path, "search", "head=linear_probe", "data.limit=1")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "already holds results" in outcome.err


def test_the_whole_run_goes_through_with_a_probe_and_the_paper_s_preprocessing(tmp_path: Path) -> None:
    chosen = [*folders(tmp_path), "experiment=paper", "quadrature.n_steps=2", "baselines=[]"]
    outcome = run_in(tmp_path / "run", "run", *FEATURES, *chosen)
    assert (outcome.code, outcome.err) == (0, "")
    told = provenance(outcome.run_dir)
    assert told["preprocessing"]["crop_mode"] == told["head"]["preprocessing"]["crop_mode"] == "squash"
    assert (outcome.run_dir / "report.html").exists()


def test_a_bad_option_is_refused() -> None:
    with pytest.raises(NeuronPathError, match=r"head\.held_out is -0\.1"):
        fit_probe(LinearProbeConfig(held_out=-0.1), DigitsConfig(), load_model("digits_vit"), {}, CPU)
