"""How much float32 rounds on an image: what a nudge of the last digits does to the gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.problem import Problem

# On an image whose nudged gradients move by more than this, rounding may reach the digits that a result promises.
ILL_CONDITIONED = 3e-6


def rounding(problem: Problem) -> Float[Tensor, "B"]:
    """The largest change of a block's gradients, relative to the largest of them, when every block's input and output
    move by up to one unit in the last place.

    The nudged copies run in the clean pass, beside the images: one forward and one backward pass of the live network,
    whatever the number of nodes. The nudges are the same for every image, so no image's number depends on the batch.
    """
    worst = problem.clean.embedded.new_zeros(problem.n_images)
    for plain, moved in zip(problem.clean_gradients, problem.nudged_gradients, strict=True):
        # Summed over the tokens in scope.
        change = (moved - plain).sum(1).abs().amax(1) / plain.sum(1).abs().amax(1)
        worst = torch.maximum(worst, change.nan_to_num(0, posinf=torch.inf))
    return worst
