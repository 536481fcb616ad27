"""How much of each path neuron's effect passes through each later one, and how much goes straight to the output.

See docs/edges.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.target import Target
from neuron_path.models.adapter import taken
from neuron_path.models.budget import chunks
from neuron_path.models.session import Session


def path_edges(
    problem: Problem, paths: Int[Tensor, "B L k"]
) -> tuple[Float[Tensor, "B L k L k"], Float[Tensor, "B L k"]]:
    """First-order effects at the clean point, in units of the target function; 0 where a path has −1, for no neuron.

    In the graph all neurons of the tokens in scope are frozen but the path's: what one of these writes reaches another
    by attention, norms and the residual stream alone. One backward pass for the output and one for each later neuron.

    Args:
        problem: the images.
        paths: neurons of each image and block, distinct within a block.

    Returns:
        edges: [b, l, i, m, j] what passes from the i-th neuron of block l through the j-th of block m, and through no
            neuron of the path in between: w_i · (∂a_j/∂a_i) · df/da_j, summed over tokens, where df/da_j counts all
            ways on from j. 0 unless l < m.
        to_output: [b, l, i] what reaches the output through no other neuron of the path.
    """
    adapter, n_slots = problem.adapter, paths.shape[2]
    places = [block.places(paths[:, index]) for index, block in enumerate(adapter.blocks)]
    clean = [problem.clean.chosen(index, where) for index, where in enumerate(places)]  # each (B, S, c)
    leaves = [w.clone().requires_grad_() for w in clean]
    led_to: list[Tensor] = []  # the path's activations, as functions of the leaves of the blocks before

    def project(index: int, u: Tensor) -> Tensor:
        block, where = adapter.blocks[index], places[index]
        led_to.append(taken(block.activations(u), where))
        columns = block.columns(where) * (where >= 0).unsqueeze(2)
        # The value is the clean one; only the gradient knows of the leaves.
        return problem.clean.projected[index] + (leaves[index] - clean[index]) @ columns

    with torch.enable_grad():
        h = through(adapter, problem.first_split[0], project, first=problem.first_split)
        total = problem.target_values(adapter.head(h), problem.every_image).sum()
    # ∂f/∂a of each block: straight to the output first, then with all ways through later blocks, from the last one on.
    gradients = list(torch.autograd.grad(total, leaves, retain_graph=True))
    to_output = torch.stack([_by_neuron(w * g, n_slots) for w, g in zip(clean, gradients, strict=True)], 1)
    edges = to_output.new_zeros(*to_output.shape, *to_output.shape[1:])
    for later in range(len(leaves) - 1, 0, -1):
        with torch.enable_grad():
            through_each = _by_neuron(gradients[later] * led_to[later], n_slots).sum(0).unbind()
        for slot, value in enumerate(through_each):
            back = torch.autograd.grad(value, leaves[:later], retain_graph=True)
            for earlier, gradient in enumerate(back):
                edges[:, earlier, :, later, slot] = _by_neuron(clean[earlier] * gradient, n_slots)
                gradients[earlier] = gradients[earlier] + gradient
    return edges, to_output


def edges_by_chunk(
    session: Session,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L k"],
    targets: Int[Tensor, "B"] | None,
    target: Target,
) -> Iterator[tuple[slice, Int[Tensor, "b"], Float[Tensor, "b L k L k"], Float[Tensor, "b L k"]]]:
    """:func:`path_edges` of any number of images, as many at a time as suit a pass: which, their targets, and theirs.

    Call it within `session.active()`, of a session in float64; `paths` and `targets` are on its device.
    """
    for run, _ in chunks(session, images, 1):
        mine = None if targets is None else targets[run]
        problem = Problem.pose(session.adapter, session.images(images[run]), mine, Quadrature("midpoint", 1), 1, target)
        yield run, problem.targets, *path_edges(problem, paths[run])


def _by_neuron(values: Float[Tensor, "B S c"], n_slots: int) -> Float[Tensor, "B k"]:
    """The sum over tokens, and over each neuron's own activations."""
    return values.unflatten(2, (n_slots, values.shape[2] // max(1, n_slots))).sum((1, 3))
