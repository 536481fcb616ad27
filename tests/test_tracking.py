"""Weights & Biases without a network and without a key, and the options of the logger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb.errors

from neuron_path.errors import NeuronPathError
from neuron_path.tracking import NullTracker, check_options, make_tracker
from tests.command import run_in

ROOT = Path(__file__).parents[1]
OPTIONS = {"name": "none", "mode": "offline"}


def test_no_logger_streams_nowhere(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path, {}, OPTIONS)
    assert isinstance(tracker, NullTracker)
    tracker.log({"a": 1.0})
    tracker.finish({}, [])
    tracker.fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "expected"),
    [({"name": "wandbb"}, r"No logger is named 'wandbb'. Did you mean 'wandb'\?"), ({"mode": "on"}, "No mode of the")],
)
def test_options_are_checked(option: dict[str, str], expected: str) -> None:
    check_options(OPTIONS)
    with pytest.raises(NeuronPathError, match=expected):
        check_options(OPTIONS | option)


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run as of a user who has no key, no settings and, by mode, no network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", "neuron_path", "run", "data.limit=3", "data.batch_size=2", "logger=wandb", *arguments],
        env=kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def inspect(file: Path, home: Path) -> list[dict[str, Any]]:
    """The records of an offline run, as W&B's own tool prints them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    read = subprocess.run(
        command, env=os.environ | {"HOME": str(home)}, cwd=home, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in read.stdout.splitlines()]


def test_an_offline_run_can_be_read_and_stays_in_the_run_directory(tmp_path: Path) -> None:
    home, run_dir = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    ran = run(home, f"hydra.run.dir={run_dir}", "logger.tags=[one,two]", "logger.group=mine")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["3", "Paths:", "Report:"]
    (file,) = run_dir.rglob("*.wandb")
    outside = [path for path in home.rglob("*") if path.is_file() and "wandb" in path.parts and path.suffix != ".log"]
    assert outside == []

    records = inspect(file, tmp_path)
    kinds = [record["type"] for record in records]
    described = records[kinds.index("run")]["run"]
    provenance = json.loads((run_dir / "run.json").read_text())
    assert described["config"]["update"]["config"] == provenance["config"]
    assert described["config"]["update"]["weight_hash"] == provenance["weight_hash"]
    assert described["project"] == "neuron-path"
    assert described["run_group"] == "mine"
    assert described["tags"] == ["one", "two"]
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [item["images"] for item in history if "images" in item] == [2, 3]
    assert all("score/joint_attribution" in item for item in history if "images" in item)
    assert any("figures/class_distribution.path" in item for item in history)
    assert "artifact" in kinds
    assert records[-1]["exit"]["exit_code"] == 0
    summary: dict[str, Any] = {}
    for record in records:
        summary |= record["summary"].get("update", {}) if record["type"] == "summary" else {}
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert summary["wall_seconds"] == pytest.approx(metrics["wall_seconds"])


def test_a_run_that_cannot_be_started_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`.")

    monkeypatch.setattr(wandb, "setup", lambda settings: None)
    monkeypatch.setattr(wandb, "init", fail)
    outcome = run_in(tmp_path / "run", "run", "logger=wandb", "logger.mode=online", "data.limit=1")
    assert outcome.is_refusal(), outcome
    assert "could not start (No API key configured. Use `wandb login`.): use logger.mode=offline" in outcome.err
