"""Runs that look for neurons of any blocks, in place of some in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuron_path
from neuron_path.data.digits import DigitsDataset
from neuron_path.report.figures.image_path import image_path_figure
from neuron_path.searches import Linearized
from neuron_path.store.reader import load_effects
from tests.command import call, run_in

SETTINGS = ("data.limit=3", "top_k=6", "per_block=false", "search=linearized", "search.measure=effect")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any") / "run"
    outcome = run_in(folder, "run", *SETTINGS, "report=false", "baselines=[gradient_x_activation]")
    assert (outcome.code, outcome.err) == (0, "")
    return folder


def test_a_run_stores_what_the_python_interface_finds(run_dir: Path) -> None:
    paths = neuron_path.load_paths(run_dir)
    images, labels = neuron_path.load_digits("test")
    names = DigitsDataset("test").sample_ids
    every = [names.index(name) for name in paths["sample_id"].unique()]
    model = neuron_path.load_model()
    methods: list[tuple[str, dict[str, Any]]] = [
        ("joint_attribution", {"search": Linearized(measure="effect")}),
        ("gradient_x_activation", {"scorer": "gradient_x_activation"}),
    ]
    for scorer, options in methods:
        rows = paths[paths["scorer"] == scorer]
        found = neuron_path.find_paths(model, images[every], labels[every], top_k=6, per_block=False, **options)
        assert torch.equal(found.paths, torch.tensor([path.tolist() for path in rows["path"]]))
        assert ((found.paths >= 0).sum((1, 2)) == 6).all()


def test_their_edits_are_measured(run_dir: Path) -> None:
    effects = load_effects(run_dir)
    removed = effects[effects["operation"] == "remove"]
    fall = removed["clean_probability"] - removed["edited_probability"]
    own = removed["scorer"] == "joint_attribution"
    assert set(removed["size"]) == {6}
    assert np.mean(fall[own]) >= np.mean(fall[~own])
    paths = neuron_path.load_paths(run_dir)
    found = paths[paths["scorer"] == "joint_attribution"]
    best = dict(zip(found["sample_id"], found["objective"], strict=True))
    for name, change in zip(removed["sample_id"][own], fall[own], strict=True):
        assert change == pytest.approx(best[name], rel=1e-4)


def test_the_figure_of_an_image_draws_them(run_dir: Path) -> None:
    path = neuron_path.load_paths(run_dir)["path"].iloc[0]
    figure = image_path_figure(torch.rand(8, 8).numpy(), path, n_neurons=192)
    drawn = [line for axes in figure.axes for line in axes.lines if line.get_label() == "neurons"]
    assert sorted(np.asarray(drawn[0].get_ydata())) == sorted(path[path >= 0])


def test_what_compares_blocks_says_that_it_does_not_fit(run_dir: Path) -> None:
    code, _, err = call("run", *SETTINGS)
    assert code != 0
    assert err.endswith("(per_block=false): add report=false evidence=false.\n")
    code, _, err = call("analyze", str(run_dir))
    assert code != 0
    assert "as searches find them with per_block=true." in err
