"""What one process does of a run: its share of one stage after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from neuron_path import stopping
from neuron_path.lightning.callbacks import EndBetweenBatches, ImageProgress, ResultWriter, StreamMetrics
from neuron_path.lightning.remaining import RemainingImages
from neuron_path.lightning.stage import Stage, StageModule
from neuron_path.pipeline.build import device_name, predict
from neuron_path.pipeline.launch.threads import use_threads
from neuron_path.pipeline.work import Work


@dataclass(frozen=True)
class Share:
    """What a process has done of a stage.

    Attributes:
        seconds: from the start of the first batch to the last one's rows on the disk, of all processes that were waited
            for.
        device, threads, precision: how.
    """

    seconds: float
    device: str
    threads: int
    precision: str


class Runner:
    """Does this process's share of the stages, storing rows as batches finish; one Trainer does them all.

    Args:
        work: model, data and methods.
        run_dir: where the rows go.
        trainer: this process's.
        log: takes numbers for a tracker.
        count: of processes.
        wait: whether a share ends when all processes have done theirs, rather than this one.

    Attributes:
        device: where this process computes.
    """

    def __init__(
        self,
        work: Work,
        run_dir: Path,
        trainer: lightning.Trainer,
        log: Callable[[Mapping[str, float]], None] | None = None,
        *,
        count: int = 1,
        wait: bool = False,
    ) -> None:
        self._work, self._wait, self.count = work, wait, count
        self._writer = ResultWriter(run_dir)
        self._images = RemainingImages(work.study.data)
        progress = ImageProgress(lambda: len(self._images.left))
        stream = [] if log is None else [StreamMetrics(log)]
        self._trainer = trainer
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        callbacks.extend([self._writer, progress, *stream, EndBetweenBatches()])
        self.device = self._trainer.strategy.root_device
        self._threads = use_threads(work.threads, self._trainer.num_devices)
        if self._trainer.num_devices > 1:
            os.environ.setdefault("OMP_NUM_THREADS", str(self._threads))  # else Lightning chooses again

    def run(self, stage: Stage, left: Sequence[int]) -> list[Share]:
        """Do a stage's work, as the first process.

        Args:
            stage: what is done.
            left: the places of the images that are left, of all processes together.

        Raises:
            NeuronPathError: an image that cannot be read (unless skipped), or a disk that takes no more.
            Terminated: the program was asked to end; every finished batch is stored.
        """
        if not left and not self._wait:
            return []
        self._images.deal(left, stage.given)
        return [self._share(lambda: stage)]

    def follow(self, stage_of: Callable[[Mapping[str, Any]], Stage]) -> Share:
        """The same as one of the others, which are given everything by the first process when it is there.

        Args:
            stage_of: makes the stage of what is given.
        """
        return self._share(lambda: stage_of(self._images.given))

    def _share(self, build: Callable[[], Stage]) -> Share:
        module = StageModule(self._work.study.session.model, build)
        with stopping.between_batches():
            device = predict(self._trainer, module, self._images)
            if self._wait:
                self._images.wait_for_all()
                self._writer.stop_clock()
        precision = self._work.finder.arithmetic_on(device).precision
        return Share(self._writer.seconds, device_name(device), self._threads, precision)
