"""How much faster are two processes than one? Images per second of each stage of whole runs, start-up excluded.

    python -m benchmarks.distributed                     # 6 minutes on 2 cores
    python -m benchmarks.distributed --rounds 1 --images 60

Each process has one thread. The clock runs from the start of a process's first batch of the stage to its last batch's
rows on the disk, as in `metrics.json`; of two processes the slower one counts. The embedded model on its own test
digits, the run's own method and one baseline, evaluated by the default interventions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Table, console, positive, ratios, record, rounds_of, show, spread

PROCESSES = (1, 2)
STAGES = {"search": "images_per_second", "evaluation": "evaluated_images_per_second"}
"""From a stage to the name of its speed."""


def speeds_of(n_processes: int, n_images: int) -> dict[str, float]:
    """Images per second of each stage of one run."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"data.limit={n_images}", "data.batch_size=20", "trainer.threads=1", f"hydra.run.dir={folder}"]
        options += ["baselines=[activation]", "report=false"]
        trainer = ["trainer=ddp_cpu", f"trainer.devices={n_processes}"] if n_processes > 1 else ["trainer=cpu"]
        command = [sys.executable, "-m", "neuron_path", "run", *options, *trainer]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=Path(__file__).parents[1])
        metrics = json.loads((Path(folder) / "metrics.json").read_bytes())
    assert (metrics["processes"], metrics["images"]) == (n_processes, n_images)
    return {stage: metrics[name] for stage, name in STAGES.items()}


def tabulate(speeds: Mapping[str, Mapping[int, Sequence[float]]], n_images: int) -> Table:
    """Speeds, and how many times as fast as one process.

    >>> tabulate({"search": {1: [10.0, 12.0], 2: [19.0, 24.0]}}, 60).rows[1]
    ('search', '2', '21.5 images/s (19.0–24.0)', '1.95× (1.90–2.00)')
    """
    rows = [
        (
            stage,
            str(n),
            spread(found).text(1, " images/s"),
            ratios(found, of_stage[1]).text(2, "×") if n > 1 else "–",
        )
        for stage, of_stage in speeds.items()
        for n, found in of_stage.items()
    ]
    rounds = rounds_of(len(next(iter(speeds.values()))[1]))
    note = f"Median and range of {rounds}, {n_images} digits, one thread each, start-up excluded."
    return Table(("stage", "processes", "speed", "as fast as one"), rows, note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--images", type=positive, default=360)
    options = parser.parse_args(arguments)
    whole = options.rounds == parser.get_default("rounds") and options.images == parser.get_default("images")
    speeds: dict[str, dict[int, list[float]]] = {stage: {n: [] for n in PROCESSES} for stage in STAGES}
    for number in range(options.rounds):
        for n in PROCESSES[:: -1 if number % 2 else 1]:
            for stage, speed in speeds_of(n, options.images).items():
                speeds[stage][n].append(speed)
        told = ", ".join(
            f"{stage} by {n} {found[-1]:.1f} images/s" for stage, own in speeds.items() for n, found in own.items()
        )
        console.print(f"  round {number + 1}: {told}", soft_wrap=True)
    tables = {"distributed": tabulate(speeds, options.images)}
    if whole:
        record("distributed", {"images_per_second": speeds, "images": options.images}, tables)
    else:
        show(tables)


if __name__ == "__main__":
    main()
