"""A process that searches a share of the images for another: `python -m neuron_path.pipeline.launch.worker`.

The first line of its standard input says what to do, as JSON; the input's end means that the other process is gone, and
ends this one. What it has done, or why it failed, is the one line of its standard output.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuron_path.errors import NeuronPathError
from neuron_path.stopping import INTERRUPTED, RESUMABLE, Terminated, stoppable


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked for; returns the fields of a `Share`."""
    # Here, because they take seconds, in which a process that nobody needs any more must end too.
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    from neuron_path.config import stored_config
    from neuron_path.pipeline.build import build_finders, build_shared_trainer, build_study
    from neuron_path.pipeline.launch.share import search_share
    from neuron_path.pipeline.lending import DataLender
    from neuron_path.store.schema import path_schema
    from neuron_path.store.writer import PathWriter

    config = stored_config(order["config"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that started this one has built the same and warned
        study = build_study(config)
        finders = build_finders(config, study.session, order["baselines"], DataLender(config, study))
    share = search_share(
        config,
        study,
        finders,
        lambda rank: PathWriter(Path(order["run_dir"]), path_schema(config.top_k), order["provenance"], rank),
        lambda callbacks: build_shared_trainer(config, callbacks, order["devices"], plugins=[LightningEnvironment()]),
        order["left"],
    )
    return asdict(share)


def main() -> int:
    """Read the order, do it, and report."""
    # Both pipes are for the other process alone: whatever else reads finds nothing, and what prints goes to the screen.
    pipe, report = os.dup(sys.stdin.fileno()), os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    line = os.fdopen(pipe, "rb", closefd=False).readline()
    if not line.endswith(b"\n"):
        return RESUMABLE  # the other process is gone already
    order = json.loads(line)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    told, code = _attempt(order)
    report.write(json.dumps(told))
    report.close()
    return code


def _attempt(order: dict[str, Any]) -> tuple[dict[str, Any], int]:
    try:
        with stoppable():
            return work(order), 0
    except NeuronPathError as error:
        return {"error": str(error)}, 1
    except KeyboardInterrupt as error:
        return {}, RESUMABLE if isinstance(error, Terminated) else INTERRUPTED
    except Exception:
        return {"traceback": traceback.format_exc()}, 1


def _end_with(pipe: int) -> None:
    """End this process when the one that started it is gone, however it went: nobody would merge what it finds."""
    while os.read(pipe, 1):
        pass
    os._exit(RESUMABLE)


if __name__ == "__main__":
    # _exit: threads of libraries that wait for a dead sibling must not keep a finished process.
    code = main()
    sys.stderr.flush()
    os._exit(code)
