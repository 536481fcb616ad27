"""Does a search keep to its memory budget? Peak memory above the loaded model, for many images and nodes.

    python -m benchmarks.memory              # 3 minutes on 2 cores
    python -m benchmarks.memory --quick      # the small cases, writes nothing

Each case is a process of its own: it loads the model, runs it once, sets the kernel's mark of the highest resident
memory back, searches, and reads the mark. So what allocators and kernels hold beside the tensors counts too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Table, console, record, show
from benchmarks.models import Shape, random_images, random_vit

SHAPES = {
    "class token": Shape(192, 3, 3),
    "patches": Shape(192, 3, 3, pool="avg"),
}
BUDGETS = (80, 240)
N_IMAGES = (1, 64)
OTHERS, THEIR_BUDGET = 16, 120  # images of the methods below
METHODS = ({"search": "exchange"}, {"search": "beam"}, {"scorer": "guided_influence_pattern"})
N_STEPS = (8, 64)
MOST = 1.1  # of the budget


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


def peak_of(case: Case) -> dict[str, Any]:
    """MB above the loaded model, as a process of its own measures them, and its seconds; or why it refused to start."""
    command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(case._asdict())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def search(case: Case) -> dict[str, Any]:
    """Within that process."""
    import time

    import neuron_path

    shape = SHAPES[case.model]._replace(n_images=case.n_images)
    model, (images, targets) = random_vit(shape), random_images(shape)
    find_paths = neuron_path.find_paths  # its modules are no part of the search
    model(images[:1])
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
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(search(Case(**json.loads(arguments.case)))))
        return
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("Peak memory is read from /proc, which this system does not have: run it on Linux.")
    values = []
    for case in cases(arguments.quick):
        values.append(case._asdict() | peak_of(case))
        told = (f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in values[-1].items())
        console.print(f"  {', '.join(told)}")
    tables = {"memory": as_table(values)}
    if arguments.quick:
        show(tables)
    else:
        record("memory", {"cases": values}, tables)


if __name__ == "__main__":
    main()
