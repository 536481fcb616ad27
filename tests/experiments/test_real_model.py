"""The study on a pretrained model: its settings, its parts against the public functions, and the whole of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file

import neuron_path
from experiments.real_model import RealModel
from neuron_path.errors import NeuronPathError
from real_study.measure import Measurements, circuit_sizes
from real_study.methods import METHODS
from real_study.page import read_tables, write_page
from real_study.plan import PARTS, Scope
from real_study.results import Results
from real_study.store import Cell, Store
from real_study.subject import CHANGES, Source, Subject, complement, in_rounds
from real_study.tables import AREAS, EDITS, compared, corrected, effects_table, meaning_table, scorers_table

ROOT = Path(__file__).parents[2]
MODEL = "test_vit"
SIDE = 48


def photographs(folder: Path, n: int) -> None:
    """So many pictures of noise for each of two colours in train/ and test/."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            place = folder / split / name
            place.mkdir(parents=True)
            for index in range(n):
                pixels = np.clip(np.array(colour) + rng.normal(0, 60, (SIDE, SIDE, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.jpg")


def weights(folder: Path) -> Path:
    """A random model in a file."""
    torch.manual_seed(0)
    file = folder / "weights.safetensors"
    save_file(timm.create_model(MODEL, num_classes=0, img_size=SIDE).state_dict(), file)
    return file


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A random model with its probe on four photographs."""
    photographs(tmp_path, 2)
    source = Source(MODEL, str(weights(tmp_path)), SIDE, str(tmp_path / "train"), str(tmp_path / "test"), 4, 2, 0, 2)
    return Subject(source, Store(tmp_path / "out"))


def test_the_settings_compose_and_every_cell_has_a_kind() -> None:
    with initialize_config_dir(str(ROOT / "experiments"), version_base="1.3"):
        settings = OmegaConf.to_object(compose("real_model", ["images=40"]))
    assert isinstance(settings, RealModel)
    assert tuple(settings.parts) == PARTS
    assert set(settings.methods) <= set(METHODS)
    cells = list(Scope(2, 1, settings.sizes, settings.methods, settings.parts).cells())
    assert {cell.kind for cell in cells} == {
        "clean", "paths", "effects", "reasons", "circuits", "nulls", "transfer", "changed", "minimality", "truth",
        "rated", "evidence", "rules",
    }  # fmt: skip
    effects = {(cell.method, cell.k, cell.chunk) for cell in cells if cell.kind == "effects"}
    assert {(name, k, 0) for name in settings.methods for k in settings.sizes} <= effects
    assert ("joint_attribution", 20, 1) not in effects
    assert cells[0] == Cell("clean", "", 0, 0)
    with pytest.raises(NeuronPathError, match="No part of this study is named 'tables'"):
        Scope(1, 1, [1], [], ["tables"])
    with pytest.raises(NeuronPathError, match="takes the paths of 'table'"):
        Scope(1, 1, [1], [], ["transfer"])


def test_edits_are_those_of_the_public_functions(subject: Subject) -> None:
    measurements, model = Measurements(subject), subject.session.model
    chunk, k = subject.chunk(0), 3
    found = measurements.measure(Cell("effects", "joint_attribution", k, 0))
    paths = neuron_path.find_paths(model, chunk.images, chunk.labels, top_k=k, n_steps=2).paths
    assert measurements.found("joint_attribution", k, 0).tolist() == paths.tolist()
    references = torch.stack([item["image"] for item in subject.train if item["image"] is not None])
    donors, others = subject.donors(chunk), complement(paths, measurements.widths[0])
    expected = {
        "remove": neuron_path.intervene(model, chunk.images, paths),
        "enhance": neuron_path.intervene(model, chunk.images, paths, "enhance"),
        "mean_ablation": neuron_path.intervene(
            model, chunk.images, paths, "mean_ablation", reference_images=references
        ),
        "resample_ablation": neuron_path.intervene(
            model, chunk.images, paths, "resample_ablation", donor_images=donors
        ),
        "keep_only": neuron_path.intervene(model, chunk.images, paths, "keep_only"),
        "keep_resample": neuron_path.intervene(model, chunk.images, others, "resample_ablation", donor_images=donors),
        "keep_mean": neuron_path.intervene(model, chunk.images, others, "mean_ablation", reference_images=references),
        "flipped": neuron_path.intervene(model, chunk.images.flip(3), paths),
    }
    assert set(found) == set(expected)
    for name, logits in expected.items():
        np.testing.assert_allclose(found[name], logits, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(found["remove"] - found["enhance"]).max() > 1e-3


def test_rankings_give_the_paths_of_every_size(subject: Subject) -> None:
    measurements, chunk = Measurements(subject), subject.chunk(0)
    for name in ("activation", "gradient_x_activation"):
        for k in (1, 4):
            found = neuron_path.find_paths(subject.session.model, chunk.images, chunk.labels, scorer=name, top_k=k)
            own = found.paths if k > 1 else found.paths.unsqueeze(2)
            assert measurements.found(name, k, 0).tolist() == own.tolist()


def test_the_truth_is_what_removing_one_neuron_takes(subject: Subject) -> None:
    found = Measurements(subject).measure(Cell("truth", "", 2, 0))
    model, chunk = subject.session.double().model, subject.chunk(0)
    n_blocks = len(subject.session.adapter.blocks)
    assert len(found["lost"]) == len(chunk) * n_blocks * 4
    for place in (0, 7, len(found["lost"]) - 1):
        image, block, neuron = (int(found[name][place]) for name in ("image", "block", "neuron"))
        path = torch.full((1, n_blocks), -1)
        path[0, block] = neuron
        picture, label = chunk.images[image : image + 1].double(), int(chunk.labels[image])
        lost = model(picture).softmax(1)[0, label] - neuron_path.intervene(model, picture, path).softmax(1)[0, label]
        np.testing.assert_allclose(found["lost"][place], lost, atol=1e-12)


def test_a_cell_is_measured_once_and_another_study_is_refused(subject: Subject) -> None:
    measurements = Measurements(subject)
    cell = Cell("clean", "", 0, 1)
    first = measurements.measure(cell)
    file = subject.store.folder / cell.file
    written = file.stat().st_mtime_ns
    again = measurements.measure(cell)
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again["logits"], first["logits"])
    with pytest.raises(NeuronPathError, match="another seed"):
        subject.store.claim(subject.identity | {"seed": 1})


def test_changes_keep_what_they_are_not_about(subject: Subject) -> None:
    chunk = subject.chunk(0)
    changed = {name: subject.changed(name, chunk) for name in CHANGES}
    assert all(images.shape == chunk.images.shape for images in changed.values())
    assert torch.equal(changed["flip"].flip(3), chunk.images)
    assert torch.equal(changed["noise"], subject.changed("noise", chunk))
    distance = (changed["noise"] - chunk.images).std() / chunk.images.std()
    assert 0.04 < float(distance) < 0.06
    assert 0 < float((changed["jpeg"] - chunk.images).abs().mean()) < float(chunk.images.std())


def test_order_complement_and_sizes() -> None:
    assert in_rounds([1, 1, 0, 0, 0]) == [2, 0, 3, 1, 4]
    paths = torch.tensor([[[3, 0], [1, 2]]])
    assert complement(paths, 4).tolist() == [[[1, 2], [0, 3]]]
    assert circuit_sizes(1536)[:4] == [0, 2, 3, 8]


def test_areas_of_known_curves() -> None:
    shares = np.array([0.0, 0.01, 0.1, 1.0])
    whole, line = np.ones((4, 1)), shares[:, None]
    assert AREAS["CPR"](shares, whole) == pytest.approx(1)
    assert AREAS["CPR"](shares, line) == pytest.approx(0.5)
    assert AREAS["CMD"](shares, line) == pytest.approx(0.5)
    assert AREAS["CPR on log k"](shares, whole) == pytest.approx(1)
    assert AREAS["CMD on log k"](shares, 1 + whole) == pytest.approx(1)
    assert AREAS["CPR on log k"](shares, np.array([[0.0], [0.0], [0.0], [1.0]])) == pytest.approx(0.25)


def test_methods_are_tested_against_the_papers_with_one_family() -> None:
    values = np.random.default_rng(0).normal(size=(3, 30)) + np.array([[0.0], [2.0], [0.0]])
    rows = corrected(compared(values, ["joint_attribution", "activation", "random"], {"k": 1}))
    paper, activation, random = rows
    assert "p_joint_attribution" not in paper
    assert activation["difference"] == pytest.approx(values[1].mean() - values[0].mean())
    assert activation["p_joint_attribution"] < 0.01 < random["p_joint_attribution"]
    assert paper["p_random"] == random["p_joint_attribution"]


def test_classes_of_like_meaning_that_share_neurons_correlate(tmp_path: Path) -> None:
    store, labels = Store(tmp_path), np.arange(8) % 4
    store.claim({"classes": ["apple", "pear", "milk", "juice"], "n_neurons": 6})
    store.put(Cell("clean", "", 0, 0), lambda: {"labels": labels})
    store.put(Cell("effects", "activation", 1, 0), dict)
    paths = np.stack([labels // 2, np.full(8, 5)], axis=1)[..., None]  # fruit share a neuron, and so do packages
    store.put(Cell("paths", "activation", 1, 0), lambda: {"paths": paths})
    tree = tmp_path / "tree.json"
    tree.write_text('{"fruit": ["apple", "pear"], "packages": ["milk", "juice"]}')
    (row,) = meaning_table(Results(store), str(tree)).to_dict("records")
    assert row == {"k": 1, "method": "activation", "r": pytest.approx(-1), "p": row["p"], "classes": 4, "n": 8}
    assert 0 < row["p"] <= 1
    assert not len(meaning_table(Results(store), None))


def test_a_scorer_on_few_photographs_takes_none_from_the_other_methods(tmp_path: Path) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(0)
    store.claim({"classes": ["apple", "pear"]})
    for chunk, names in enumerate([("joint_attribution", "random", "ablation"), ("joint_attribution", "random")]):
        logits = rng.normal(size=(6, 2)) + np.array([5, 0])
        store.put(
            Cell("clean", "", 0, chunk),
            lambda logits=logits: {"labels": np.zeros(6, int), "logits": logits, "logits_flip": logits},
        )
        for name in names:
            edited = {edit: rng.normal(size=(6, 2)) for edit in EDITS}
            store.put(Cell("effects", name, 1, chunk), lambda edited=edited: edited)
    wanted, every = Results(store, ["joint_attribution", "random"]), Results(store)
    assert set(effects_table(wanted)["n"]) == {12}
    further = scorers_table(wanted, every)
    assert set(further["n"]) == {6}
    assert set(further["method"]) == {"joint_attribution", "random", "ablation"}
    assert scorers_table(every, every).empty


@pytest.mark.slow
def test_the_whole_study_stops_goes_on_and_writes_its_page(tmp_path: Path) -> None:
    photographs(tmp_path, 4)
    options = [f"model={MODEL}", f"checkpoint={weights(tmp_path)}", f"image_size={SIDE}", "train=train", "test=test"]
    options += ["chunk=4", "references=4", "dear=4", "sizes=[1,3]", "n_steps=2", "tables=found", "page=docs/real.md"]

    def run(*more: str) -> str:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "experiments/real_model.py"), *options, *more],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "56/56" in run("parts=[table]", "images=4", "page=null")
    rest = run()
    assert "57/162" in rest.splitlines()[0]
    assert "161/162" in rest
    assert "/162" not in run()
    shutil.rmtree(tmp_path / "outputs")  # what is published is enough to go on from
    assert "/162" not in run("resume=found/cells")
    tables, about = read_tables(tmp_path / "found")
    assert about["n_images"] == 8
    effects = tables["effects"]
    removed = effects.loc[(effects["edit"] == "remove") & (effects["measure"] == "probability") & (effects["k"] == 1)]
    everything = removed.loc[removed["group"] == "all"]
    means = dict(zip(everything["method"].tolist(), everything["mean"].tolist(), strict=True))
    assert means["effect_remove"] <= means["joint_attribution"] < means["random"] + 1
    ends = tables["curves"].loc[tables["curves"]["share"].isin([0, 1])].groupby("share")["faithfulness"].mean()
    assert ends.to_dict() == pytest.approx({0: 0, 1: 1})
    assert set(tables["claims"]["verdict"]) <= {"holds", "not shown", "the opposite holds"}
    page = (tmp_path / "docs/real.md").read_text()
    assert "nan" not in page
    assert str(tmp_path) not in page
    assert write_page(tmp_path / "found", tmp_path / "docs/again.md") == page
    assert len(set(pd.read_csv(tmp_path / "found/areas.csv")["measure"].tolist())) == 4


def test_the_page_in_the_docs_is_that_of_the_tables_in_the_repository(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "docs").mkdir()
    made = write_page(root / "experiments/results/real_model", tmp_path / "docs/real-model.md")
    assert made.replace(str(root), "..") == (root / "docs/real-model.md").read_text(encoding="utf-8")
    figures = sorted(file.name for file in (root / "docs/images/real-model").iterdir())
    assert figures == sorted(file.name for file in (tmp_path / "docs/images/real-model").iterdir())
