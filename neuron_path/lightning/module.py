"""LightningModules: a batch in, its paths or their effects out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import lightning
import torch
from torch import Tensor

from neuron_path.attribution.target import target_probability
from neuron_path.data.folder import unreadable
from neuron_path.interventions.scaling import FACTORS, scaled_logits
from neuron_path.lightning.datamodule import Batch
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder
from neuron_path.types import PathResult

# From a batch to its targets: one class per image, or None for the predicted classes.
TargetRule = Callable[[Batch], Sequence[int] | None]
R = TypeVar("R", PathResult, "Effect")


@dataclass(frozen=True)
class MethodPaths:
    """The paths that one method found for a batch."""

    scorer: str
    search: str
    top_k: int
    result: PathResult

    def to(self, device: torch.device) -> MethodPaths:
        """The same on another device; the Trainer asks for it when it gathers predictions."""
        return replace(self, result=_moved(self.result, device))


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
        return [
            MethodPaths(
                finder.scorer.name,
                finder.search.name,
                finder.top_k,
                finder.find(batch.images, targets, batch.sample_ids, progress=False).cpu(),
            )
            for finder in self.finders
        ]


@dataclass(frozen=True)
class StoredPaths:
    """The paths of one method, by sample id: what an intervention edits.

    Attributes:
        scorer, search: the method.
        paths: sample id → (L, k) neurons.
        targets: sample id → target class.
    """

    scorer: str
    search: str
    paths: dict[str, Tensor]
    targets: dict[str, int]


@dataclass(frozen=True)
class Effect:
    """What one operation on one method's paths does to a batch: (B,) probabilities of the target and predictions."""

    scorer: str
    search: str
    operation: str
    sample_ids: list[str]
    targets: Tensor
    clean_probabilities: Tensor
    edited_probabilities: Tensor
    clean_predictions: Tensor
    edited_predictions: Tensor

    def to(self, device: torch.device) -> Effect:
        """The same on another device."""
        return _moved(self, device)


class InterventionModule(lightning.LightningModule):
    """`predict_step` edits the stored paths of a batch and measures what changes.

    Args:
        session: the model.
        stored: the methods' paths.
        operations: names of operations, such as "remove" and "enhance".
    """

    def __init__(self, session: Session, stored: Sequence[StoredPaths], operations: Sequence[str]) -> None:
        super().__init__()
        self.model = session.model
        self.session = session
        self.stored = list(stored)
        self.operations = list(operations)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Effect]:
        """The effects of every operation on every method's paths."""
        if not len(batch):
            return []
        effects = []
        with self.session.active():
            images = self.session.images(batch.images)
            clean = self.model(images)
            for method in self.stored:
                effects += [self._effect(batch, images, clean, method, operation) for operation in self.operations]
        return effects

    def _effect(self, batch: Batch, images: Tensor, clean: Tensor, method: StoredPaths, operation: str) -> Effect:
        paths = self.session.check_paths(torch.stack([method.paths[name] for name in batch.sample_ids]), len(batch))
        own = self.session.check_targets([method.targets[name] for name in batch.sample_ids], len(batch))
        assert own is not None
        edited = scaled_logits(self.session.adapter, images, paths, FACTORS[operation])
        return Effect(
            method.scorer,
            method.search,
            operation,
            batch.sample_ids,
            own.cpu(),
            target_probability(clean, own).cpu(),
            target_probability(edited, own).cpu(),
            clean.argmax(1).cpu(),
            edited.argmax(1).cpu(),
        )


def _moved(record: R, device: torch.device) -> R:
    """A record with its tensors on another device."""
    return replace(record, **{name: value.to(device) for name, value in vars(record).items() if torch.is_tensor(value)})
