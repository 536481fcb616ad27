"""How soon a search goes on that has left many parts behind, and in how much memory.

    python -m benchmarks.resume [--parts N] [--rows N] [--folder DIR]

Makes a run directory with as many parts, and as many rows in all, as a search of ImageNet's training pictures may have
left when it was stopped, then times what a search does there before its first batch: every byte is read and checked.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import positive
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import RUN_FILE, part_path
from neuron_path.store.parquet import write_parquet
from neuron_path.store.recovery import open_search
from neuron_path.store.schema import build_table, path_schema

N_RANKS, N_BLOCKS, N_NEURONS = 8, 12, 3072
METHOD = ("joint_attribution", "greedy")
MADE: dict[str, Any] = {"identity": {"seed": 0}, "versions": {}, "git": {}, "environment": {}}


def rows(first: int, last: int) -> pa.Table:
    """Paths of images by number."""
    n, rng = last - first, np.random.default_rng(first)
    absent = ("score_error", "objective", "convergence_delta", "complete", "passes")
    columns = {
        "sample_id": [f"n{number % 1000:08d}/n{number % 1000:08d}_{number}.JPEG" for number in range(first, last)],
        **{name: [0] * n for name in ("label", "target", "prediction")},
        **{name: [value] * n for name, value in zip(("scorer", "search", "measure"), (*METHOD, "joint"), strict=True)},
        "top_k": [1] * n,
        "n_steps": [8] * n,
        **{name: rng.random(n) for name in ("target_probability", "score", "rounding")},
        "path": rng.integers(0, N_NEURONS, (n, N_BLOCKS)),
        "margins": rng.random((n, N_BLOCKS)),
        **{name: [None] * n for name in absent},
    }
    return build_table(path_schema(1), columns)


def make(run_dir: Path, n_parts: int, n_rows: int) -> None:
    """The directory of a search that was stopped."""
    write_json(run_dir / RUN_FILE, MADE)
    ends = np.linspace(0, n_rows, n_parts + 1).astype(int).tolist()
    for part, (first, last) in enumerate(pairwise(ends)):
        write_parquet(part_path(run_dir, part % N_RANKS, part // N_RANKS), rows(first, last), MADE)


def begin(run_dir: str) -> None:
    """Print what it takes to go on, in a process of its own."""
    start = time.perf_counter()
    opened = open_search(Path(run_dir), path_schema(1), MADE, [METHOD])
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(opened.done)} images found after {seconds:.1f} s, in {peak:.2f} GiB")


def main() -> None:
    """Make the directory and time the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=positive, default=20_000, help="how many")
    parser.add_argument("--rows", type=positive, default=1_300_000, help="in all")
    parser.add_argument("--folder", help="where to make them; else where temporary files go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        make(Path(folder), arguments.parts, arguments.rows)
        code = f"from benchmarks.resume import begin; begin({folder!r})"
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()
