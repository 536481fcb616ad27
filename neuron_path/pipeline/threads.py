"""How many CPU threads a run uses: for small models, or on a busy machine, one is often faster than all."""

from __future__ import annotations

import time

import torch

from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import NamedDataset
from neuron_path.models.budget import default_micro_batch
from neuron_path.models.session import Session

_ROUNDS = 4


def use_threads(wanted: int | None, session: Session, dataset: NamedDataset, n_processes: int = 1) -> int:
    """Set torch's number of threads and return it; None tries one against all on a few forward passes.

    Of `n_processes` on one machine, each counts its share as all.

    Threads that wait for each other cost most where a pass is short or another program holds a core. The choice moves
    no result beyond rounding.

    Raises:
        NeuronPathError: fewer than one.
    """
    if wanted is not None and wanted < 1:
        raise NeuronPathError(f"trainer.threads is {wanted}; expected at least 1, or null to try which is faster.")
    if wanted is None:
        wanted = _faster(session, dataset, max(1, torch.get_num_threads() // n_processes))
    torch.set_num_threads(wanted)
    return wanted


def _faster(session: Session, dataset: NamedDataset, everything: int) -> int:
    image = dataset[0]["image"]
    if session.device.type != "cpu" or everything == 1 or image is None:
        return everything
    seconds = dict.fromkeys((1, everything), 0.0)
    with session.active():
        embedded = session.adapter.embed(session.images(image.unsqueeze(0)))
        sequences = embedded.repeat(default_micro_batch(embedded), 1, 1)
        for _ in range(_ROUNDS):
            for threads in seconds:
                torch.set_num_threads(threads)
                begin = time.perf_counter()
                h = sequences
                for index in range(min(4, len(session.adapter.blocks))):
                    h = session.adapter.run(index, h)
                seconds[threads] += time.perf_counter() - begin
    return min(seconds, key=lambda threads: seconds[threads])
