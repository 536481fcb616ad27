"""The images that are left to be done, dealt out to the processes of a Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import lightning
from torch import distributed
from torch.utils.data import DataLoader

from neuron_path.lightning.datamodule import ImageDataModule, Part

_LONG = timedelta(days=365)  # nobody knows how long the slowest process takes


class RemainingImages(lightning.LightningDataModule):
    """Some images of another data module; each of n processes takes every n-th of them.

    No image is done twice to even the shares out, so some processes have one less than others; a process may have none.
    Use it with `Trainer(use_distributed_sampler=False)`.

    Args:
        data: all images.
        left: the places of those that are left. The first process's list counts, so that no process misses or repeats
            an image because it looked a moment later; None in the others.
    """

    def __init__(self, data: ImageDataModule, left: Sequence[int] | None) -> None:
        super().__init__()
        self.data, self.left = data, left
        self.own = ImageDataModule(Part(data.dataset, ()), batch_size=data.batch_size)
        self._all: Any = None

    def setup(self, stage: str) -> None:
        """Take this process's share."""
        trainer = self.trainer
        assert trainer is not None
        if trainer.world_size > 1:
            self._all = distributed.new_group(timeout=_LONG, backend="gloo")
        self._deal(trainer.strategy.broadcast(self.left), trainer.global_rank, trainer.world_size)

    def _deal(self, left: Sequence[int] | None, rank: int, n: int) -> None:
        assert left is not None
        part = Part(self.data.dataset, left[rank::n])
        self.own = ImageDataModule(part, batch_size=self.data.batch_size, num_workers=self.data.num_workers)

    def wait_for_all(self) -> None:
        """Wait until every process has called this, however long that takes.

        Raises:
            RuntimeError: another process is gone.
        """
        if self._all is not None:
            distributed.barrier(group=self._all)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches in the data set's order."""
        return self.own.predict_dataloader()
