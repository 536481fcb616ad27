"""`logger=csv`: what is streamed, as rows that can be read at any time."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from neuron_path.tracking.csv_file import CsvTracker
from tests.command import run_in


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    file = tmp_path / "csv" / "search" / "metrics.csv"
    tracker = CsvTracker(tmp_path, "search")
    tracker.log({"images": 2.0})
    assert pd.read_csv(file).to_dict("records") == [{"images": 2.0, "step": 0}]
    tracker.log({"images": 4.0, "mean_score/random": 0.5})
    tracker.finish({"images": 4, "device": "cpu", "mean_score": {"random": 0.25}, "effects": [{"n": 1}]}, [])
    rows = pd.read_csv(file)
    assert rows["step"].tolist() == [0, 1, 2]
    assert rows["images"].tolist() == [2, 4, 4]
    assert rows["mean_score/random"].tolist()[1:] == [0.5, 0.25]
    assert rows["device"].tolist()[2] == "cpu"
    assert "effects" not in rows


def test_starting_again_keeps_the_older_file(tmp_path: Path) -> None:
    for job_type in ("search", "search", "evaluate"):
        CsvTracker(tmp_path, job_type).log({"images": 1.0})
    folders = sorted(folder.name for folder in (tmp_path / "csv").iterdir())
    assert folders == ["evaluate", "search", "search-2"]


def test_a_search_streams_its_batches_then_the_metrics(tmp_path: Path) -> None:
    outcome = run_in(tmp_path, "search", "logger=csv", "data.limit=5", "data.batch_size=2")
    assert (outcome.code, outcome.err) == (0, "")
    rows = pd.read_csv(tmp_path / "csv" / "search" / "metrics.csv")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert rows["images"].tolist() == [2, 4, 5, 5]
    assert all(speed > 0 for speed in rows["images_per_second"])
    assert all(speed > 0 for speed in rows["images_per_second_recent"].tolist()[:3])
    mean = metrics["mean_score"]["joint_attribution"]
    assert rows["mean_score/joint_attribution"].tolist()[2:] == pytest.approx([mean, mean], rel=1e-12)
    assert rows["wall_seconds"].tolist()[3] == metrics["wall_seconds"]
