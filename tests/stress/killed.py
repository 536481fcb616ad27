"""Searches that are killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.command import start

BATCH = 3
LIMIT = 48
PATIENCE = 600.0  # seconds that nothing may happen in


def kill_at_random(run_dir: Path, n_processes: int, chance: random.Random) -> bool:
    """Start the search, or go on with it, and kill it after some more of its batches; False where it was done before.

    Now and then it is killed while it merges, or before it has begun. Its workers are not: they must see to their own
    end.
    """
    before = _parts(run_dir)
    batches = chance.randrange(LIMIT // BATCH + 1)
    moment = chance.uniform(0, 0.05)
    search = _start(run_dir, n_processes)
    deadline = time.monotonic() + PATIENCE
    while _parts(run_dir) - before < batches and not (run_dir / "paths.parquet").exists():
        if os.waitpid(search, os.WNOHANG)[0]:
            return False
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(search, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(search, 0)[1])


def finish(run_dir: Path, n_processes: int) -> None:
    """Go on until all is done."""
    _, status = os.waitpid(_start(run_dir, n_processes), 0)
    said = run_dir.with_suffix(".err").read_text(encoding="utf-8")
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert "error" not in said  # a kill leaves nothing torn that would have to be set aside
    assert "warning" not in said


def _start(run_dir: Path, n_processes: int) -> int:
    """A search of the digits in small batches; its process id."""
    devices = ["trainer=ddp_cpu", f"trainer.devices={n_processes}"] if n_processes > 1 else ["trainer=cpu"]
    options = [f"data.limit={LIMIT}", f"data.batch_size={BATCH}", "trainer.threads=1", *devices]
    return start(run_dir, "search", f"hydra.run.dir={run_dir}", *options)


def _parts(run_dir: Path) -> int:
    return len(os.listdir(run_dir / "parts")) if (run_dir / "parts").is_dir() else 0
