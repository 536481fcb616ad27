"""What a search holds in memory: counted on one image, for any model and device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.exactness import exactness
from neuron_path.attribution.forward import through
from neuron_path.attribution.forward_mode import push
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.score import one_sum
from neuron_path.attribution.tail import tail_gradients
from neuron_path.models.footprint import Footprint
from neuron_path.models.session import Session

# Two threads were seen to keep 20 MB more than one (docs/performance.md, memory).
_SCRATCH_OF_A_THREAD = 10_000_000
# Residual streams that a prefix holds of a sequence at most: state and tangent before and behind a block; in patch
# scope as many again for what the neurons of every token write.
_STREAMS, _STREAMS_OF_PATCHES = 4, 10


@dataclass(frozen=True)
class Needs:
    """Bytes.

    Attributes:
        fixed: whatever the batch: the model's copy in float64, for what float32 cannot decide.
        image: of each image: its clean pass.
        sequence: of each (node, image) pair: the prefix, or what else a scorer keeps until the integral is taken.
        graph: of each pair, beside that: the graph through visited blocks, where tokens are kept apart.
        in_pass: of each pair of a pass: what autograd and forward mode hold while it runs.
        scratch: whatever the batch: what a CPU's threads keep for packed operands and freed pieces, no tensors.
    """

    fixed: int
    image: int
    sequence: int
    graph: int
    in_pass: int
    scratch: int = 0


def measure_needs(
    session: Session,
    image: Float[Tensor, "1 c H W"],
    *,
    in_double: bool = False,
    every_block: bool = False,
    n_rated: int = 0,
) -> Needs:
    """Count the tensors of each kind of pass, with one sequence; call it within `session.active()`.

    Args:
        session: the model.
        image: any one.
        in_double: whether a scorer works in float64.
        every_block: whether a scorer keeps something of every block until the integral is taken.
        n_rated: paths of an image of which the gradients at every block are held at once.
    """
    adapter, scope = session.adapter, session.adapter.scope
    with Footprint() as clean_footprint:
        problem = Problem.pose(adapter, session.images(image), None, Quadrature("gauss_legendre", 1), 1)
        exactness(problem)
    clean, size = problem.clean, image.new_empty(0, dtype=session.dtype).element_size()

    h, streams, peaks = clean.embedded, [], []
    for index, block in enumerate(adapter.blocks):

        def advance(x: Tensor, index: int = index) -> tuple[Tensor, Tensor]:
            scoped, live = adapter.split(index, x)
            return adapter.blocks[index].residual(scoped), live

        with Footprint() as footprint:
            (residual, live), _ = push(advance, h, torch.zeros_like(h))
        streams.append(h.numel() * size)
        peaks.append(footprint.peak)
        h = scope.join(residual + block.after(clean.projected[index]), live)

    with Footprint() as footprint:
        (residual, live), one = adapter.split(0, clean.embedded), problem.every_image
        z = clean.projected[0].clone()
        tail_gradients(problem, 0, adapter.blocks[0].residual(residual), live, z, one)
    peaks.append(footprint.peak)

    graph = 0
    if not one_sum(problem):
        with torch.enable_grad(), Footprint() as footprint:
            kept = through(adapter, clean.embedded, lambda index, _: clean.projected[index].clone().requires_grad_())
        graph = footprint.alive + kept.numel() * size
        del kept

    n_scoped, width = clean.projected[0].shape[1:]
    sequence = max(streams) * (_STREAMS if n_scoped == 1 else _STREAMS_OF_PATCHES)
    # Twice: beside those of all paths together there are those of each pass.
    rated = 2 * n_rated * sum(z.numel() * size for z in clean.projected)
    if every_block:
        sequence += 2 * size * sum(max(n_scoped * width, block.width) for block in adapter.blocks)
        sequence += 4 * size * n_scoped * max(block.width for block in adapter.blocks)
    is_single = session.dtype == torch.float32
    weights = sum(weight.numel() * weight.element_size() for weight in session.model.state_dict().values())
    factor = 2 if in_double and is_single else 1
    return Needs(
        fixed=2 * weights if is_single else 0,
        image=(clean_footprint.peak + rated) * factor * (2 if is_single else 1),
        sequence=sequence * factor,
        graph=graph * factor,
        in_pass=max(peaks) * factor,
        scratch=_SCRATCH_OF_A_THREAD * torch.get_num_threads() * factor if session.device.type == "cpu" else 0,
    )
