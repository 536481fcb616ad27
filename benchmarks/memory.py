"""Does a search keep to its memory budget? Peak memory above the loaded model, for many images and nodes.

    python -m benchmarks.memory              # 3 minutes on 2 cores
    python -m benchmarks.memory --quick      # the small cases, writes nothing
    python -m benchmarks.memory --checkpoint FILE --data FOLDER    # a pretrained model on photographs, 8 minutes

Each case is a process of its own: it loads the model, runs it once, sets the kernel's mark of the highest resident
memory back, searches, and reads the mark. So what allocators and kernels hold beside the tensors counts too.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from benchmarks import real
from benchmarks.harness import Table, console, record, show
from benchmarks.models import Shape, random_images, random_vit

SHAPES = {
    "class token": Shape(192, 3, 3),
    "patches": Shape(192, 3, 3, pool="avg"),
}
BUDGETS = (80, 240)
N_IMAGES = (1, 64)
OTHERS, THEIR_BUDGET = 16, 120  # images of the methods below
METHODS = ({"search": "linearized"}, {"scorer": "guided_influence_pattern"})
N_STEPS = (8, 64)
MOST = 1.1  # of the budget
REAL_BUDGETS = (400, 1000)
REAL_IMAGES = 4


class Case(NamedTuple):
    """One search; of `method` what differs from the default one."""

    model: str
    budget: int
    n_images: int
    n_steps: int
    method: dict[str, Any] = {}  # noqa: RUF012 - a named tuple's default, which nobody changes

    @property
    def name(self) -> str:
        """Of the method."""
        return ", ".join(str(value) for value in self.method.values()) or "greedy"


def cases(quick: bool) -> list[Case]:
    """The default method with both budgets, from few sequences to most, and others where their state is largest."""
    small, large = min(BUDGETS), max(BUDGETS)
    few, most = N_IMAGES
    found = [Case(model, small, few, n_steps) for model in SHAPES for n_steps in N_STEPS]
    if quick:
        return found
    found += [Case(model, small, most, min(N_STEPS)) for model in SHAPES]
    found += [Case(model, large, most, n_steps) for model in SHAPES for n_steps in N_STEPS]
    return found + [Case("class token", THEIR_BUDGET, OTHERS, min(N_STEPS), method) for method in METHODS]


def real_cases(quick: bool) -> list[Case]:
    """Of the pretrained model: with both budgets, from few sequences to most, and a search that keeps most."""
    small, large = REAL_BUDGETS
    few, most = N_STEPS
    found = [Case("class token", small, 1, few)]
    if quick:
        return found
    found += [Case("class token", budget, REAL_IMAGES, few) for budget in REAL_BUDGETS]
    found += [Case("class token", budget, 1, most) for budget in REAL_BUDGETS]
    return [*found, Case("class token", large, 1, few, {"search": "linearized"})]


def peak_of(case: Case, options: Sequence[str] = ()) -> dict[str, Any]:
    """MB above the loaded model, as a process of its own measures them, and its seconds; or why it refused to start.

    Args:
        case: the search.
        options: of the command line, that name a pretrained model and photographs.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(case._asdict()), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def subject(case: Case, source: real.Source | None) -> tuple[nn.Module, Tensor, Tensor]:
    """The model with its images and targets."""
    if source is not None:
        return real.load(source, case.n_images)[:3]
    shape = SHAPES[case.model]._replace(n_images=case.n_images)
    return random_vit(shape), *random_images(shape)


def search(case: Case, source: real.Source | None) -> dict[str, Any]:
    """Within that process."""
    import time

    import neuron_path

    model, images, targets = subject(case, source)
    find_paths = neuron_path.find_paths  # its modules are no part of the search
    model(images[:1])
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # what loading has freed is not the search's to use
    if give_back is not None:
        give_back(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start = _status("VmRSS"), time.perf_counter()
    budget = case.budget * 1e6
    try:
        find_paths(model, images, targets, n_steps=case.n_steps, memory_budget=budget, **case.method)
    except neuron_path.NeuronPathError as error:
        return {"refused": str(error)}
    return {"peak": _status("VmHWM") - before, "seconds": time.perf_counter() - start}


def _status(name: str) -> float:
    """A line of /proc/self/status in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(wanted: Sequence[Case], options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The cases with what was measured of each."""
    values = []
    for case in wanted:
        values.append(case._asdict() | peak_of(case, options))
        told = (f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in values[-1].items())
        console.print(f"  {', '.join(told)}")
    return values


def as_table(values: list[dict[str, Any]]) -> Table:
    """A row for each case."""
    columns = ("scope", "method", "budget", "images", "nodes", "peak above the model", "of the budget", "within 110 %")
    rows = []
    for value in values:
        told = ["refused: too small for one image", "–", "–"]
        if "peak" in value:
            share = value["peak"] / value["budget"]
            told = [f"{value['peak']:.0f} MB", f"{share:.0%}", "yes" if share <= MOST else "**no**"]
        method = Case(**{name: value[name] for name in Case._fields}).name
        rows.append(
            [value["model"], method, f"{value['budget']} MB", str(value["n_images"]), str(value["n_steps"]), *told]
        )
    return Table(columns, rows, "A process for each row.")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small cases; writes nothing")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    if arguments.case:
        print(json.dumps(search(Case(**json.loads(arguments.case)), source)))
        return
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("Peak memory is read from /proc, which this system does not have: run it on Linux.")
    if source is None:
        values = measure(cases(arguments.quick))
        tables = {"memory": as_table(values)}
        if arguments.quick:
            show(tables)
        else:
            record("memory", {"cases": values}, tables)
        return
    about = real.load(source, 1).about  # which also fits the probe
    values = measure(real_cases(arguments.quick), real.options_of(source))
    note = f"`{source.model}` at {source.image_size} pixels, on photographs. A process for each row."
    found = {"about": about, "cases": values}
    real.finish("memory", found, as_table(values)._replace(note=note), trial=arguments.trial or arguments.quick)


if __name__ == "__main__":
    main()
