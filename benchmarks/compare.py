"""What `neuron-path compare` costs when a sweep has seen all of ImageNet's validation pictures.

    python -m benchmarks.compare
    python -m benchmarks.compare --images 5000

Makes the run directories of a sweep, one for each method, with made-up effects of four operations on as many images of
as many classes, then gathers them by the command, in a process of its own. Processor time beside the clock's, since
other processes may want the machine too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import Table, positive, record, show
from neuron_path.store.layout import EFFECTS_FILE, PATHS_FILE, SCORES_FILE
from neuron_path.store.parquet import write_parquet
from neuron_path.store.schema import effect_schema, path_schema, score_schema

IMAGES = (5_000, 50_000)
METHODS = (
    "joint_attribution", "complete_attribution", "activation", "influence_pattern", "guided_influence_pattern",
    "gradient_x_activation", "integrated_gradients", "conductance", "knowledge_neurons", "ablation", "random",
    "activation_matched_random",
)  # fmt: skip
OPERATIONS = ("remove", "enhance", "mean_ablation", "keep_only")
N_CLASSES, N_BLOCKS, N_NEURONS = 1000, 12, 3072
MADE: dict[str, Any] = {"model": "made_up", "weight_hash": "0", "data": "made_up", "target": "probability"}


def make(run_dir: Path, scorer: str, n: int) -> None:
    """The directory of a finished run of one method; probabilities before the edits are those of every method."""
    rng = np.random.default_rng([METHODS.index(scorer)])
    clean = np.random.default_rng(0).uniform(0.05, 0.99, n)
    label = np.arange(n) % N_CLASSES
    ids = [f"n{index % N_CLASSES:08d}/ILSVRC2012_val_{index:08d}.JPEG" for index in range(n)]
    made = MADE | {"classes": [f"class {index}" for index in range(N_CLASSES)]}
    key = {"sample_id": ids, "scorer": scorer, "search": "greedy", "top_k": 1}
    places = np.arange(0, n * N_BLOCKS + 1, N_BLOCKS, dtype=np.int32)
    own = {"label": label, "target": label, "prediction": label, "target_probability": clean, "score": clean}
    lists = {
        "path": pa.ListArray.from_arrays(places, pa.array(rng.integers(N_NEURONS, size=n * N_BLOCKS), pa.int32())),
        "margins": pa.ListArray.from_arrays(places, rng.random(n * N_BLOCKS)),
    }
    write_parquet(
        run_dir / PATHS_FILE, _table(path_schema(1), n, key | own | lists | {"measure": "", "n_steps": 8}), made
    )
    score = {"joint": rng.normal(1, 1, n), "complete": rng.normal(1, 1, n), "convergence_delta": 0.0}
    write_parquet(run_dir / SCORES_FILE, _table(score_schema(), n, key | score), made)
    edits = []
    for strength, operation in enumerate(OPERATIONS):
        edited = clean * np.exp(-np.abs(rng.normal(0.02 * strength, 0.1, n)))
        edit = {
            "operation": operation,
            "size": 1,
            "token_scope": "cls",
            "tokens": "scope",
            "target": label,
            "clean_probability": clean,
            "edited_probability": edited,
            "clean_logit": np.log(clean),
            "edited_logit": np.log(edited),
            "kl_divergence": np.log(clean / edited),
            "clean_prediction": np.where(clean > 0.3, label, 0),
            "edited_prediction": np.where(edited > 0.3, label, 0),
        }
        edits.append(_table(effect_schema(), n, key | edit))
    write_parquet(run_dir / EFFECTS_FILE, pa.concat_tables(edits), made)


def _table(schema: pa.Schema, n: int, columns: Mapping[str, Any]) -> pa.Table:
    """One value stands for all rows; a column that is not given is null."""
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        whole = isinstance(value, list | np.ndarray | pa.Array)
        arrays.append(pa.array(value, field.type) if whole else pa.repeat(pa.scalar(value, field.type), n))
    return pa.Table.from_arrays(arrays, schema=schema)


def measure(n: int, folder: str | None) -> tuple[float, float, float]:
    """Seconds of the clock and of processors, and peak memory in GiB, of the command."""
    with tempfile.TemporaryDirectory(dir=folder) as sweep:
        for scorer in METHODS:
            make(Path(sweep, scorer), scorer, n)
        command = [sys.executable, "-m", "neuron_path", "compare", sweep]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, nargs="+", default=IMAGES, help="how many, one or more numbers")
    parser.add_argument("--folder", help="where to make them; else where temporary files go")
    options = parser.parse_args(arguments)
    measured = {n: measure(n, options.folder) for n in options.images}
    rows = [
        (f"{n:,}", f"{seconds:.0f} s", f"{processor:.0f} s", f"{peak:.1f} GiB")
        for n, (seconds, processor, peak) in measured.items()
    ]
    note = f"{len(METHODS)} methods, {len(OPERATIONS)} operations, {N_CLASSES} classes."
    tables = {"compare": Table(("images", "time", "processor time", "peak memory"), rows, note)}
    if tuple(options.images) == IMAGES:
        record("compare", {"seconds_and_gib": measured}, tables)
    else:
        show(tables)


if __name__ == "__main__":
    main()
