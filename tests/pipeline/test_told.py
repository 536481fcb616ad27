"""Runs on checkpoints that tell their model: labels, pixels and names are the folder's, without further settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import neuron_path
from tests import pictures
from tests.command import Outcome, run_in
from tests.models.checkpoints import make
from tests.models.test_descriptions import NAMES, hugging_face, vit


def run(tmp_path: Path, checkpoint: Path, names: tuple[str, ...], *more: str) -> Outcome:
    for seed, name in enumerate(names):
        pictures.save(tmp_path / "data" / name / "a.png", seed=seed, size=(40, 36))
    data = ["data=image_folder", f"data.root={tmp_path / 'data'}", "data.num_workers=0", "trainer=cpu", "report=false"]
    return run_in(tmp_path / "run", "search", f"model.checkpoint={checkpoint}", *data, *more)


def record(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome.run_dir / "run.json").read_text())


def labels(outcome: Outcome) -> dict[str, int]:
    table = neuron_path.load_paths(outcome.run_dir)
    return {name.partition("/")[0]: int(label) for name, label in zip(table["sample_id"], table["label"], strict=True)}


def test_a_hugging_face_folder_needs_no_other_setting(tmp_path: Path) -> None:
    outcome = run(tmp_path, hugging_face(tmp_path / "model", vit()), ("shark", "Cock"))
    assert (outcome.code, outcome.err) == (0, "")
    assert labels(outcome) == {"Cock": 4, "shark": 2}
    found = record(outcome)
    assert (found["model"], found["classes"]) == ("vit_base_patch16_224", list(NAMES))
    assert found["preprocessing"]["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert found["preprocessing"]["crop_mode"] == "squash"


def test_a_folder_of_no_class_of_the_model_is_refused(tmp_path: Path) -> None:
    model = hugging_face(tmp_path / "model", vit())
    outcome = run(tmp_path, model, ("shark", "whale"), "target_class=label")
    assert outcome.is_refusal()
    assert "The data's class 'whale' is none of the model's 5, tench, goldfish, shark, …" in outcome.err


@pytest.mark.filterwarnings("default:.*the pictures count as unlabelled")
def test_as_many_folders_of_other_names_are_no_labels(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "e")
    outcome = run(tmp_path, hugging_face(tmp_path / "model", vit()), names)
    assert outcome.code == 0
    assert "The data's class 'a' stands where the model has 'tench': the pictures count as unlabelled" in outcome.err
    assert not any(neuron_path.load_paths(outcome.run_dir)["label"].notna().tolist())


@pytest.mark.filterwarnings("default:.*holds more than the model")
def test_a_key_and_a_head_of_the_same_file(tmp_path: Path) -> None:
    source = make(seed=0)
    renamed = {
        name.replace("head.", "model.classifier.") if "head" in name else f"model.backbone.{name}": tensor
        for name, tensor in source.state_dict().items()
    }
    torch.save({"state_dict": renamed | {"model.aux.fc.weight": torch.ones(3, 24)}}, tmp_path / "last.ckpt")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
    chosen = ["model=timm", *(f"+model.kwargs.{name}={value}" for name, value in sizes.items())]
    head = ["head=file", f"head.path={tmp_path / 'last.ckpt'}", "head.key=model.classifier"]
    outcome = run(tmp_path, tmp_path / "last.ckpt", NAMES, *chosen, *head, "model.checkpoint_key=state_dict")
    assert outcome.code == 0
    assert "holds more than the model; left out: model." in outcome.err
    assert labels(outcome) == {name: place for place, name in enumerate(sorted(NAMES))}
