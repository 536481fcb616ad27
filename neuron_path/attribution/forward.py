"""Forward passes: the clean one that records the neurons, and ones with other neurons.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.models.adapter import Adapter, taken


@dataclass(frozen=True)
class CleanPass:
    """What one untouched forward pass leaves for later.

    Attributes:
        embedded: (B, T, D) the residual stream that enters block 0.
        activations: per block (B, S, W): w, the clean activations in scope.
        projected: per block (B, S, D): what the FFN's second layer makes of them.
        logits: (B, C).
        graph: the projections and the logits in a graph that can be gone through backwards once, of the images and,
            behind them, of their nudged copies if there are any; None: none was kept.
    """

    embedded: Float[Tensor, "B T D"]
    activations: list[Float[Tensor, "B S W"]]
    projected: list[Float[Tensor, "B S D"]]
    logits: Float[Tensor, "B C"]
    graph: tuple[list[Float[Tensor, "n S D"]], Float[Tensor, "n C"]] | None = None

    def take(self, rows: Int[Tensor, "b"]) -> CleanPass:
        """What it leaves for some of the images, without a graph."""
        activations, projected = ([values[rows] for values in every] for every in (self.activations, self.projected))
        return CleanPass(self.embedded[rows], activations, projected, self.logits[rows])

    def chosen(
        self, index: int, places: Int[Tensor, "n c"], rows: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "n S c"]:
        """Clean activations at the given places of block `index`, for the images `rows`; of every one by default.

        A place of −1 stands for none, and gives 0."""
        w = self.activations[index]
        if rows is None:
            return taken(w, places)
        tokens = torch.arange(w.shape[1], device=w.device)
        chosen = w[rows.view(-1, 1, 1), tokens.view(1, -1, 1), places.clamp(min=0).unsqueeze(1)]
        return chosen * (places >= 0).unsqueeze(1)


def clean_pass(
    adapter: Adapter, images: Float[Tensor, "B c H W"], *, keep_graph: bool = False, nudged: bool = False
) -> CleanPass:
    """One forward pass of the untouched network, recording the neurons in scope.

    Args:
        adapter: the model.
        images: preprocessed.
        keep_graph: keep the graph behind the first projection.
        nudged: beside each image run a copy of which every block's input and output moves by up to one unit in the last
            place, the same for every image; only the graph tells of them.
    """
    n = len(images)
    activations: list[Tensor] = []
    projected: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)

    def nudge(x: Tensor) -> Tensor:
        """The copies, which come last, moved."""
        if not nudged:
            return x
        signs = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64).mul_(2).sub_(1)
        moved = 1 + torch.finfo(x.dtype).eps * signs.to(x)
        return x * torch.stack((torch.ones_like(moved), moved)).repeat_interleave(n, 0)

    def record(index: int, scoped: Tensor) -> Tensor:
        block = adapter.blocks[index]
        a = block.activations(scoped)
        activations.append(a.detach()[:n].clone() if nudged else a.detach())
        z = nudge(block.project(a))
        # No gradient is asked for before the first projection: there the graph begins.
        projected.append(z if projected or not keep_graph else z.requires_grad_())
        return projected[-1]

    embedded = adapter.embed(images)
    with torch.set_grad_enabled(keep_graph):
        h = nudge(embedded.repeat(2, 1, 1)) if nudged else embedded
        logits = adapter.head(through(adapter, h, record))
    graph = (projected, logits) if keep_graph else None
    return CleanPass(embedded, activations, [z.detach()[:n] for z in projected], logits.detach()[:n], graph)


def clean_blocks(
    adapter: Adapter, clean: CleanPass
) -> Iterator[tuple[int, Float[Tensor, "B S D"], Float[Tensor, "B R D"]]]:
    """For each block of the untouched network: its index, what its projection is added to, its output at live tokens.

    With the projection in scope replaced, these give the block's output when that block alone is edited.
    """
    h = clean.embedded
    for index, block in enumerate(adapter.blocks):
        scoped, live = adapter.split(index, h)
        residual = block.residual(scoped)
        yield index, residual, live
        h = adapter.scope.join(residual + block.after(clean.projected[index]), live)


def through(
    adapter: Adapter,
    h: Float[Tensor, "N T D"],
    project: Callable[[int, Tensor], Tensor],
    n_blocks: int | None = None,
    feed: Callable[[int, Tensor], Tensor] | None = None,
    first: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "N R D"]:
    """The first `n_blocks` blocks (all by default), the FFNs' second layers in scope as `project` has them.

    Args:
        adapter: the model.
        h: the residual stream that enters the first block.
        project: from a block's index and the (N, S, E) output of its `mix` in scope to the (N, S, D) projection.
        n_blocks: how many blocks.
        feed: what stands in for the FFN, residual included, at live tokens where there is one; before `project`.
        first: the split of the first block, where it is at hand; then h is not looked at.
    """
    for index, block in enumerate(adapter.blocks[:n_blocks]):
        if index == 0 and first is not None:
            scoped, live = first
        else:
            scoped, live = adapter.split(index, h, None if feed is None else partial(feed, index))
        z = project(index, scoped)
        h = adapter.scope.join(block.residual(scoped) + block.after(z), live)
    return h
