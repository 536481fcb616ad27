"""Runs on folders of pictures, with the embedded model and with a timm model from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

import neuron_path
from tests import pictures
from tests.command import call, run_in

QUICK = "scorer=activation"  # where any paths do


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random `test_vit` of four classes."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    save_file(timm.create_model("test_vit", num_classes=4).state_dict(), file)
    return file


def timm_options(checkpoint: Path, folder: Path) -> list[str]:
    model = ["model=timm", "model.name=test_vit", "+model.kwargs.num_classes=4", f"model.checkpoint={checkpoint}"]
    return [*model, "data=image_folder", f"data.root={folder}", "trainer=cpu"]


def photographs(folder: Path) -> Path:
    """Four classes of pictures of every kind, with nested folders, links and files that are no data."""
    pictures.save(folder / "ant" / "UPPER.JPG", seed=1, size=(200, 180))
    pictures.save(folder / "bee" / "grey ä.png", seed=2, size=(90, 170), mode="L")
    pictures.save(folder / "cat" / "deep" / "alpha.png", seed=3, size=(160, 160), mode="RGBA")
    pictures.save(folder / "cat" / "palette.gif", seed=4, size=(300, 200), mode="P")
    (folder / "dog").mkdir()
    (folder / "dog" / "link.jpg").symlink_to(folder / "ant" / "UPPER.JPG")
    (folder / ".DS_Store").write_text("")
    return folder


def test_photographs_through_a_timm_model_from_a_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "data")
    options = [*timm_options(checkpoint, folder), "data.batch_size=2", "quadrature.n_steps=2"]
    outcome = run_in(tmp_path / "run", "search", *options)
    assert (outcome.code, outcome.err) == (0, "")
    table = neuron_path.load_paths(tmp_path / "run")
    own = table.loc[table["scorer"] == "joint_attribution"]
    names = ["ant/UPPER.JPG", "bee/grey ä.png", "cat/deep/alpha.png", "cat/palette.gif", "dog/link.jpg"]
    assert own["sample_id"].tolist() == names
    assert own["label"].tolist() == [0, 1, 2, 2, 3]

    model = neuron_path.load_model("test_vit", checkpoint=checkpoint, num_classes=4)
    config = resolve_model_data_config(model)
    transform: Any = create_transform(**config)
    images = []
    for name in names:
        with Image.open(folder / name) as picture:
            images.append(transform(picture.convert("RGB")))
    result = neuron_path.find_paths(model, torch.stack(images), [0, 1, 2, 2, 3], n_steps=2)
    assert np.array_equal(np.stack(own["path"].tolist()), result.paths.numpy())
    np.testing.assert_allclose(own["score"], result.scores, rtol=1e-5, atol=1e-6)

    made = table.attrs["provenance"]
    assert made["preprocessing"]["mean"] == list(config["mean"])
    assert made["classes"] == ["ant", "bee", "cat", "dog"]


def test_a_flat_folder_takes_the_predictions_as_targets(checkpoint: Path, tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=2)
    outcome = run_in(tmp_path / "run", "search", *timm_options(checkpoint, folder), QUICK)
    assert (outcome.code, outcome.err) == (0, "")
    table = neuron_path.load_paths(tmp_path / "run")
    assert set(table["label"].isna()) == {True}
    assert table["target"].tolist() == table["prediction"].tolist()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("weights", ["random", pytest.param("file", marks=pytest.mark.slow)])
def test_any_folder_of_photographs_through_any_model(weights: str, tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    options = ["model=timm", f"model.name={name}", "data=image_folder", f"data.root={photographs(tmp_path / 'data')}"]
    if weights == "file":
        torch.manual_seed(0)
        save_file(timm.create_model(name).state_dict(), tmp_path / "mine.safetensors")
        options.append(f"model.checkpoint={tmp_path / 'mine.safetensors'}")
    outcome = run_in(tmp_path / "run", "search", *options, "data.limit=2", QUICK, "trainer=cpu")
    assert outcome.code == 0
    told = outcome.err.splitlines()
    assert len(told) == (2 if weights == "random" else 1)
    assert "The data has 4 classes and the model 1000, so it is not clear which is which: the pictures" in told[-1]
    assert weights == "file" or f"The weights of '{name}' are random." in told[0]
    table = neuron_path.load_paths(tmp_path / "run")
    assert set(table["label"].isna()) == {True}
    assert table["target"].tolist() == table["prediction"].tolist()
    assert np.stack(table["path"].tolist()).shape == (2, 12)


def test_a_run_knows_its_pictures_from_any_working_directory(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures.class_folders(tmp_path / "data", classes=4)
    monkeypatch.chdir(tmp_path)
    assert run_in(tmp_path / "run", "search", *timm_options(checkpoint, Path("data")), QUICK).code == 0
    made = neuron_path.load_paths(tmp_path / "run").attrs["provenance"]
    assert made["config"]["data"]["root"] == made["folder"] == str(tmp_path / "data")
    monkeypatch.chdir("/")
    code, out, err = call("verify", str(tmp_path / "run"))
    assert code == 0, out + err


def test_a_class_index_names_some_of_the_model_s_classes(checkpoint: Path, tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path / "data", classes=2)
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"00": 2, "01": 0}))
    options = [*timm_options(checkpoint, folder), f"data.class_index={index}", QUICK]
    assert run_in(tmp_path / "run", "search", *options).code == 0
    assert neuron_path.load_paths(tmp_path / "run")["label"].tolist() == [2, 0]
    index.write_text(json.dumps({"00": 2, "01": 4}))
    outcome = run_in(tmp_path / "again", "search", *options)
    assert outcome.is_refusal()
    assert "label 4, which is outside the model's classes 0 … 3" in outcome.err


@pytest.mark.filterwarnings("default")
def test_folders_that_are_numbers_in_another_order_are_no_labels(checkpoint: Path, tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path / "data", classes=4)
    for now, then in (("1", "00"), ("2", "01"), ("3", "02"), ("10", "03")):
        (folder / then).rename(folder / now)
    options = [*timm_options(checkpoint, folder), QUICK]
    outcome = run_in(tmp_path / "run", "search", *options)
    assert outcome.code == 0
    assert "class '10' stands before '2' as text and behind it as a number: the pictures count as" in outcome.err
    assert set(neuron_path.load_paths(tmp_path / "run")["label"].isna()) == {True}
    refused = run_in(tmp_path / "labels", "search", *options, "target_class=label")
    assert refused.is_refusal()
    assert "data.class_index=natural (2 stands before 10" in refused.err
    for word, labels in {"natural": [0, 3, 1, 2], "text": [0, 1, 2, 3]}.items():  # of 1, 10, 2, 3
        made = run_in(tmp_path / word, "search", *options, f"data.class_index={word}")
        assert (made.code, made.err) == (0, "")
        assert neuron_path.load_paths(made.run_dir)["label"].tolist() == labels
    refused = run_in(tmp_path / "number", "search", *options, "data.class_index=number")
    assert "label 10, which is outside the model's classes 0 … 3" in refused.err


def test_workers_and_batches_change_nothing(checkpoint: Path, tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path / "data", classes=4, each=2)
    tables = []
    options = [*timm_options(checkpoint, folder), "quadrature.n_steps=2"]
    for name, own in {"a": ["data.num_workers=2", "data.batch_size=3"], "b": ["data.num_workers=0"]}.items():
        outcome = run_in(tmp_path / name, "search", *options, *own)
        assert (outcome.code, outcome.err) == (0, "")
        tables.append(neuron_path.load_paths(tmp_path / name))
    one, two = tables
    assert one["sample_id"].tolist() == two["sample_id"].tolist()
    assert np.array_equal(np.stack(one["path"].tolist()), np.stack(two["path"].tolist()))
    np.testing.assert_allclose(one["score"], two["score"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_broken_pictures_are_skipped_and_counted(workers: int, tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=4)
    (folder / "1b.png").write_text("hello")
    pictures.truncated(folder / "3b.jpg")
    options = ["data=image_folder", f"data.root={folder}", "data.on_error=skip", f"data.num_workers={workers}"]
    quick = ["evaluation.operations=[remove]", QUICK]
    outcome = run_in(tmp_path / "run", "run", *options, "data.batch_size=1", "baselines=[random]", *quick)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("4 images, 2 skipped, ")
    assert outcome.out.splitlines()[1] == "Left out: 2 broken pictures (skipped.json)"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["images"], metrics["skipped_images"]) == (4, 2)
    table = neuron_path.load_paths(tmp_path / "run")
    assert table["sample_id"].tolist() == ["0.png", "1.png", "2.png", "3.png"] * 2
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert all(f"{name}.png" in page for name in ("0", "1b"))
    assert "3b.jpg" in page
    assert "2 images were skipped</strong>" in page
