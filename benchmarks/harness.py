"""What every benchmark does: describe the machine, time things side by side, and leave a record.

A result is `benchmarks/results/NAME.json`: the machine, the raw seconds, and the tables as text. Tables and figures of
`docs/performance.md` are made from it and from nothing else, so that a page can be made again without measuring.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable

from neuron_path.report.markdown import markdown_table
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_json
from neuron_path.store.provenance import git_state

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "images" / "performance"
WRITTEN = (":(top,exclude)benchmarks/results", ":(top,exclude)docs")  # by the benchmarks themselves
INSTRUCTION_SETS = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")

# Into a file the tables are as wide as they need.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class Spread(NamedTuple):
    """Median and range of one quantity over the rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2, unit: str = "") -> str:
        """As tables have it; the range only where there is one.

        >>> Spread(1.234, 1.1, 2.0).text(1, "×"), spread([1.234]).text(1, "×")
        ('1.2× (1.1–2.0)', '1.2×')
        """
        middle = f"{self.median:.{digits}f}{unit}"
        return middle if self.low == self.high else f"{middle} ({self.low:.{digits}f}–{self.high:.{digits}f})"


class Table(NamedTuple):
    """A table whose cells are text, and how they were measured, for the line under it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def spread(values: Iterable[float]) -> Spread:
    """Median and range of some values."""
    listed = list(values)
    return Spread(median(listed), min(listed), max(listed))


def ratios(one: Sequence[float], other: Sequence[float]) -> Spread:
    """one / other of the rounds that timed both.

    >>> ratios([2.0, 6.0, 8.0], [1.0, 2.0])
    Spread(median=2.5, low=2.0, high=3.0)
    """
    return spread(a / b for a, b in zip(one, other, strict=False))


def interleaved(
    callables: Mapping[str, Callable[[], object]],
    rounds: int,
    slow: Mapping[str, int] | None = None,
    *,
    quiet: bool = False,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Wall seconds of each callable, one after the other in each round, and what each returned last.

    Every other round goes backwards, so that a machine that slows down favours none.

    Args:
        callables: what is timed, by name; each is called once before, to warm up.
        rounds: how many rounds.
        slow: callables that take part in so many rounds only, the first ones, and need no warming up.
        quiet: print nothing.
    """
    limits = slow or {}
    outputs = {name: call() for name, call in callables.items() if name not in limits}
    seconds: dict[str, list[float]] = {name: [] for name in callables}
    for number in range(rounds):
        taking_part = [name for name in callables if number < limits.get(name, rounds)]
        for name in taking_part[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            outputs[name] = callables[name]()
            seconds[name].append(time.perf_counter() - start)
        if not quiet:
            told = ", ".join(f"{name} {seconds[name][-1]:.3g} s" for name in taking_part)
            console.print(f"  round {number + 1}: {told}", soft_wrap=True)
    return seconds, outputs


def positive(text: str) -> int:
    """A whole number from the command line, 1 or more.

    >>> positive("3")
    3
    """
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not 1 or more")
    return number


def rounds_of(n: int) -> str:
    """As notes have it."""
    return f"{n} interleaved rounds" if n > 1 else "one round"


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code, and which code it was."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if known.get(name)],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": version("timm"),
        "git": git_state(Path(__file__).parents[1] / "neuron_path" / "api.py", but=WRITTEN),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return " ".join(names[0].split()) if names else platform.machine()


def record(name: str, values: Mapping[str, Any], tables: Mapping[str, Table], figure: Figure | None = None) -> None:
    """Print the tables of a whole result, write it down and save its figure.

    Args:
        name: of the benchmark.
        values: all that was measured.
        tables: for the page, by the name of their place in it.
        figure: saved as `docs/images/performance/NAME.svg`.
    """
    content = {
        "machine": machine(),
        "values": values,
        "tables": {key: table._asdict() for key, table in tables.items()},
    }
    show(tables)
    write_json(RESULTS / f"{name}.json", content)
    if figure is not None:
        save_figure(figure, FIGURES / name, ("svg",), close=False)
    console.print(f"Written: {RESULTS / name}.json")


def show(tables: Mapping[str, Table]) -> None:
    """Print tables."""
    for key, table in tables.items():
        shown = RichTable(*table.columns, title=key)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def results() -> dict[str, dict[str, Any]]:
    """Every result there is, by the benchmark's name."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(RESULTS.glob("*.json"))}


def fragments(result: Mapping[str, Any]) -> dict[str, str]:
    """A result's tables in Markdown, each with a line that says when and how it was measured."""
    return {
        key: markdown_table(pd.DataFrame(table["rows"], columns=table["columns"]))
        + f"\n\n*{_caption(result['machine'], table['note'])}*"
        for key, table in result["tables"].items()
    }


def _caption(on: Mapping[str, Any], note: str) -> str:
    commit = (on["git"]["commit"] or "unknown")[:7] + (" with changes" if on["git"]["dirty"] else "")
    return f"{note + ' ' if note else ''}{on['date'][:10]}, commit {commit}, threads: {on['threads']}, {on['cpu']}."


def machine_table(newest: Mapping[str, Any]) -> str:
    """The machine of a result in Markdown."""
    on = newest["machine"]
    rows = [
        ("processor", f"{on['cpu']}, {on['cores']} cores, torch's threads: {on['threads']}"),
        ("instruction sets", ", ".join(on["instruction_sets"]) or "not known"),
        ("kernels of torch", on["torch_kernels"]),
        ("memory", f"{on['memory_gb']} GB"),
        ("GPU", on["gpu"] or "none"),
        ("versions", f"Python {on['python']}, torch {on['torch']}, timm {on['timm']}"),
    ]
    return markdown_table(pd.DataFrame(rows, columns=["", "machine"]))
