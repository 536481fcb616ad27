"""Where in the picture: neurons at the patch tokens, and what each patch adds to a path's effect.

See docs/heat-maps.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.interventions.edited import live_logits
from neuron_path.interventions.operations import Scale
from neuron_path.models.adapter import Adapter, listed

_REMOVE = Scale(0.0)


class EffectMap(NamedTuple):
    """What each token that enters the first block adds to the effect of removing a path.

    Attributes:
        contributions: (B, T), in units of the target function.
        effects: (B,) e(h) = f(h) − f(h; path removed) of the images.
        baseline_effects: (B,) e(h′) of the baseline.
    """

    contributions: Float[Tensor, "B T"]
    effects: Float[Tensor, "B"]
    baseline_effects: Float[Tensor, "B"]

    @property
    def missing(self) -> Float[Tensor, "B"]:
        """What the contributions sum to beyond e(h) − e(h′)."""
        return self.contributions.sum(1) - (self.effects - self.baseline_effects)


def activation_map(
    adapter: Adapter, images: Float[Tensor, "B c H W"], paths: Int[Tensor, "B L k"]
) -> Float[Tensor, "B T"]:
    """The clean activation of a path's neurons at every token that enters the first block, summed over the neurons.

    Args:
        adapter: a model whose blocks keep their tokens.
        images: preprocessed.
        paths: neurons of each image and block; −1 stands for none.
    """
    h = adapter.embed(images)
    total = h.new_zeros(h.shape[:2])
    for index, block in enumerate(adapter.blocks):
        u = block.mix(h)
        a = block.activations(u)
        total += (block.strength(a) * listed(paths[:, index], block.n_neurons)).sum(2)
        h = block.residual(u) + block.after(block.project(a))
    return total


def effect_map(problem: Problem, paths: Int[Tensor, "B L k"], baseline: Float[Tensor, "_b c H W"]) -> EffectMap:
    """Integrated gradients of e(h) = f(h) − f(h; path removed) along the straight line from a baseline's tokens.

    With h what enters the first block of the image and h′ what enters it of the baseline, token t gets
    Σ_d (h − h′)_td · ∫ ∂e/∂h_td (h′ + α (h − h′)) dα; by completeness all of them sum to e(h) − e(h′), up to what the
    quadrature misses. Both networks are live. With the `adaptive` rule images that miss more than its tolerance, as a
    share of Σ_t |contribution|, are done again with twice the nodes.

    Args:
        problem: the images, with the rule of the integral.
        paths: neurons of each image and block; −1 stands for none.
        baseline: preprocessed, one for all images or one for each.
    """
    adapter = problem.adapter
    start = adapter.embed(baseline)
    end = problem.clean.embedded
    step = end - start

    def effect(h: Tensor) -> Tensor:
        clean, removed = (live_logits(adapter, h, paths, operation) for operation in (None, _REMOVE))
        return problem.target_values(clean, problem.every_image) - problem.target_values(removed, problem.every_image)

    nodes, weights = problem.nodes()
    gradient = torch.zeros_like(step)
    for alpha, weight in zip(nodes, weights[0] if problem.quadrature.is_adaptive else weights, strict=True):
        h = (start + alpha * step).requires_grad_()
        with torch.enable_grad():
            total = effect(h).sum()
        gradient += weight * torch.autograd.grad(total, h)[0]
    found = EffectMap((step * gradient).sum(2), effect(end), effect(end - step))
    finer = problem.quadrature.finer()
    if finer is None:
        return found
    mass = found.contributions.abs().sum(1)
    rows = (found.missing.abs() > finer.tolerance * mass).nonzero().squeeze(1)
    if not len(rows):
        return found
    again = effect_map(problem.take(rows, finer), paths[rows], baseline if len(baseline) == 1 else baseline[rows])
    return EffectMap(*(one.index_copy(0, rows, other) for one, other in zip(found, again, strict=True)))
