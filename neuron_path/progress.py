"""What is on the screen: how many images are done, how fast, how long is left; and not what libraries remark."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_SECONDS_TO_FIRST_LINE, _SECONDS_BETWEEN_LINES = 30, 60


class RateColumn(ProgressColumn):
    """Images, or whatever a task counts, per second."""

    def render(self, task: Task) -> Text:
        """The speed of late, or over the whole run once it has ended."""
        speed = task.finished_speed or task.speed
        unit = _unit(task)
        return Text(f"– {unit}/s" if speed is None else f"{speed:.1f} {unit}/s", style="progress.data.speed")


class ProgressLines(Progress):
    """Lines on standard error, where no bar can be watched: in a log, or behind a pipe.

    The first comes after half a minute, the others once a minute, also while nothing is done for longer.
    """

    def __init__(self) -> None:
        super().__init__(disable=True)
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to count the time."""
        self._ended = Event()
        self._thread = Thread(target=self._say, args=(self._ended,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _say(self, ended: Event) -> None:
        wait = _SECONDS_TO_FIRST_LINE
        while not ended.wait(wait):
            wait = _SECONDS_BETWEEN_LINES
            for task in self.tasks:
                if not task.finished:
                    print(described(task), file=sys.stderr, flush=True)


def described(task: Task) -> str:
    """How far a task is, in a line."""
    if not task.completed or not task.elapsed:
        done = "" if task.total is None else f" 0 of {task.total:.0f} {_unit(task)},"
        return f"{task.description}:{done} {timedelta(seconds=round(task.elapsed or 0))} so far"
    speed, total = task.completed / task.elapsed, task.total or 0
    left = timedelta(seconds=round((total - task.completed) / speed))
    return (
        f"{task.description}: {task.completed:.0f} of {total:.0f} {_unit(task)}, {speed:.2g} {_unit(task)}/s, {left} "
        "left"
    )


def _unit(task: Task) -> str:
    return task.fields.get("unit", "images")


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar on standard error where somebody can watch it, a terminal or a notebook with ipywidgets; else lines."""
    console = Console(stderr=True, quiet=disable)  # an older rich ends a disabled bar with an empty line
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


@contextmanager
def hushed(*loggers: str) -> Iterator[None]:
    """Keep the remarks of libraries off the screen, but for errors."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in loggers}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
