"""Forward passes: the clean one that records the neurons, and edited ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.models.adapter import Adapter


@dataclass(frozen=True)
class CleanPass:
    """What one untouched forward pass leaves for later.

    Attributes:
        embedded: (B, T, D) the residual stream that enters block 0.
        activations: per block (B, S, F): w, the clean activations in scope.
        projected: per block (B, S, D): what the FFN's second layer makes of them.
        logits: (B, C).
    """

    embedded: Float[Tensor, "B T D"]
    activations: list[Float[Tensor, "B S F"]]
    projected: list[Float[Tensor, "B S D"]]
    logits: Float[Tensor, "B C"]

    def chosen(self, index: int, neurons: Int[Tensor, "B k"]) -> Float[Tensor, "B S k"]:
        """Clean activations of the given neurons of block `index`."""
        w = self.activations[index]
        return w.gather(2, neurons.unsqueeze(1).expand(-1, w.shape[1], -1))


def clean_pass(adapter: Adapter, images: Float[Tensor, "B c H W"]) -> CleanPass:
    """One forward pass of the untouched network, recording the neurons in scope."""
    activations: list[Tensor] = []
    projected: list[Tensor] = []

    def record(index: int, scoped: Tensor) -> Tensor:
        block = adapter.blocks[index]
        activations.append(block.activations(scoped))
        projected.append(block.project(activations[-1]))
        return projected[-1]

    embedded = adapter.embed(images)
    return CleanPass(embedded, activations, projected, adapter.head(through(adapter, embedded, record)))


def edited_logits(
    adapter: Adapter, images: Float[Tensor, "B c H W"], edit: Callable[[int, Tensor], Tensor]
) -> Float[Tensor, "B C"]:
    """Logits of the live network in which `edit(block, (B, S, F) activations)` replaces the neurons in scope."""

    def replace(index: int, scoped: Tensor) -> Tensor:
        block = adapter.blocks[index]
        return block.project(edit(index, block.activations(scoped)))

    return adapter.head(through(adapter, adapter.embed(images), replace))


def through(
    adapter: Adapter,
    h: Float[Tensor, "N T D"],
    project: Callable[[int, Tensor], Tensor],
    n_blocks: int | None = None,
) -> Float[Tensor, "N R D"]:
    """The first `n_blocks` blocks (all by default), the FFNs' second layers in scope as `project` has them.

    Args:
        adapter: the model.
        h: the residual stream that enters the first block.
        project: from a block's index and the (N, S, E) output of its `mix` in scope to the (N, S, D) projection.
        n_blocks: how many blocks.
    """
    for index, block in enumerate(adapter.blocks[:n_blocks]):
        scoped, live = adapter.split(index, h)
        z = project(index, scoped)
        h = adapter.scope.join(block.residual(scoped) + block.after(z), live)
    return h
