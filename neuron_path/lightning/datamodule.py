"""Data modules: a data set in prediction batches that name every image."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from neuron_path.data.digits import DigitsDataset
from neuron_path.data.part import choose_part


@dataclass
class Batch:
    """Images with their names.

    Attributes:
        images: (B, c, H, W).
        labels: B class indices, None where unknown.
        sample_ids: B stable names.
        problems: (name, reason) of the images that could not be decoded; they are in none of the above.
    """

    images: Tensor
    labels: list[int | None]
    sample_ids: list[str]
    problems: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, run: slice) -> Batch:
        """Some of the decoded images."""
        return Batch(self.images[run], self.labels[run], self.sample_ids[run], [])

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The same batch with its images on another device."""
        # From page-locked memory the copy goes on beside the work; Lightning asks for that with tensors only.
        free = non_blocking or (device.type == "cuda" and self.images.is_pinned())
        return Batch(self.images.to(device, non_blocking=free), self.labels, self.sample_ids, self.problems)

    def pin_memory(self) -> Batch:
        """The same batch with its images in page-locked memory."""
        return Batch(self.images.pin_memory(), self.labels, self.sample_ids, self.problems)


def collate(items: Sequence[Mapping[str, Any]]) -> Batch:
    """Stack the items that were decoded, and list the others."""
    good = [item for item in items if item["image"] is not None]
    return Batch(
        images=torch.stack([item["image"] for item in good]) if good else torch.empty(0, 0, 0, 0),
        labels=[item["label"] for item in good],
        sample_ids=[item["sample_id"] for item in good],
        problems=[(item["sample_id"], item["problem"]) for item in items if item["image"] is None],
    )


class NamedDataset(Protocol):
    """What NeuronPath needs of a data set, beside `__len__` and `__getitem__` (image, label, sample_id)."""

    @property
    def labels(self) -> Sequence[int | None]:
        """Class index of every image; None where unknown."""
        ...

    @property
    def sample_ids(self) -> Sequence[str]:
        """Stable name of every image."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Class names by index; empty where nothing is labelled."""
        ...

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """What was done to the pixels, in values that JSON can hold."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class Part:
    """Some images of a data set, by their places in it."""

    def __init__(self, dataset: NamedDataset, places: Sequence[int]) -> None:
        self._dataset, self._places = dataset, list(places)
        self.labels: list[int | None] = [dataset.labels[place] for place in places]
        self.sample_ids = [dataset.sample_ids[place] for place in places]
        self.classes, self.preprocessing = dataset.classes, dataset.preprocessing

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._dataset[self._places[index]]


class Unlabelled:
    """A data set without its labels, which mean nothing to the model."""

    def __init__(self, dataset: NamedDataset) -> None:
        self._dataset = dataset
        self.labels: list[int | None] = [None] * len(dataset)
        self.sample_ids, self.preprocessing = dataset.sample_ids, dataset.preprocessing
        self.classes: list[str] = []
        self.content = getattr(dataset, "content", dict)
        self.left_out = getattr(dataset, "left_out", {}) | {"unknown label": len(dataset)}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {**self._dataset[index], "label": None}


class ImageDataModule(lightning.LightningDataModule):
    """Any named data set in prediction batches.

    Args:
        dataset: the images.
        batch_size: images per batch.
        num_workers: processes that decode; 0 decodes in the main one.
    """

    def __init__(self, dataset: NamedDataset, *, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size, self.num_workers = batch_size, num_workers

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches in the data set's order, the last one as it comes."""
        dataset: Dataset[Any] = self.dataset  # pyright: ignore[reportAssignmentType]
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_outlive_request,
            multiprocessing_context=_context() if self.num_workers else None,
        )


def _context() -> str | None:
    """How processes that decode are started; joblib's jobs, which start others in a way of their own, need it said."""
    usual = multiprocessing.get_all_start_methods()
    return None if multiprocessing.get_start_method(allow_none=True) in (None, *usual) else usual[0]


def _outlive_request(_: int) -> None:
    """Let a process that decodes outlive SIGTERM, which batch systems send to all: the batch in flight needs it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class DigitsPart(Part):
    """The digits of a split, or some of them."""

    def __init__(self, split: str, classes: Sequence[str | int] | None, limit: int | None) -> None:
        whole = DigitsDataset(split)
        super().__init__(whole, choose_part(whole.labels, whole.classes, only=classes, limit=limit))


class DigitsDataModule(ImageDataModule):
    """The embedded handwritten digits.

    Args:
        split: "train", "val" or "test".
        classes, limit: the part to take; see `neuron_path.data.part.choose_part`.
        batch_size, num_workers: as for `ImageDataModule`.

    >>> len(DigitsDataModule("test", classes=["3"], limit=5).dataset)
    5
    """

    def __init__(
        self,
        split: str = "test",
        *,
        classes: Sequence[str | int] | None = None,
        limit: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(DigitsPart(split, classes, limit), batch_size=batch_size, num_workers=num_workers)
