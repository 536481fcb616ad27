"""Progress bars: how many images are done, how fast, and how long is left."""

from __future__ import annotations

import importlib.util

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class RateColumn(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """The speed of late, or over the whole run once it has ended."""
        speed = task.finished_speed or task.speed
        return Text("– images/s" if speed is None else f"{speed:.1f} images/s", style="progress.data.speed")


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar on standard error, shown only where somebody can watch it: a terminal, or a notebook with ipywidgets."""
    console = Console(stderr=True)
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=disable or not ((console.is_terminal and not console.is_jupyter) or in_notebook),
    )
