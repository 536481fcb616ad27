"""The options of the logger, and trackers that break."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.pipeline import run
from neuron_path.tracking import GuardedTracker, NullTracker, Tracker, check_options, csv_file, make_tracker
from tests.command import run_in

OPTIONS = {"name": "none", "mode": "auto"}


class BrokenTracker:
    """Whatever it is asked to do, it cannot."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def log(self, values: Mapping[str, float]) -> None:
        self._break("log")

    def finish(
        self, metrics: Mapping[str, Any], files: Sequence[Path], tables: Mapping[str, pd.DataFrame] | None = None
    ) -> None:
        self._break("finish")

    def fail(self) -> None:
        self._break("fail")

    def _break(self, what: str) -> None:
        self.asked.append(what)
        raise OSError(f"no space\nfor {what}")


def test_no_logger_streams_nowhere(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path, {}, OPTIONS, "search")
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


def test_a_broken_tracker_warns_once_and_is_asked_no_more_but_to_end() -> None:
    broken = BrokenTracker()
    tracker: Tracker = GuardedTracker(broken, "The logger 'x'")
    with pytest.warns(UserWarning, match=r"^The logger 'x' broke \(no space for log\): the run goes on"):
        tracker.log({})
    tracker.log({})
    tracker.finish({}, [])
    tracker.fail()
    assert broken.asked == ["log", "finish", "fail"]


def test_a_tracker_that_cannot_start_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(csv_file, "CsvTracker", fail)
    with pytest.warns(UserWarning, match=r"^The logger 'csv' could not start \(not here\)"):
        assert isinstance(make_tracker(tmp_path, {}, OPTIONS | {"name": "csv"}, "search"), NullTracker)


def test_a_broken_tracker_loses_no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "make_tracker", lambda *_: GuardedTracker(BrokenTracker(), "The logger 'x'"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = run_in(tmp_path / "run", "search", "data.limit=3", "data.batch_size=1")
    assert outcome.code == 0
    assert outcome.err.startswith("neuron-path: warning: The logger 'x' broke (no space for log): ")
    assert outcome.err.count("\n") == 1
    assert outcome.results == ["paths.parquet", "run.json", "metrics.json", "SHA256SUMS"]
