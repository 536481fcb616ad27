"""The LightningModule of the search: a batch in, its paths out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import lightning
import torch

from neuron_path.data.folder import unreadable
from neuron_path.lightning.datamodule import Batch
from neuron_path.search.finder import PathFinder, find_all
from neuron_path.types import PathResult

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
    """

    def __init__(self, finders: Sequence[PathFinder], targets: TargetRule, on_error: str = "raise") -> None:
        super().__init__()
        self.model = finders[0].session.model
        self.finders = list(finders)
        self.targets = targets
        self.on_error = on_error

    def predict_step(self, batch: Batch, batch_idx: int) -> list[MethodPaths]:
        """The paths of every method; nothing for a batch in which no image could be decoded."""
        if batch.problems and self.on_error == "raise":
            name, reason = batch.problems[0]
            raise unreadable(name, reason)
        if not len(batch):
            return []
        targets = self.targets(batch)
        results = find_all(self.finders, batch.images, targets, batch.sample_ids, progress=False)
        return [
            MethodPaths(finder.scorer.name, finder.search.name, finder.top_k, result.cpu())
            for finder, result in zip(self.finders, results, strict=True)
        ]
