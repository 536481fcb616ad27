"""What every tracker does, and the guard that keeps a broken one from breaking a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

NO_TABLES: Mapping[str, pd.DataFrame] = {}


class Tracker(Protocol):
    """Where a run's numbers are streamed to."""

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment."""
        ...

    def finish(
        self, metrics: Mapping[str, Any], files: Sequence[Path], tables: Mapping[str, pd.DataFrame] = NO_TABLES
    ) -> None:
        """The run's final numbers, its result files, and tables by name."""
        ...

    def fail(self) -> None:
        """Mark the run as failed."""
        ...


class NullTracker:
    """Streams nowhere."""

    def log(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    finish = fail = log


class GuardedTracker:
    """Another tracker, whose exceptions become one warning: a run's results never depend on it.

    After the first exception nothing more is logged; `finish` and `fail` are still handed on: they free what it holds.

    Args:
        tracker: the other one.
        name: its name in the warning.
    """

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name = tracker, name
        self._is_broken = False

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment, unless something went wrong before."""
        if not self._is_broken:
            self._try(lambda: self._tracker.log(values))

    def finish(
        self, metrics: Mapping[str, Any], files: Sequence[Path], tables: Mapping[str, pd.DataFrame] = NO_TABLES
    ) -> None:
        """Final numbers, files and tables."""
        self._try(lambda: self._tracker.finish(metrics, files, tables))

    def fail(self) -> None:
        """Mark the run as failed."""
        self._try(self._tracker.fail)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            if not self._is_broken:
                self._is_broken = True
                warnings.warn(
                    f"{self._name} broke ({reason_of(error)}): the run goes on without it, and its results are in the "
                    "run directory as ever.",
                    stacklevel=4,
                )


def reason_of(error: BaseException) -> str:
    """An exception's message in one line, or its type where it has none.

    >>> reason_of(ValueError("no\\n  space")), reason_of(TimeoutError())
    ('no space', 'TimeoutError')
    """
    return " ".join(str(error).split()).rstrip(".:") or type(error).__name__


def flat(metrics: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """The numbers and texts of nested metrics under one name each; lists belong into tables.

    >>> flat({"images": 3, "mean_score": {"random": 0.5}, "effects": [{"n": 3}]})
    {'images': 3, 'mean_score/random': 0.5}
    """
    named: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            named |= flat(value, f"{parent}{name}/")
        elif isinstance(value, Real | str):
            named[f"{parent}{name}"] = value
    return named
