"""A stage of a run, and the LightningModule that drives any of them: a batch in, its rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import lightning
import pyarrow as pa
from torch import nn

from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch

# Is told the rows of some images of a batch as soon as they are there.
Observer = Callable[[Batch, pa.Table], None]


class Stage(ABC):
    """What is computed of each image. Which images, by which processes, onto which disk: all that is the runner's.

    Attributes:
        name: how its parts are called; see `neuron_path.store.layout`.
        title: of its progress bar.
        watched: the column whose means by scorer are sent to the tracker.
        prefix: what the tracker's names begin with; None sends nothing.
        schema: the columns of its rows, with a `sample_id`.
        given: what makes the same stage in another process, ready for JSON; its `provenance` is kept with the rows.
        on_error: "raise" or "skip" images that could not be decoded.
        max_skipped: so many may be skipped by a process; None for any number.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    watched: ClassVar[str | None] = None
    prefix: ClassVar[str | None] = None
    schema: pa.Schema
    given: Mapping[str, Any]
    on_error: str = "raise"
    max_skipped: int | None = None

    @abstractmethod
    def rows(self, batch: Batch) -> Iterator[tuple[Batch, pa.Table]]:
        """All rows of a few of the batch's images, and these images, until all of them had their turn."""


class StageModule(lightning.LightningModule):
    """`predict_step` does a stage's work on a batch.

    Use it with `Trainer(inference_mode=False)`: searches need gradients, and so does what is doubtful in float32.

    Args:
        model: under study; it is moved to the Trainer's device.
        build: makes the stage of each prediction, when the data is dealt out.

    Attributes:
        observers: called with some images of a batch and their rows, as soon as these are there.
    """

    stage: Stage

    def __init__(self, model: nn.Module, build: Callable[[], Stage]) -> None:
        super().__init__()
        self.model, self.build = model, build
        self.observers: list[Observer] = []
        self._n_skipped = 0

    def setup(self, stage: str) -> None:
        """Begin a stage; forget who observed another one."""
        self.stage, self._n_skipped = self.build(), 0
        self.observers.clear()

    def predict_step(self, batch: Batch, batch_idx: int) -> list[pa.Table]:
        """The rows of a batch, in parts; nothing where no image could be decoded.

        A batch may take long, so the observers are told of each part as soon as it is done.
        """
        self._skip(batch)
        parts: list[pa.Table] = []
        for images, rows in self.stage.rows(batch) if len(batch) else ():
            for observe in self.observers:
                observe(images, rows)
            parts.append(rows)
        return parts

    def _skip(self, batch: Batch) -> None:
        """Pass over the images that could not be decoded, if that is asked for."""
        if not batch.problems:
            return
        name, reason = batch.problems[0]
        if self.stage.on_error == "raise":
            raise unreadable(name, reason)
        self._n_skipped += len(batch.problems)
        limit = self.stage.max_skipped
        if limit is not None and self._n_skipped > limit:
            raise too_many_skipped(self._n_skipped, limit, name, reason)


def too_many_skipped(n_skipped: int, limit: int, name: str, reason: str) -> NeuronPathError:
    """The error of a search that has passed over more images than it may, one of them named."""
    return NeuronPathError(
        f"{n_skipped} images cannot be read, more than data.max_skipped={limit}; one of the last is '{name}' "
        f"({reason}): fix the data, or allow more, as with data.max_skipped=null for any number."
    )
