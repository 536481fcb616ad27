"""Start the processes of one machine that share a search, watch over them, and end all when one fails."""

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

from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.launch.share import Share
from neuron_path.stopping import INTERRUPTED, RESUMABLE, Terminated, between_batches

GRACE = 10.0  # seconds that the others have to finish their batch when one has failed
_PAUSE = 0.05
_WORKER = ("-m", "neuron_path.pipeline.launch.worker")
_OF_OTHER_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "GROUP_", "ROLE_")


def search_in_workers(orders: Sequence[Mapping[str, Any]], inherited: int | None = None) -> list[Share]:
    """Let one process do each order, and wait for all.

    A worker that fails ends the others, which finish the batch in flight first; its cause is what is raised. A worker
    never outlives this process. A request to end is handed on.

    Args:
        orders: what `neuron_path.pipeline.launch.worker` does, by rank.
        inherited: a descriptor that the workers keep open, as that of a lock.

    Raises:
        NeuronPathError: what a worker raised, or that it was killed.
        Terminated: the workers were asked to end, and have stored what they had finished.
        RuntimeError: a mistake of the program in a worker, with its traceback.
    """
    port = _free_port()
    workers: list[subprocess.Popen[bytes]] = []
    with ExitStack() as files:
        # Not pipes, which hold no more than 64 KiB until somebody reads.
        written = [files.enter_context(TemporaryFile()) for _ in orders]
        try:
            for rank, file in enumerate(written):
                workers.append(_start(rank, len(orders), port, file, inherited))
            with between_batches(lambda: _signal(workers, signal.SIGTERM)):
                for worker, order in zip(workers, orders, strict=True):
                    with suppress(BrokenPipeError):  # it is dead already, and the watch tells why
                        _stdin(worker).write(json.dumps(order).encode() + b"\n")
                        _stdin(worker).flush()
                failed = _watch(workers)
                reports = [_report(file) for file in written]
                if failed:
                    _raise_cause([(rank, workers[rank].returncode, reports[rank]) for rank in failed], len(workers))
                return [Share(**report) for report in reports]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
                with suppress(BrokenPipeError):
                    _stdin(worker).close()


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


def _watch(workers: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until all have ended; the ranks that failed first, in whose wake the others were ended."""
    failed: list[int] = []
    while not failed and any(worker.poll() is None for worker in workers):
        time.sleep(_PAUSE)
        failed = [rank for rank, worker in enumerate(workers) if worker.poll()]
    if failed:
        _signal(workers, signal.SIGTERM)
        # Where all were asked to end they take the time that their batch takes; where one has failed, a little.
        patience = float("inf") if all(workers[rank].returncode == RESUMABLE for rank in failed) else GRACE
        deadline = time.monotonic() + patience
        while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        for worker in workers:
            worker.kill()  # does nothing to those that have ended
            worker.wait()
    return failed


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


def _report(written: IO[bytes]) -> dict[str, Any]:
    written.seek(0)
    with suppress(ValueError):
        report = json.loads(written.read())
        return report if isinstance(report, dict) else {}
    return {}


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
