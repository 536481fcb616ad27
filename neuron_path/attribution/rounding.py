"""How much float32 rounds on an image: what a nudge of the last digits does to the gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.live import live_gradients
from neuron_path.attribution.problem import Problem, Sequences

# On an image whose nudged gradients move by more than this, rounding may reach the digits that a result promises.
ILL_CONDITIONED = 3e-6


def rounding(problem: Problem) -> Float[Tensor, "B"]:
    """The largest change of a block's gradients, relative to the largest of them, when every block's input and output
    move by up to one unit in the last place.

    Two forward and backward passes of the live network for each image, whatever the number of nodes. The nudges are the
    same for every image, so that no image's number depends on the batch.
    """
    # The two nodes are not of the integral: they tell the plain pass from the nudged one.
    nudged = problem.clean.embedded.new_tensor([0.0, 1.0])
    sequences = Sequences(nudged, torch.zeros_like(nudged), problem.n_images, problem.micro_batch)
    passes = [_gradients(problem, images, nudge) for _, images, nudge in sequences.passes()]
    worst = problem.clean.embedded.new_zeros(problem.n_images)
    for parts in zip(*passes, strict=True):
        plain, moved = torch.cat(parts).unflatten(0, (2, problem.n_images))
        change = (moved - plain).abs().amax(1) / plain.abs().amax(1)
        worst = torch.maximum(worst, change.nan_to_num(0, posinf=torch.inf))
    return worst


def _gradients(problem: Problem, images: Int[Tensor, "n"], nudge: Float[Tensor, "n"]) -> list[Float[Tensor, "n D"]]:
    """∂f/∂z of every block, z the projection, summed over tokens in scope."""
    factor = nudge.view(-1, 1, 1) * torch.finfo(nudge.dtype).eps
    generator = torch.Generator().manual_seed(0)

    def moved(x: Tensor) -> Tensor:
        signs = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64).mul_(2).sub_(1)
        return x * (1 + factor * signs.to(x))

    return [g.sum(1) for g in live_gradients(problem, moved(problem.clean.embedded[images]), images, moved)]
