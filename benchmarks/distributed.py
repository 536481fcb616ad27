"""How much faster are two processes than one? Images per second of whole searches, start-up excluded.

    python -m benchmarks.distributed                     # 3 minutes on 2 cores
    python -m benchmarks.distributed --rounds 1 --images 60

Each process has one thread. The clock runs from the start of a process's first batch to its last batch's rows on the
disk, as in `metrics.json`; of two processes the slower one counts. The embedded model on its own test digits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Table, console, positive, ratios, record, rounds_of, show, spread

PROCESSES = (1, 2)


def images_per_second(n_processes: int, n_images: int) -> float:
    """The speed of one search."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"data.limit={n_images}", "data.batch_size=20", "trainer.threads=1", f"hydra.run.dir={folder}"]
        trainer = ["trainer=ddp_cpu", f"trainer.devices={n_processes}"] if n_processes > 1 else ["trainer=cpu"]
        command = [sys.executable, "-m", "neuron_path", "search", *options, *trainer]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=Path(__file__).parents[1])
        metrics = json.loads((Path(folder) / "metrics.json").read_bytes())
    assert (metrics["processes"], metrics["images"]) == (n_processes, n_images)
    return metrics["images_per_second"]


def tabulate(speeds: dict[int, list[float]], n_images: int) -> Table:
    """Speeds, and how many times as fast as one process.

    >>> tabulate({1: [10.0, 12.0], 2: [19.0, 24.0]}, 60).rows
    [('1', '11.0 images/s (10.0–12.0)', '–'), ('2', '21.5 images/s (19.0–24.0)', '1.95× (1.90–2.00)')]
    """
    rows = [
        (
            str(n),
            spread(found).text(1, " images/s"),
            ratios(found, speeds[1]).text(2, "×") if n > 1 else "–",
        )
        for n, found in speeds.items()
    ]
    note = f"Median and range of {rounds_of(len(speeds[1]))}, {n_images} digits, one thread each, start-up excluded."
    return Table(("processes", "speed", "as fast as one"), rows, note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--images", type=positive, default=360)
    options = parser.parse_args(arguments)
    whole = options.rounds == parser.get_default("rounds") and options.images == parser.get_default("images")
    speeds: dict[int, list[float]] = {n: [] for n in PROCESSES}
    for number in range(options.rounds):
        for n in PROCESSES[:: -1 if number % 2 else 1]:
            speeds[n].append(images_per_second(n, options.images))
        told = ", ".join(f"{n} process(es) {found[-1]:.1f} images/s" for n, found in speeds.items())
        console.print(f"  round {number + 1}: {told}", soft_wrap=True)
    tables = {"distributed": tabulate(speeds, options.images)}
    if whole:
        record("distributed", {"images_per_second": speeds, "images": options.images}, tables)
    else:
        show(tables)


if __name__ == "__main__":
    main()
