"""Progress: how many images are done, how fast, and how long is left."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_SECONDS_BETWEEN_LINES = 60


class RateColumn(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """The speed of late, or over the whole run once it has ended."""
        speed = task.finished_speed or task.speed
        return Text("– images/s" if speed is None else f"{speed:.1f} images/s", style="progress.data.speed")


class ProgressLines(Progress):
    """A line a minute on standard error, where no bar can be watched: in a log, or behind a pipe."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self._told = monotonic()

    def advance(self, task_id: TaskID, advance: Any = 1) -> None:
        """Count, and say so once a minute."""
        super().advance(task_id, advance)
        if monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = monotonic()
            print(described(self._tasks[task_id]), file=sys.stderr, flush=True)


def described(task: Task) -> str:
    """How far a task is, in a line."""
    text = f"{task.description}: {task.completed:.0f} of {task.total or 0:.0f} images"
    if task.elapsed and task.completed:
        speed = task.completed / task.elapsed
        left = timedelta(seconds=round(((task.total or 0) - task.completed) / speed))
        text += f", {speed:.2g} images/s, {left} left"
    return text


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar on standard error where somebody can watch it, a terminal or a notebook with ipywidgets; else lines."""
    console = Console(stderr=True)
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    if not disable and not ((console.is_terminal and not console.is_jupyter) or in_notebook):
        return ProgressLines()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
    )
