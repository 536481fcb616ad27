"""A process that does a share of each stage for another: `python -m neuron_path.pipeline.launch.worker`.

The first line of its standard input says of which run, as JSON, and each further line names a stage, the last one none;
the input's end before that means that the other process is gone, and ends this one. For each stage a line of its
standard output says what it has done, and the last line why it failed, if it did.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from neuron_path.errors import NeuronPathError
from neuron_path.stopping import INTERRUPTED, RESUMABLE, Terminated, stoppable


def work(order: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Do what is asked for, stage by stage; yields the fields of each `Share`."""
    # Here, because they take seconds, in which a process that nobody needs any more must end too.
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    from neuron_path.config import stored_config
    from neuron_path.pipeline.build import build_shared_trainer, build_work
    from neuron_path.pipeline.launch.runner import Runner
    from neuron_path.pipeline.stages import stage_of

    first = order()
    config, run_dir = stored_config(first["config"]), Path(first["run_dir"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that started this one has built the same and warned
        own = build_work(config, first["baselines"])
    trainer = build_shared_trainer(config.trainer, first["devices"], plugins=[LightningEnvironment()])
    runner = Runner(own, run_dir, trainer)
    while (asked := order())["stage"] is not None:
        if asked["left"] is None:
            share = runner.follow(lambda given, name=asked["stage"]: stage_of(name, own, run_dir, given))
        else:
            [share] = runner.run(stage_of(asked["stage"], own, run_dir, asked["given"]), asked["left"])
        yield asdict(share)


def main() -> int:
    """Read orders, do them, and report, until the input ends."""
    # Both pipes are for the other process alone: whatever else reads finds nothing, and what prints goes to the screen.
    pipe, report = os.dup(sys.stdin.fileno()), os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, lines), daemon=True).start()
    answer, code = _attempt(lambda: json.loads(lines.get()), report)
    _send(report, answer)
    return code


def _attempt(order: Callable[[], dict[str, Any]], report: TextIO) -> tuple[dict[str, Any], int]:
    try:
        with stoppable():
            for share in work(order):
                _send(report, share)
        return {}, 0
    except NeuronPathError as error:
        return {"error": str(error)}, 1
    except KeyboardInterrupt as error:
        return {}, RESUMABLE if isinstance(error, Terminated) else INTERRUPTED
    except Exception:
        return {"traceback": traceback.format_exc()}, 1


def _send(report: TextIO, answer: dict[str, Any]) -> None:
    report.write(f"{json.dumps(answer)}\n")
    report.flush()


def _listen(pipe: int, lines: SimpleQueue[bytes]) -> None:
    """Hand the orders on, and end this process when the one that started it is gone, however it went: nobody would
    merge what it finds."""
    with os.fdopen(pipe, "rb") as orders:
        while (line := orders.readline()).endswith(b"\n"):
            lines.put(line)
    os._exit(RESUMABLE)


if __name__ == "__main__":
    # _exit: threads of libraries that wait for a dead sibling must not keep a finished process.
    code = main()
    sys.stderr.flush()
    os._exit(code)
