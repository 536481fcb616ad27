"""The live network with an operation at work on the path's neurons."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.problem import Problem
from neuron_path.interventions.operations import Operation, ResampleAblation
from neuron_path.models.adapter import Adapter, taken


def edited_logits(
    problem: Problem,
    paths: Int[Tensor, "B L k"],
    operation: Operation,
    tokens: str = "scope",
) -> Float[Tensor, "B C"]:
    """Logits of the live network with every block's path neurons edited.

    Each block's activations are those that the edits of earlier blocks lead to, then edited themselves.

    Args:
        problem: the images, with their clean pass.
        paths: neurons of each image and block; one that a block names twice is edited once.
        operation: what becomes of them.
        tokens: "scope" edits at the tokens in scope, "all" wherever the FFN is.
    """
    first = None if tokens == "all" else problem.first_split
    return live_logits(problem.adapter, problem.clean.embedded, paths, operation, tokens, first)


def live_logits(
    adapter: Adapter,
    h: Float[Tensor, "B T D"],
    paths: Int[Tensor, "B L k"],
    operation: Operation | None,
    tokens: str = "scope",
    first: tuple[Float[Tensor, "B S E"], Float[Tensor, "B R D"]] | None = None,
) -> Float[Tensor, "B C"]:
    """Logits of the live network from what enters its first block, with every block's path neurons edited.

    Args:
        adapter: the model.
        h: the residual stream that enters the first block.
        paths: neurons of each image and block.
        operation: what becomes of them; None: they stay as they are.
        tokens: "scope" edits at the tokens in scope, "all" wherever the FFN is.
        first: the split of the first block, where it is at hand.
    """

    def edited(index: int, u: Tensor, *, in_scope: bool) -> Tensor:
        block = adapter.blocks[index]
        a = block.activations(u)
        return a if operation is None else operation.edit(index, a, block.places(paths[:, index]), in_scope=in_scope)

    def scoped(index: int, u: Tensor) -> Tensor:
        return adapter.blocks[index].project(edited(index, u, in_scope=True))

    def live(index: int, u: Tensor) -> Tensor:
        block = adapter.blocks[index]
        return block.residual(u) + block.after(block.project(edited(index, u, in_scope=False)))

    return adapter.head(through(adapter, h, scoped, feed=live if tokens == "all" else None, first=first))


def donate(
    adapter: Adapter, donors: Float[Tensor, "B T D"], paths: Int[Tensor, "B L k"], tokens: str = "scope"
) -> ResampleAblation:
    """The operation that gives each image its donor's activations: one clean pass of the embedded donors."""
    donated: list[tuple[Tensor, Tensor]] = []
    others: list[Tensor] = []

    def chosen(a: Tensor, index: int) -> Tensor:
        return taken(a, adapter.blocks[index].places(paths[:, index]))

    def scoped(index: int, u: Tensor) -> Tensor:
        a = adapter.blocks[index].activations(u)
        mine = chosen(a, index)
        # `through` feeds a block's live tokens before it projects those in scope: what they left is this block's.
        donated.append((mine, others.pop() if others else mine[:, :0]))
        return adapter.blocks[index].project(a)

    def live(index: int, u: Tensor) -> Tensor:
        block = adapter.blocks[index]
        a = block.activations(u)
        others.append(chosen(a, index))
        return block.residual(u) + block.after(block.project(a))

    through(adapter, donors, scoped, feed=live if tokens == "all" else None)
    return ResampleAblation(donated)
