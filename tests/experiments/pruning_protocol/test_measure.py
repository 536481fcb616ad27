"""The paper's pruning protocol on a stored run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuron_path
from neuron_path.data.digits import DigitsDataset
from neuron_path.errors import NeuronPathError
from neuron_path.models.session import Session
from neuron_path.pipeline.pruning.study import open_run
from pruning_protocol.masks import class_path, draw_masks, masked_probabilities
from pruning_protocol.measure import ProtocolSettings, measure_protocol, split_for_protocol
from pruning_protocol.page import beside_table, protocol_page
from pruning_protocol.summary import RECORD_COLUMNS, beside_published, summarise_protocol
from tests.command import run_in

SETTINGS = ProtocolSettings(shares=(0.5, 1.0), depths=(3, 20), seeds=(0, 1))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("searched") / "run"
    assert run_in(run_dir, "search", "data.split=val", "data.limit=40", "top_k=3").code == 0
    return run_dir


def test_the_records_are_those_of_the_steps_one_by_one(searched: Path) -> None:
    records = measure_protocol(str(searched), SETTINGS)
    assert list(records.columns) == list(RECORD_COLUMNS)
    assert set(zip(records["depth"], records["share"], strict=True)) == {
        (12, 0.0), (3, 0.5), (3, 1.0), (12, 0.5), (12, 1.0)
    }  # fmt: skip
    study = open_run(str(searched))
    selection, evaluation = split_for_protocol(study, SETTINGS, 1)
    paths, data = neuron_path.load_paths(searched).set_index("sample_id"), DigitsDataset("val")
    session = Session(neuron_path.load_model())
    for place in (0, 7, len(evaluation) - 1):
        name, label = evaluation.names[place], evaluation.classes[place]
        own = [one for one, index in zip(selection.names, selection.classes, strict=True) if index == label]
        path = class_path(np.stack(paths.loc[own, "path"].tolist()), [192] * 12)
        masks = draw_masks(path, [192] * 12, 0.5, 3, f"class {label}, seed 1")
        assert [int(mask.sum()) for mask in masks] == [95] * 3 + [0] * 9  # round(0.5 · 189)
        image = data[data.sample_ids.index(name)]["image"].unsqueeze(0)
        expected = masked_probabilities(session, image, [mask.unsqueeze(0) for mask in masks])[0, label]
        row = records.query("seed == 1 and depth == 3 and share == 0.5 and sample_id == @name").iloc[0]
        assert row["probability"] == pytest.approx(float(expected), rel=1e-5)
        assert row["label"] == label


def test_nothing_masked_is_the_model_itself(searched: Path) -> None:
    records = measure_protocol(str(searched), SETTINGS)
    own = records.loc[records["share"] == 0]
    data = DigitsDataset("val")
    images = torch.stack([data[data.sample_ids.index(name)]["image"] for name in own["sample_id"]])
    expected = neuron_path.load_model()(images).softmax(1)
    assert own["prediction"].tolist() == expected.argmax(1).tolist()


def test_selection_and_evaluation_share_an_image_of_each_class_in_the_paper_s_protocol_only(searched: Path) -> None:
    study = open_run(str(searched))
    paper = ProtocolSettings("paper", seeds=(0,))
    selection, evaluation = split_for_protocol(study, SETTINGS, 0)
    assert not set(selection.names) & set(evaluation.names)
    chosen, tested = split_for_protocol(study, paper, 0)
    assert chosen.names == selection.names
    overlap = set(chosen.names) & set(tested.names)
    data = DigitsDataset("val")
    labels = dict(zip(data.sample_ids, data.labels, strict=True))
    assert sorted(labels[name] for name in overlap) == list(range(10))
    assert set(tested.names) == set(evaluation.names) | overlap


def test_settings_out_of_range_are_refused() -> None:
    every: list[dict[str, Any]] = [{"protocol": "papers"}, {"shares": (1.5,)}, {"depths": (0,)}, {"seeds": ()}]
    for wrong in every:
        with pytest.raises(NeuronPathError, match="protocol"):
            ProtocolSettings(**wrong)


def test_published_numbers_stand_beside_ours_or_apart(searched: Path) -> None:
    summary = summarise_protocol(measure_protocol(str(searched), SETTINGS))
    apart = {"digits_vit": None}
    page = protocol_page(summary, apart, {"digits_vit": "a.png"}, beside_published(summary, apart))
    assert "not to be compared" in page
    assert "0.5187" in page
    assert "## Beside the published numbers" not in page
    together = {"digits_vit": "vit_b_32"}
    beside = beside_published(summary.assign(top_k=5), together)
    page = protocol_page(summary, together, {"digits_vit": "a.png"}, beside)
    assert "not to be compared" not in page
    table = beside_table(beside).set_index(["depth", "masked"])
    assert table.loc[("12", "100 %"), "paper"] == "0.541"
    assert table.loc[("3", "50 %"), "paper"] == "0.519"
    assert table.loc[("–", "none"), "paper"] == "0.520 (read off)"
