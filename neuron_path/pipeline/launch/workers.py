"""Start the processes of one machine that share the stages of a run, watch over them, and end all when one fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

import torch

from neuron_path.errors import NeuronPathError
from neuron_path.lightning.stage import Stage
from neuron_path.pipeline.launch.runner import Runner, Share
from neuron_path.stopping import INTERRUPTED, RESUMABLE, Terminated, between_batches

GRACE = 10.0  # seconds that the others have to finish their batch when one has failed
_PAUSE = 0.05
_WORKER = ("-m", "neuron_path.pipeline.launch.worker")
_OF_OTHER_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "GROUP_", "ROLE_")


class Workers:
    """Processes of this machine that share the stages of a run, started when there is something to do.

    A worker that fails ends the others, which finish the batch in flight first; its cause is what is raised. A worker
    never outlives this process, nor the `with` block. A request to end is handed on.

    Args:
        orders: of which run, as `neuron_path.pipeline.launch.worker` takes it, by rank.
        device: of what this process itself computes between the stages.
        inherited: a descriptor that the workers keep open, as that of a lock.
    """

    def __init__(self, orders: Sequence[Mapping[str, Any]], device: torch.device, inherited: int | None = None) -> None:
        self._orders, self.device, self._inherited = orders, device, inherited
        self._workers: list[subprocess.Popen[bytes]] = []
        self._read = [0 for _ in orders]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._orders)

    def __enter__(self) -> Workers:
        with ExitStack() as files:
            # Not pipes, which hold no more than 64 KiB until somebody reads.
            self._written = [files.enter_context(TemporaryFile()) for _ in self._orders]
            self._files = files.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self._workers if kind is None else ():  # so that they end the processes that decode for them
            _say(worker, {"stage": None})
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(GRACE if kind is None else 0)
            worker.kill()  # does nothing to those that have ended
            worker.wait()
            with suppress(BrokenPipeError):
                _stdin(worker).close()
        self._files.close()

    def run(self, stage: Stage, left: Sequence[int]) -> list[Share]:
        """Do a stage's work, and wait for all.

        Args:
            stage: what is done.
            left: the places of the images that are left.

        Raises:
            NeuronPathError: what a worker raised, or that it was killed.
            Terminated: the workers were asked to end, and have stored what they had finished.
            RuntimeError: a mistake of the program in a worker, with its traceback.
        """
        return self.order({"stage": stage.name, "left": [*left], "given": stage.given}) if left else []

    def order(self, asked: Mapping[str, Any]) -> list[Share]:
        """The same of what is asked; all but its name is told to the first one only, who hands it on."""
        if not self._workers:
            port = _free_port()
            for rank, file in enumerate(self._written):
                self._workers.append(_start(rank, self.count, port, file, self._inherited))
            for worker, order in zip(self._workers, self._orders, strict=True):
                _say(worker, order)
        with between_batches(lambda: _signal(self._workers, signal.SIGTERM)):
            for rank, worker in enumerate(self._workers):
                _say(worker, asked if rank == 0 else {"stage": asked["stage"], "left": None})
            reports, failed = self._watch()
            if failed:
                _raise_cause([(rank, self._workers[rank].returncode, reports[rank]) for rank in failed], self.count)
            return [Share(**report) for report in reports]

    def _watch(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Wait for a share of each; what each has said, and the ranks that failed first, in whose wake the others were
        ended."""
        said: list[dict[str, Any]] = [{} for _ in self._workers]
        failed: list[int] = []
        while not failed and not all("seconds" in line for line in said):
            time.sleep(_PAUSE)
            failed = [rank for rank, worker in enumerate(self._workers) if worker.poll() is not None]
            said = [self._next(rank) or line for rank, line in enumerate(said)]
        if failed:
            _end(self._workers, [self._workers[rank].returncode for rank in failed])
        return said, failed

    def _next(self, rank: int) -> dict[str, Any] | None:
        """The next line that a worker has written, once it is whole."""
        descriptor = self._written[rank].fileno()  # at an offset of our own: the worker writes at the file's
        line, end, _ = os.pread(descriptor, os.fstat(descriptor).st_size, self._read[rank]).partition(b"\n")
        if not end:
            return None
        self._read[rank] += len(line) + 1
        return json.loads(line)


Crew = Runner | Workers
"""Who does the stages of a run."""


def _start(rank: int, n: int, port: int, report: IO[bytes], inherited: int | None) -> subprocess.Popen[bytes]:
    """A worker whom Lightning takes for one that was started from outside; these variables are its interface."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHER_LAUNCHERS)}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n)}
    environment |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank), "RANK": str(rank)}
    # The same modules as here, and none that happens to lie in the current directory.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-P", *_WORKER],
        stdin=subprocess.PIPE,
        stdout=report,
        env=environment,
        pass_fds=() if inherited is None else (inherited,),
    )


def _end(workers: Sequence[subprocess.Popen[bytes]], codes: Sequence[int]) -> None:
    """End all when some have ended with these codes."""
    _signal(workers, signal.SIGTERM)
    # Where all were asked to end they take the time that their batch takes; where one has failed, a little.
    patience = float("inf") if all(code == RESUMABLE for code in codes) else GRACE
    deadline = time.monotonic() + patience
    while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    for worker in workers:
        worker.kill()  # does nothing to those that have ended
        worker.wait()


def _raise_cause(failed: Sequence[tuple[int, int, dict[str, Any]]], n: int) -> NoReturn:
    """Of those that failed at the same moment one is the cause: who lost a sibling only says that it is gone."""
    for rank, code, _ in failed:
        if code < 0:
            raise NeuronPathError(
                f"Process {rank + 1} of {n} was killed by {signal.Signals(-code).name}, as by a system short of "
                "memory: what was finished is kept, and the same command with the same hydra.run.dir continues."
            )
    for _, _, report in failed:
        if "error" in report:
            raise NeuronPathError(report["error"])
    for rank, _, report in failed:
        if "traceback" in report:
            raise RuntimeError(f"Process {rank + 1} of {n} failed:\n{report['traceback']}")
    if all(code == RESUMABLE for _, code, _ in failed):
        raise Terminated
    if any(code == INTERRUPTED for _, code, _ in failed):
        raise KeyboardInterrupt
    raise NeuronPathError(f"Process {failed[0][0] + 1} of {n} ended without a word, with code {failed[0][1]}.")


def _say(worker: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # it is dead already, and the watch tells why
        _stdin(worker).write(json.dumps(order).encode() + b"\n")
        _stdin(worker).flush()


def _signal(workers: Sequence[subprocess.Popen[bytes]], signum: int) -> None:
    for worker in workers:
        worker.send_signal(signum)  # does nothing to those that have ended


def _stdin(worker: subprocess.Popen[bytes]) -> IO[bytes]:
    assert worker.stdin is not None
    return worker.stdin


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
