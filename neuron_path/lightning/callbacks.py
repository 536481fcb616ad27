"""Callbacks: results to the store as batches finish, progress to the screen, figures of speed to the tracker."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from rich.progress import Progress, TaskID
from torchmetrics import MeanMetric

from neuron_path import stopping
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.stage import Stage, StageModule
from neuron_path.progress import progress_bar
from neuron_path.store.writer import PartWriter

N_RECENT = 10  # batches of the recent speed
LONGEST_WAIT = 20.0  # seconds of work that a crash may cost, beside the images in flight


class ResultWriter(BasePredictionWriter):
    """Appends rows to the store as soon as they are there, images whole: all rows of an image or none.

    A part is written when a batch ends, and within a batch that takes longer about every twenty seconds; then the
    program may also be ended.

    Args:
        run_dir: where the parts go.

    Attributes:
        seconds: of the stage, from its first batch's start to the last one's rows on the disk.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(write_interval="batch")
        self.run_dir = run_dir
        self.seconds = 0.0
        self._writer: PartWriter | None = None
        self._begin: float | None = None
        self._waiting: list[pa.Table] = []
        self._written = 0.0

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and ask the module for what it finds."""
        assert isinstance(pl_module, StageModule)
        stage, rank = pl_module.stage, trainer.global_rank
        self._writer = PartWriter(self.run_dir, stage.schema, stage.given["provenance"], rank, stage=stage.name)
        self._waiting, self.seconds = [], 0.0
        self._begin = self._written = perf_counter()
        pl_module.observers.append(self.keep)

    def keep(self, batch: Batch, rows: pa.Table) -> None:
        """Take all rows of some images."""
        self._waiting.append(rows)
        if stopping.is_requested() or perf_counter() - self._written > LONGEST_WAIT:
            self._write()
            stopping.check()

    def _write(self) -> None:
        if self._waiting and self._writer is not None:
            self._writer.append(pa.concat_tables(self._waiting))
        self._waiting = []
        self._written = perf_counter()

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Sequence[pa.Table],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """The rows that wait, and the names of images that could not be read."""
        if self._writer is not None:
            self._writer.skip(batch.problems)
        self._write()
        self.stop_clock()

    def on_exception(self, *_: Any, **__: Any) -> None:
        """Keep what was found before it."""
        with suppress(NeuronPathError):  # the disk may be what failed
            self._write()

    def stop_clock(self) -> None:
        """Take the time until now, where there was a batch."""
        if self._begin is not None:
            self.seconds = perf_counter() - self._begin


class EndBetweenBatches(Callback):
    """Ends the work, after the batch in flight at the latest, when asked to; see `neuron_path.stopping`.

    Put it behind the callbacks that keep a batch's results.
    """

    def on_predict_start(self, *_: Any, **__: Any) -> None:
        """Take the signal back from Lightning, whose handler would wait for the other processes."""
        stopping.take_over()

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        """Raise `Terminated` when asked to end."""
        stopping.check()


class ImageProgress(Callback):
    """A bar for each stage: images done, images per second and time left.

    Args:
        total: how many images the stage has that begins, of all processes.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar, in the first process only."""
        self._bar = progress_bar(disable=not trainer.is_global_zero)
        self._bar.start()
        assert isinstance(pl_module, StageModule)
        self._task = self._bar.add_task(pl_module.stage.title, total=self._total())
        pl_module.observers.append(lambda batch, _: self._advance(trainer, len(batch)))

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move on by the batch's images that could not be decoded."""
        self._advance(trainer, len(batch.problems))

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, *_: Any, **__: Any) -> None:
        """Give the screen back, so that the error stands on a line of its own."""
        self._stop()

    def _advance(self, trainer: lightning.Trainer, n_images: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, n_images * trainer.world_size)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class StreamMetrics(Callback):
    """Sends images done, speed and means to a tracker after every batch, in the first process only.

    The names are those of `metrics.json` where they mean the same: `images`, `skipped_images`, `images_per_second`,
    `mean_score/METHOD` (over all images so far); beside them `images_per_second_recent` (over the last batches) and
    `score/METHOD` (the batch's mean). They begin with the stage's prefix, and the score is the column that it watches.

    Args:
        log: takes a mapping of names to numbers.
    """

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        self.send = log
        self._stage: Stage | None = None
        self._means: defaultdict[str, MeanMetric] = defaultdict(_running_mean)
        self._n_images = self._n_skipped = 0
        self._times: deque[tuple[float, int]] = deque(maxlen=N_RECENT)
        self._begin = 0.0

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and count from nothing."""
        assert isinstance(pl_module, StageModule)
        self._stage = pl_module.stage
        self._means.clear()
        self._n_images = self._n_skipped = 0
        self._begin = perf_counter()
        self._times = deque([(self._begin, 0)], maxlen=N_RECENT)

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Images so far, their speed, and means of the batch and of all before."""
        stage = self._stage
        if not trainer.is_global_zero or stage is None or stage.prefix is None:
            return
        self._n_images += len(batch) * trainer.world_size
        self._n_skipped += len(batch.problems) * trainer.world_size
        now, (since, before) = perf_counter(), self._times[0]
        self._times.append((now, self._n_images))
        values = {
            "images": float(self._n_images),
            "skipped_images": float(self._n_skipped),
            "images_per_second": self._n_images / (now - self._begin),
            "images_per_second_recent": (self._n_images - before) / (now - since),
        }
        for name, rows in _watched(stage.watched, outputs or ()).items():
            self._means[name].update(rows)
            values |= {name: rows.mean().item(), f"mean_{name}": self._means[name].compute().item()}
        self.send({stage.prefix + name: value for name, value in values.items()})


def _watched(column: str | None, tables: Sequence[pa.Table]) -> dict[str, torch.Tensor]:
    """The values of a column of a batch's rows, by method."""
    if column is None or not tables:
        return {}
    rows = pa.concat_tables(tables).select(["scorer", column]).to_pandas()
    return {
        f"{column}/{scorer}": torch.from_numpy(own.to_numpy(copy=True))
        for scorer, own in rows.groupby("scorer", sort=False)[column]
    }


def _running_mean() -> MeanMetric:
    # Not synchronised: the processes' batches do not come at the same time, nor in the same number.
    mean = MeanMetric(nan_strategy="disable", sync_on_compute=False)
    mean.set_dtype(torch.float64)
    return mean
