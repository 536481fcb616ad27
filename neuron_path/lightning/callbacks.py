"""Callbacks: results to the store as batches finish, progress to the screen, figures of speed to the tracker."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import lightning
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from rich.progress import Progress, TaskID
from torch import Tensor
from torchmetrics import MeanMetric

from neuron_path import stopping
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.evaluation import MethodEvaluation
from neuron_path.lightning.module import MethodPaths, PathSearchModule
from neuron_path.progress import progress_bar
from neuron_path.store.schema import build_table
from neuron_path.store.writer import PathWriter

N_RECENT = 10  # batches of the recent speed
LONGEST_WAIT = 20.0  # seconds of work that a crash may cost, beside the images in flight


class ResultWriter(BasePredictionWriter):
    """Appends paths to the store as soon as they are found, images whole: the paths of all methods or none.

    A part is written when a batch ends, and within a batch that takes longer about every twenty seconds; then the
    program may also be ended.

    Args:
        writer: this process's writer.

    Attributes:
        seconds: from the first batch's start to the last one's rows on the disk.
    """

    def __init__(self, writer: PathWriter) -> None:
        super().__init__(write_interval="batch")
        self.writer = writer
        self.seconds = 0.0
        self._begin: float | None = None
        self._waiting: list[pa.Table] = []
        self._written = 0.0

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and ask the module for what it finds."""
        self._begin = self._written = perf_counter()
        if isinstance(pl_module, PathSearchModule):
            pl_module.observers.append(self.keep)

    def keep(self, batch: Batch, found: Sequence[MethodPaths]) -> None:
        """Take the rows of some images by all methods."""
        schema = self.writer.schema
        self._waiting.append(pa.concat_tables(build_table(schema, columns(batch, one)) for one in found))
        if stopping.is_requested() or perf_counter() - self._written > LONGEST_WAIT:
            self._write()
            stopping.check()

    def _write(self) -> None:
        if self._waiting:
            self.writer.append(pa.concat_tables(self._waiting))
        self._waiting = []
        self._written = perf_counter()

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Sequence[MethodPaths],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """The rows that wait, and the names of images that could not be read."""
        self.writer.skip(batch.problems)
        self._write()
        self.stop_clock()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
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

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the signal back from Lightning, whose handler would wait for the other processes."""
        stopping.take_over()

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Raise `Terminated` when asked to end."""
        stopping.check()


def columns(batch: Batch, found: MethodPaths) -> dict[str, Any]:
    """The store's columns for one method's paths of a batch."""
    result, n = found.result, len(batch)

    def floats(values: Tensor | None) -> Any:
        return [None] * n if values is None else values.double().numpy()

    return {
        "sample_id": batch.sample_ids,
        "label": batch.labels,
        "target": result.targets.numpy(),
        "prediction": result.predictions.numpy(),
        "target_probability": floats(result.target_probabilities),
        "scorer": [found.scorer] * n,
        "search": [found.search] * n,
        "measure": [result.measure] * n,
        "top_k": [found.top_k] * n,
        "path": result.paths.numpy(),
        "score": floats(result.scores),
        "score_error": floats(result.score_errors),
        "n_steps": result.n_steps.numpy(),
        "objective": floats(result.objectives),
        "passes": floats(result.passes),
        "margins": floats(result.margins),
        "convergence_delta": floats(result.convergence_deltas),
        "complete": floats(result.complete_scores),
        "rounding": floats(result.rounding),
    }


class EvaluationCollector(BasePredictionWriter):
    """Keeps what is measured of every batch: a few numbers per image, written at once when all are there.

    Attributes:
        batches: what is measured of each, method by method.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.batches: list[Sequence[MethodEvaluation]] = []

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Sequence[MethodEvaluation],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Take the batch's share."""
        if prediction:
            self.batches.append(prediction)


class ImageProgress(Callback):
    """A bar of images done, images per second and time left."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._is_told = False  # of each chunk of images, within the batch

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar, in the first process only."""
        self._bar = progress_bar(disable=not trainer.is_global_zero)
        self._bar.start()
        self._task = self._bar.add_task(self.description, total=self.total)
        self._is_told = isinstance(pl_module, PathSearchModule)
        if isinstance(pl_module, PathSearchModule):
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
        """Move on by the batch's images, decoded or not."""
        self._advance(trainer, len(batch.problems) + (0 if self._is_told else len(batch)))

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
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
    `score/METHOD` (the batch's mean).

    Args:
        log: takes a mapping of names to numbers.
        read: from a batch's outputs to its (B,) values by name.
        stage: what the names begin with, as in "effects/images"; nothing where there is one stage.
    """

    def __init__(
        self,
        log: Callable[[Mapping[str, float]], None],
        read: Callable[[Any], Mapping[str, Tensor]] | None = None,
        stage: str = "",
    ) -> None:
        self.send, self.read, self.stage = log, read or scores_of, stage
        self._means: defaultdict[str, MeanMetric] = defaultdict(_running_mean)
        self._n_images = self._n_skipped = 0
        self._times: deque[tuple[float, int]] = deque(maxlen=N_RECENT)
        self._begin = 0.0

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._begin = perf_counter()
        self._times.append((self._begin, 0))

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
        if not trainer.is_global_zero:
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
        for name, rows in self.read(outputs or ()).items():
            self._means[name].update(rows)
            values |= {name: rows.double().mean().item(), f"mean_{name}": self._means[name].compute().item()}
        self.send({self.stage + name: value for name, value in values.items()})


def scores_of(outputs: Sequence[MethodPaths]) -> dict[str, Tensor]:
    """The scores of a batch's paths, by method."""
    return {f"score/{found.scorer}": found.result.scores for found in outputs}


def complete_scores_of(outputs: Sequence[MethodEvaluation]) -> dict[str, Tensor]:
    """The complete scores of a batch's paths, by method."""
    return {f"complete/{part.method.scorer}": torch.tensor(part.scores["complete"]) for part in outputs}


def _running_mean() -> MeanMetric:
    # Not synchronised: the processes' batches do not come at the same time, nor in the same number.
    mean = MeanMetric(nan_strategy="disable", sync_on_compute=False)
    mean.set_dtype(torch.float64)
    return mean
