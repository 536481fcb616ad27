"""A row for each label of a picture, through a whole run, against the functions in Python."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import neuron_path
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.errors import NeuronPathError
from neuron_path.models.preprocessing import image_transform
from neuron_path.store.evidence import load_evidence
from neuron_path.store.reader import load_effects
from neuron_path.store.writer import PartWriter
from tests import pictures
from tests.command import call, run_in
from tests.tables import same_paths

pytestmark = pytest.mark.filterwarnings("ignore:The weights of .* are random")
CLASSES = {"a.png": [0, 3], "b.png": [2], "c.png": [1, 2, 4]}
NAMES = [f"{name}#{label}" for name, labels in CLASSES.items() for label in labels]
TARGETS = [label for labels in CLASSES.values() for label in labels]
ROWS = [row for row, labels in enumerate(CLASSES.values()) for _ in labels]


def make(folder: Path) -> tuple[Any, list[str]]:
    """Pictures with labels, a model of five of them, and the options of a run."""
    for seed, name in enumerate(CLASSES):
        pictures.save(folder / "data" / name, seed=seed, size=(32, 32))
    lines = [f"{name},{';'.join(map(str, labels))}" for name, labels in CLASSES.items()]
    (folder / "labels.csv").write_text("\n".join(["file,class", *lines]))
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=32, num_classes=5).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    options = [
        "model=timm",
        "model.name=test_vit",
        "+model.kwargs.num_classes=5",
        "+model.kwargs.img_size=32",
        f"model.checkpoint={folder / 'model.safetensors'}",
        "data=image_folder",
        f"data.root={folder / 'data'}",
        f"data.labels={folder / 'labels.csv'}",
        "data.each_label=true",
        "data.num_workers=0",
        "data.batch_size=2",
        "target=sigmoid",
        "scorer=gradient_x_activation",
        "baselines=[]",
    ]
    return model, options


def images_of(folder: Path, model: Any) -> Tensor:
    transform, described = image_transform(model)
    data = ImageFolderDataset(folder, transform, preprocessing=described)
    return torch.stack([item["image"] for item in (data[row] for row in range(3)) if item["image"] is not None])


def test_a_run_has_a_path_for_each_label(tmp_path: Path) -> None:
    model, options = make(tmp_path)
    outcome = run_in(
        tmp_path / "run", "run", *options, "evaluation.operations=[remove,resample_ablation]", "evidence=true"
    )
    assert (outcome.code, outcome.err) == (0, "")
    table = neuron_path.load_paths(outcome.run_dir)
    assert (table["sample_id"].tolist(), table["target"].tolist()) == (NAMES, TARGETS)
    assert table["label"].tolist() == TARGETS
    images = images_of(tmp_path / "data", model)[ROWS]
    found = neuron_path.find_paths(model, images, TARGETS, target="sigmoid", scorer="gradient_x_activation")
    assert np.array_equal(np.stack(table["path"].tolist()), found.paths.numpy())
    np.testing.assert_allclose(table["score"], found.scores, rtol=1e-4)

    effects = load_effects(outcome.run_dir).set_index(["operation", "sample_id"])
    removed = neuron_path.intervene(model, images, found.paths)
    for row, (name, target) in enumerate(zip(NAMES, TARGETS, strict=True)):
        one = effects.loc[("remove", name)]
        assert one["target"] == target
        assert one["edited_logit"] == pytest.approx(float(removed[row, target]), rel=1e-4, abs=1e-5)
        # The donor is one of the two other pictures.
        lent = [
            neuron_path.intervene(
                model, images[row : row + 1], found.paths[row : row + 1], "resample_ablation", donor_images=other[None]
            )[0, target]
            for other in images_of(tmp_path / "data", model)
        ]
        off = [abs(float(one_lent) - effects.loc[("resample_ablation", name), "edited_logit"]) for one_lent in lent]
        assert int(np.argmin(off)) != ROWS[row]
        assert min(off) < 1e-5
    evidence = load_evidence(outcome.run_dir)
    for _, own in evidence.groupby(["kind", "block", "neuron"]):
        if own["kind"].iloc[0] == "image":
            assert own["sample_id"].str.partition("#")[0].is_unique
    page = (outcome.run_dir / "report.html").read_text()
    assert "c.png#4" in page

    assert call("verify", str(outcome.run_dir))[0] == 0
    assert call("evaluate", f"run_dir={outcome.run_dir}", "evaluation.operations=[remove]")[0] == 0
    code, _, err = call("prune", f"run_dir={outcome.run_dir}")
    assert code != 0
    assert "give a run without data.each_label" in err


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, options = make(tmp_path)
    assert run_in(tmp_path / "whole", "search", *options).code == 0
    append, batches = PartWriter.append, []

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def full(self: PartWriter, table: Any) -> None:
        if len(batches) == 2:  # between two rows of the last picture
            patch.setattr(os, "fsync", no_space)
        batches.append(table)
        append(self, table)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "append", full)
        assert run_in(tmp_path / "run", "search", *options).code == 1
    assert run_in(tmp_path / "run", "search", *options).code == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["images_done_before"] == 4
    same_paths(neuron_path.load_paths(tmp_path / "run"), neuron_path.load_paths(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["data.labels=null"], r"each_label is of pictures with several labels: give these, data\.labels=FILE"),
        (["target_class=prediction"], "target_class=prediction drives another class"),
        (["target_class=2"], "target_class=2 drives another class"),
        (["model.kwargs.num_classes=4", "model.checkpoint=null"], "has label 4, which is outside the model's classes"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: list[str], message: str, tmp_path: Path) -> None:
    _, options = make(tmp_path)
    outcome = run_in(tmp_path / "run", "search", *options, *changed)
    assert outcome.is_refusal(), outcome
    assert re.search(message, outcome.err)


def test_rows_that_name_another_picture_are_not_put_together(tmp_path: Path) -> None:
    pictures.save(tmp_path / "v" / "a.png")
    (tmp_path / "l.csv").write_text("file,class\nval/a.png,x\ntrain/a.png,y\n")
    with pytest.raises(
        NeuronPathError, match=r"several rows that may be of 'a\.png', train/a\.png, val/a\.png: name it"
    ):
        ImageFolderDataset(
            tmp_path / "v", lambda image: torch.zeros(1), preprocessing={}, labels=tmp_path / "l.csv", each_label=True
        )
    (tmp_path / "l.csv").write_text("file,class\na.png,x\na.png,y\na.png,x\n")
    data = ImageFolderDataset(
        tmp_path / "v", lambda image: torch.zeros(1), preprocessing={}, labels=tmp_path / "l.csv", each_label=True
    )
    assert (data.sample_ids, data.labels) == (["a.png#x", "a.png#y"], [0, 1])
    assert data[1]["image"] is not None
    assert list(data.content()) == ["a.png#x", "a.png#y"]
