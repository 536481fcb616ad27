"""Mean activations of all neurons over reference images, batch by batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session


class MeanActivations:
    """Computed in float64, so that the means do not depend on how the images are cut into batches.

    Tokens in scope and the other ones are averaged apart, each over images and tokens.

    Args:
        session: the model, with the tokens that count.
    """

    def __init__(self, session: Session) -> None:
        self._session = session if session.dtype == torch.float64 else session.double()
        blocks = self._session.adapter.blocks
        self._sums = [[torch.zeros(block.width, dtype=torch.float64) for _ in range(2)] for block in blocks]
        self._counts = [[0, 0] for _ in blocks]

    def update(self, images: Float[Tensor, "B c H W"]) -> None:
        """Add the images' activations in the untouched network."""
        with self._session.active():
            for run, _ in chunks(self._session, images, 1):
                self._update(self._session.images(images[run]))

    def _update(self, images: Float[Tensor, "B c H W"]) -> None:
        adapter = self._session.adapter

        def scoped(index: int, u: Tensor) -> Tensor:
            a = adapter.blocks[index].activations(u)
            self._add(index, 0, a)
            return adapter.blocks[index].project(a)

        def live(index: int, u: Tensor) -> Tensor:
            block = adapter.blocks[index]
            a = block.activations(u)
            self._add(index, 1, a)
            return block.residual(u) + block.after(block.project(a))

        through(adapter, adapter.embed(images), scoped, feed=live)

    def operation(self) -> MeanAblation:
        """The operation that puts the means in place; NaN where no token was seen."""
        means = []
        for sums, counts in zip(self._sums, self._counts, strict=True):
            in_scope, other = (total / count for total, count in zip(sums, map(_or_nan, counts), strict=True))
            means.append((in_scope, other))
        return MeanAblation(means)

    def _add(self, index: int, group: int, a: Tensor) -> None:
        self._sums[index][group] += a.sum((0, 1)).cpu()
        self._counts[index][group] += a.shape[0] * a.shape[1]


def _or_nan(count: int) -> float:
    return count or float("nan")
