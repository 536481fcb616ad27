"""The LightningModule of the search: a batch in, its paths out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import lightning
import torch

from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch
from neuron_path.search.finder import PathFinder, find_each, joined
from neuron_path.types import PathResult

# Is told the paths of some images of a batch as soon as they are found.
Observer = Callable[[Batch, Sequence["MethodPaths"]], None]
# From a batch to its targets: one class per image, or None for the predicted classes.
TargetRule = Callable[[Batch], Sequence[int] | None]


@dataclass(frozen=True)
class MethodPaths:
    """The paths that one method found for a batch."""

    scorer: str
    search: str
    top_k: int
    result: PathResult

    def to(self, device: torch.device) -> MethodPaths:
        """The same on another device; the Trainer asks for it when it gathers predictions."""
        return replace(self, result=self.result.to(device))


class PathSearchModule(lightning.LightningModule):
    """`predict_step` finds the paths of a batch with each of several methods.

    Use it with `Trainer(inference_mode=False)`: the search needs gradients.

    Args:
        finders: the methods, all on one session.
        targets: which class of each image is attributed.
        on_error: "raise" or "skip" images that could not be decoded.
        max_skipped: so many may be skipped by this process; None for any number.

    Attributes:
        observers: called with some images of a batch and their paths, as soon as these are found.
    """

    def __init__(
        self,
        finders: Sequence[PathFinder],
        targets: TargetRule,
        on_error: str = "raise",
        max_skipped: int | None = None,
    ) -> None:
        super().__init__()
        self.model = finders[0].session.model
        self.finders = list(finders)
        self.targets = targets
        self.on_error, self.max_skipped = on_error, max_skipped
        self.observers: list[Observer] = []
        self._n_skipped = 0

    def setup(self, stage: str) -> None:
        """Forget who observed another prediction."""
        self.observers.clear()

    def predict_step(self, batch: Batch, batch_idx: int) -> list[MethodPaths]:
        """The paths of every method; nothing for a batch in which no image could be decoded.

        A batch may take long, so the observers are told of each chunk of its images as soon as it is done.
        """
        self._skip(batch)
        if not len(batch):
            return []
        targets = self.targets(batch)
        parts = []
        for run, results in find_each(self.finders, batch.images, targets, batch.sample_ids):
            parts.append([result.cpu() for result in results])
            for observe in self.observers:
                observe(batch.take(run), self._named(parts[-1]))
        return self._named(joined(parts))

    def _named(self, results: Sequence[PathResult]) -> list[MethodPaths]:
        return [
            MethodPaths(finder.scorer.name, finder.search.name, finder.top_k, result)
            for finder, result in zip(self.finders, results, strict=True)
        ]

    def _skip(self, batch: Batch) -> None:
        """Pass over the images that could not be decoded, if that is asked for."""
        if not batch.problems:
            return
        name, reason = batch.problems[0]
        if self.on_error == "raise":
            raise unreadable(name, reason)
        self._n_skipped += len(batch.problems)
        if self.max_skipped is not None and self._n_skipped > self.max_skipped:
            raise too_many_skipped(self._n_skipped, self.max_skipped, name, reason)


def too_many_skipped(n_skipped: int, limit: int, name: str, reason: str) -> NeuronPathError:
    """The error of a search that has passed over more images than it may, one of them named."""
    return NeuronPathError(
        f"{n_skipped} images cannot be read, more than data.max_skipped={limit}; one of the last is '{name}' "
        f"({reason}): mend the data, or allow more."
    )
