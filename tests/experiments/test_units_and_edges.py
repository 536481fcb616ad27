"""The studies of units and of edges: what they print."""

from __future__ import annotations

import re

import pytest
import torch

import neuron_path
from edges import Edges, patched
from edges import main as study_edges
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.models.session import Session
from units import Units
from units import main as study_units


def test_units_are_compared_by_what_their_removal_changes(capsys: pytest.CaptureFixture[str]) -> None:
    study_units(Units(images=3, sizes=[2]))
    lines = capsys.readouterr().out.splitlines()
    model, (images, _) = neuron_path.load_model(), neuron_path.load_digits("test")
    images = images[:: len(images) // 3][:3]
    search = neuron_path.searches.Linearized(measure="effect")
    for line, (kind, units, size) in zip(
        lines,
        [("ffn", "ffn", 2), ("heads", "heads", 2), ("ffn+heads", "ffn+heads", 2), ("ffn, 16 for one", "ffn", 32)],
        strict=False,
    ):
        found = neuron_path.find_paths(model, images, search=search, top_k=size, per_block=False, units=units)
        clean = model(images).softmax(1).amax(1)
        edited = neuron_path.intervene(model, images, found.paths, units=units).softmax(1)
        change = float((100 * (edited.gather(1, found.targets.unsqueeze(1)).squeeze(1) - clean) / clean).mean())
        told = re.match(rf"2 of {re.escape(kind)}: removal changes the probability by ([+−][\d.]+) %", line)
        assert told is not None, line
        assert float(told[1].replace("−", "-")) == pytest.approx(change, abs=2e-3)
    assert [line.split(":")[0] for line in lines[4:]] == ["heads − ffn", "heads − ffn+heads", "heads − ffn, 16 for one"]


def test_path_patching_of_small_neurons_is_their_edges() -> None:
    model, (images, _) = neuron_path.load_model().double(), neuron_path.load_digits("test")
    session = Session(model)
    paths = torch.arange(24).view(2, 12)
    targets = torch.tensor([3, 4])
    with session.active():
        inputs = session.images(images[:2].double())
        problem = Problem.pose(session.adapter, inputs, targets, Quadrature("midpoint", 1), 1)
        found = patched(problem, paths)
    edges = neuron_path.path_edges(model, images[:2], paths, targets).edges.double()
    assert (found.tril() == 0).all()
    assert (found - edges).norm() < 0.05 * edges.norm()


def test_edges_are_compared_with_path_patching(capsys: pytest.CaptureFixture[str]) -> None:
    study_edges(Edges(images=2))
    out = capsys.readouterr().out
    assert re.search(r"Pearson's r over all 132 edges: (0\.9|1\.0)", out), out
    assert "Share of all magnitudes that passes through a later neuron: " in out
