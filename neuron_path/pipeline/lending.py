"""Other images that an ablation takes activations from: their means, or a donor's for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neuron_path.data.pictures import unreadable
from neuron_path.interventions.donors import donors_of
from neuron_path.interventions.means import MeanActivations
from neuron_path.interventions.operations import MeanAblation
from neuron_path.lightning.datamodule import ImageDataModule, NamedDataset
from neuron_path.pipeline.work import Study
from neuron_path.progress import progress_bar


class DataLender:
    """Lends from the run's own data, or its reference split; what is not asked for is not read.

    Args:
        study: model and data.
        seed: who donates to whom.
        reference: the reference split's name, and what opens it; None for the run's own images.
        strict: whether an image of the reference that cannot be read is an error.
    """

    def __init__(
        self, study: Study, seed: int, reference: tuple[str, Callable[[], ImageDataModule]] | None, *, strict: bool
    ) -> None:
        self._study, self._seed, self._reference, self._strict = study, seed, reference, strict

    def means(self) -> MeanAblation:
        """Computed when they are first asked for, by each process for itself."""
        return self.described_means[0]

    def donors(self, run: slice, names: Sequence[str]) -> Tensor:
        """Those that the evaluation takes, too."""
        return self._read([self._donors[name] for name in names])

    @cached_property
    def described_means(self) -> tuple[MeanAblation, dict[str, Any]]:
        """Mean activations over the reference split, or over the run's own images, and which images these were."""
        name, open_data = self._reference or ("the run's own images", lambda: self._study.data)
        data = open_data()
        means, seen = MeanActivations(self._study.session), hashlib.sha256()
        with progress_bar() as bar:
            task = bar.add_task("Mean activations", total=len(data.dataset))
            for batch in data.predict_dataloader():
                if batch.problems and self._strict:
                    raise unreadable(*batch.problems[0])
                if len(batch):
                    means.update(batch.images)
                    seen.update(batch.images.numpy().tobytes())
                bar.advance(task, len(batch) + len(batch.problems))
        described = {"name": name, "n_images": len(data.dataset), "sha256": seen.hexdigest()}
        return means.operation(), described

    @cached_property
    def _donors(self) -> dict[str, str]:
        dataset = self._study.data.dataset
        return donors_of(dataset.sample_ids, self._seed, getattr(dataset, "pictures", None))

    @cached_property
    def _read(self) -> Callable[[Sequence[str]], Tensor]:
        return reader(self._study.data.dataset)


def reader(dataset: NamedDataset) -> Callable[[Sequence[str]], Tensor]:
    """What reads images by their names."""
    places = {name: place for place, name in enumerate(dataset.sample_ids)}

    def images_of(names: Sequence[str]) -> Tensor:
        items = [dataset[places[name]] for name in names]
        for item in items:
            if item["image"] is None:
                raise unreadable(item["sample_id"], item["problem"])
        return torch.stack([item["image"] for item in items])

    return images_of
