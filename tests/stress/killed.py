"""Runs that are killed at random moments of a stage."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from neuron_path.store.evidence import EVIDENCE_FILE
from neuron_path.store.layout import EFFECTS_FILE, EVALUATION, EVIDENCE, PATHS_FILE, SEARCH
from tests.command import start

BATCH = 3
LIMIT = 48
PATIENCE = 600.0  # seconds that nothing may happen in
TABLES = {SEARCH: PATHS_FILE, EVIDENCE: EVIDENCE_FILE, EVALUATION: EFFECTS_FILE}
"""What each stage leaves last, in their order."""


@dataclass(frozen=True)
class Command:
    """A command with the digits in small batches.

    Attributes:
        name: of the command.
        options: its own.
        limit: digits.
    """

    name: str
    options: tuple[str, ...] = ()
    limit: int = LIMIT


def kill_at_random(run_dir: Path, command: Command, n_processes: int, chance: random.Random, stage: str) -> bool:
    """Start a command, or go on with it, and kill it after some more batches of a stage; False where it had ended.

    Now and then it is killed while it merges, or before the stage has begun. Its workers are not: they must see to
    their own end.
    """
    before = _parts(run_dir, stage)
    batches = chance.randrange(command.limit // BATCH + 1)
    moment = chance.uniform(0, 0.05)
    search = _start(run_dir, command, n_processes)
    deadline = time.monotonic() + PATIENCE
    while _parts(run_dir, stage) - before < batches and not (run_dir / TABLES[stage]).exists():
        if os.waitpid(search, os.WNOHANG)[0]:
            return False
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(search, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(search, 0)[1])


def finish(run_dir: Path, command: Command, n_processes: int) -> None:
    """Go on until all is done."""
    _, status = os.waitpid(_start(run_dir, command, n_processes), 0)
    said = run_dir.with_suffix(".err").read_text(encoding="utf-8")
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert "error" not in said  # a kill leaves nothing torn that would have to be set aside
    assert "warning" not in said


def _start(run_dir: Path, command: Command, n_processes: int) -> int:
    """The command on the digits in small batches; its process id."""
    devices = ["trainer=ddp_cpu", f"trainer.devices={n_processes}"] if n_processes > 1 else ["trainer=cpu"]
    options = [f"data.limit={command.limit}", f"data.batch_size={BATCH}", "trainer.threads=1", *devices]
    return start(run_dir, command.name, f"hydra.run.dir={run_dir}", *options, *command.options)


def _parts(run_dir: Path, stage: str) -> int:
    """How many parts of a stage there are."""
    parts = run_dir / "parts"
    return sum(name.startswith(f"{stage}-") for name in os.listdir(parts)) if parts.is_dir() else 0
