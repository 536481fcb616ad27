"""Callbacks: results to the store as batches finish, progress to the screen, figures of speed to the tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from rich.progress import Progress, TaskID

from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.module import Effect, MethodPaths
from neuron_path.progress import progress_bar
from neuron_path.store.schema import build_table
from neuron_path.store.writer import PathWriter


class ResultWriter(BasePredictionWriter):
    """Appends the paths of every batch to the store as soon as it is done.

    Args:
        writer: this process's writer.

    Attributes:
        problems: (name, reason) of the images that could not be decoded.
    """

    def __init__(self, writer: PathWriter) -> None:
        super().__init__(write_interval="batch")
        self.writer = writer
        self.problems: list[tuple[str, str]] = []

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
        """One table for each method."""
        self.problems += batch.problems
        for found in prediction:
            self.writer.append(build_table(self.writer.schema, columns(batch, found)))


def columns(batch: Batch, found: MethodPaths) -> dict[str, Any]:
    """The store's columns for one method's paths of a batch."""
    result, n = found.result, len(batch)
    return {
        "sample_id": batch.sample_ids,
        "label": batch.labels,
        "target": result.targets.numpy(),
        "prediction": result.predictions.numpy(),
        "target_probability": result.target_probabilities.double().numpy(),
        "scorer": [found.scorer] * n,
        "search": [found.search] * n,
        "measure": ["joint"] * n,
        "top_k": [found.top_k] * n,
        "path": result.paths.numpy(),
        "score": result.scores.double().numpy(),
        "margins": result.margins.double().numpy(),
        "convergence_delta": [None] * n,
    }


class EffectCollector(BasePredictionWriter):
    """Keeps the effects of every batch: a few numbers per image, written at once when all are there.

    Attributes:
        effects: in the order of the batches.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.effects: list[Effect] = []

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Sequence[Effect],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Take the batch's effects."""
        self.effects += prediction


class ImageProgress(Callback):
    """A bar of images done, images per second and time left."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar, in the first process only."""
        self._bar = progress_bar(disable=not trainer.is_global_zero)
        self._bar.start()
        self._task = self._bar.add_task(self.description, total=self.total)

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
        if self._bar is not None:
            self._bar.advance(self._task, (len(batch) + len(batch.problems)) * trainer.world_size)

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the screen back, so that the error stands on a line of its own."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class StreamMetrics(Callback):
    """Sends each batch's mean score per method to a tracker.

    Args:
        log: takes a mapping of names to numbers.
    """

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        self.send = log
        self._n_images = 0

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Images so far, and the batch's means."""
        self._n_images += len(batch)
        means = {f"score/{found.scorer}": found.result.scores.mean().item() for found in outputs or ()}
        self.send({"images": float(self._n_images), **means})
