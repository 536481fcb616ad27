"""What tells how far the work is where no bar can be watched."""

from __future__ import annotations

import pytest

from neuron_path import progress
from neuron_path.progress import ProgressLines, progress_bar


def test_behind_a_pipe_a_line_a_minute_says_how_far_the_work_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with progress_bar() as bar:
        assert isinstance(bar, ProgressLines)
        bar.get_time = lambda: now[0]
        task = bar.add_task("Neuron paths", total=80)
        for _ in range(5):
            now[0] += 25
            bar.advance(task, 5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["Neuron paths: 15 of 80 images, 0.2 images/s, 0:05:25 left"]


def test_who_wants_no_bar_gets_no_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1)
    with progress_bar(disable=True) as bar:
        bar.advance(bar.add_task("Neuron paths", total=2))
    assert capsys.readouterr().err == ""
