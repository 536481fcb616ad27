"""One process's share of a search: from the images that are left to their rows in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning
from lightning.pytorch.callbacks import Callback

from neuron_path import stopping
from neuron_path.config import Config
from neuron_path.lightning.callbacks import EndBetweenBatches, ImageProgress, ResultWriter
from neuron_path.lightning.module import PathSearchModule
from neuron_path.lightning.remaining import RemainingImages
from neuron_path.pipeline.build import Study, device_name, predict
from neuron_path.pipeline.launch.threads import use_threads
from neuron_path.search.finder import PathFinder
from neuron_path.store.writer import PathWriter

# From callbacks to a Trainer.
TrainerOf = Callable[[Sequence[Callback]], lightning.Trainer]


@dataclass(frozen=True)
class Share:
    """What a process has done.

    Attributes:
        seconds: from the start of the first batch to the last one's rows on the disk, of all processes that were waited
            for.
        device, threads, precision: how.
    """

    seconds: float
    device: str
    threads: int
    precision: str


def search_share(
    config: Config,
    study: Study,
    finders: Sequence[PathFinder],
    writer_of: Callable[[int], PathWriter],
    trainer_of: TrainerOf,
    left: Sequence[int] | None,
    more: Sequence[Callback] = (),
    *,
    wait: bool = False,
) -> Share:
    """Find the paths of this process's images with all methods, storing them as batches finish.

    Args:
        config, study, finders: the search.
        writer_of: from the process's rank to its writer.
        trainer_of: makes the Trainer.
        left: places of the images that are left, of all processes together; None where another process knows.
        more: further callbacks.
        wait: whether to return when all processes have done their shares, rather than this one.

    Raises:
        NeuronPathError: an image that cannot be read (unless skipped), or a disk that takes no more.
        Terminated: the program was asked to end; every finished batch is stored.
    """
    n_processes = trainer_of(()).num_devices
    threads = use_threads(config.trainer.threads, n_processes)
    if n_processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else Lightning chooses again
    writer = ResultWriter(writer_of(trainer_of(()).global_rank))
    progress = ImageProgress("Neuron paths", len(left or ()))
    trainer = trainer_of([writer, progress, *more, EndBetweenBatches()])
    module = PathSearchModule(finders, study.targets, config.data.on_error, config.data.max_skipped)
    images = RemainingImages(study.data, left)
    with stopping.between_batches():
        device = predict(trainer, module, images)
        if wait:
            images.wait_for_all()
            writer.stop_clock()
    precision = finders[0].arithmetic_on(device).precision
    return Share(writer.seconds, device_name(device), threads, precision)
