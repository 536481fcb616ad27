"""The images that are left to be done, dealt out to the processes of a Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning
from torch import distributed
from torch.utils.data import DataLoader

from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import ImageDataModule, Part

_LONG = timedelta(days=365)  # nobody knows how long the slowest process takes


class RemainingImages(lightning.LightningDataModule):
    """Some images of another data module; each of n processes takes every n-th of them.

    No image is done twice to even the shares out, so some processes have one less than others; a process may have none.
    Use it with `Trainer(use_distributed_sampler=False)`, for one stage after another.

    Args:
        data: all images.

    Attributes:
        left: the places of those that are left, of all processes together. The first process's list counts, so that no
            process misses or repeats an image because it looked a moment later.
        given: what the first process gives to all, beside.
    """

    def __init__(self, data: ImageDataModule) -> None:
        super().__init__()
        self.data = data
        self.left: Sequence[int] = ()
        self.given: Mapping[str, Any] = {}
        self.own = ImageDataModule(Part(data.dataset, ()), batch_size=data.batch_size)
        self._all: Any = None

    def deal(self, left: Sequence[int], given: Mapping[str, Any]) -> None:
        """Set what the next prediction deals out; counts in the first process only."""
        self.left, self.given = left, given

    def setup(self, stage: str) -> None:
        """Take this process's share, as soon as the first process is there.

        Raises:
            NeuronPathError: another process is gone.
        """
        trainer = self.trainer
        assert trainer is not None
        if trainer.world_size > 1:
            self._all = self._all or distributed.new_group(timeout=_LONG, backend="gloo")
            shared = [self.left, self.given]
            try:
                distributed.broadcast_object_list(shared, src=0, group=self._all)
            except RuntimeError as error:
                raise NeuronPathError("Another process of this command is gone; what it said tells why.") from error
            self.left, self.given = shared
        self._deal(trainer.global_rank, trainer.world_size)

    def _deal(self, rank: int, n: int) -> None:
        part = Part(self.data.dataset, self.left[rank::n])
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
