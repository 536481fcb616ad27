"""What tells how far the work is where no bar can be watched."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from neuron_path import progress
from neuron_path.progress import ProgressLines, progress_bar


class Clock(Event):
    """What waits moves the time on, and then does some work; it ends after two minutes."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.now, self.work = 0.0, work

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0
        self.work()
        return self.now > 120


def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], n: int, **task: Any) -> list[str]:
    """What is said while n are done at every look."""
    monkeypatch.setattr(progress, "_SECONDS_TO_FIRST_LINE", 30)
    bar = progress_bar()
    assert isinstance(bar, ProgressLines)
    clock = Clock(lambda: bar.advance(named, n))
    bar.get_time = lambda: clock.now
    named = bar.add_task("Neuron paths", **task)
    bar._say(clock)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_behind_a_pipe_a_line_a_minute_says_how_far_the_work_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(monkeypatch, capsys, 6, total=80) == [
        "Neuron paths: 6 of 80 images, 0.2 images/s, 0:06:10 left",
        "Neuron paths: 12 of 80 images, 0.13 images/s, 0:08:30 left",
    ]


def test_so_it_does_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = lines(monkeypatch, capsys, 0, total=3, unit="models")
    assert begun == [f"Neuron paths: 0 of 3 models, {time} so far" for time in ("0:00:30", "0:01:30")]
    assert lines(monkeypatch, capsys, 0, total=None)[0] == "Neuron paths: 0:00:30 so far"


def test_what_has_ended_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(monkeypatch, capsys, 3, total=3) == []


def test_the_lines_come_while_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_TO_FIRST_LINE", 0)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    said = Event()
    monkeypatch.setattr(progress, "described", lambda task: (said.set(), task.description)[1])
    with progress_bar() as bar:
        bar.add_task("Neuron paths", total=2)
        assert said.wait(10)
    assert "Neuron paths" in capsys.readouterr().err


def test_who_wants_no_bar_gets_no_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_SECONDS_TO_FIRST_LINE", 0)
    with progress_bar(disable=True) as bar:
        bar.advance(bar.add_task("Neuron paths", total=2))
    assert capsys.readouterr().err == ""
