"""The strongest edges of paths: those that `neuron_path.path_edges` has, whatever the units and the type."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

import neuron_path
from neuron_path.attribution.target import Target
from neuron_path.evidence import edges
from neuron_path.models.session import Session
from tests import tiny


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("units", ["ffn", "heads", "ffn+heads"])
def test_the_largest_of_all_are_kept(
    units: Literal["ffn", "heads", "ffn+heads"], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "N_EDGES", 4)
    model, images = tiny.make().to(dtype), tiny.make_images(3).to(dtype)
    session = Session(model, units=units)
    paths = torch.tensor([[1, 0]]).repeat(3, len(session.adapter.blocks), 1)
    paths[1, 1, 1] = -1
    targets = torch.tensor([0, 2, 1])
    found = edges.strongest_edges(session, images, paths, targets, Target("margin"))
    expected = neuron_path.path_edges(tiny.make().to(dtype), images, paths, targets, target="margin", units=units)
    for of_image, path, whole in zip(found, paths.tolist(), expected.edges.double().numpy(), strict=True):
        assert of_image["n"] == np.count_nonzero(whole)
        assert of_image["magnitude"] == pytest.approx(np.abs(whole).sum(), rel=1e-5)
        largest = sorted(np.abs(whole).flat, reverse=True)[:4]
        assert [abs(edge["value"]) for edge in of_image["strongest"]] == pytest.approx(largest, rel=1e-5)
        for edge in of_image["strongest"]:
            start, end = (edge["block"], edge["neuron"]), (edge["later_block"], edge["later_neuron"])
            places: Any = [(block, path[block].index(neuron)) for block, neuron in (start, end)]
            assert edge["value"] == pytest.approx(whole[places[0] + places[1]], rel=1e-5)


def test_a_path_of_one_neuron_has_none() -> None:
    paths = torch.tensor([[[-1], [2], [-1]]])
    [found] = edges.strongest_edges(Session(tiny.make()), tiny.make_images(1), paths, torch.tensor([0]), Target())
    assert found == {"n": 0, "magnitude": 0.0, "strongest": []}
