"""Shortlists: the neurons that a costly scorer rates one at a time, all of them side by side in a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.exactness import ranked
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorers.gradient_x_activation import gradient_x_activation


def shortlists(problem: Problem, length: int | None) -> list[Int[Tensor, "B n"]]:
    """The first `length` neurons of every block by gradient × activation (ties: the lowest index); None: all."""
    if length is None:
        widths = (block.n_neurons for block in problem.adapter.blocks)
        device = problem.targets.device
        return [torch.arange(width, device=device).expand(problem.n_images, -1) for width in widths]
    return [ranked(scores)[1][:, :length] for scores in gradient_x_activation(problem)]


@dataclass(frozen=True)
class Shortlist:
    """The n listed neurons of each of B images in one block, as B·n rows: image by image, in the list's order.

    Attributes:
        problem: the images' problem.
        index: the block.
        neurons: (B, n).
    """

    problem: Problem
    index: int
    neurons: Int[Tensor, "B n"]

    def sequences(self, alpha: Float[Tensor, "m"], weights: Float[Tensor, "m"]) -> Sequences:
        """The (node, row) pairs."""
        return Sequences(alpha, weights, self.neurons.numel(), self.problem.micro_batch)

    def image(self, rows: Int[Tensor, "r"]) -> Int[Tensor, "r"]:
        """Which image a row belongs to."""
        return rows // self.neurons.shape[1]

    def written(self, rows: Int[Tensor, "r"]) -> Float[Tensor, "r S D"]:
        """What each row's neuron adds to its block's projection, at its clean activation."""
        block = self.problem.adapter.blocks[self.index]
        places = block.places(self.neurons.flatten()[rows].unsqueeze(1))
        return self.problem.clean.chosen(self.index, places, self.image(rows)) @ block.columns(places)

    def spread(self, scores: Float[Tensor, "r"]) -> Float[Tensor, "B F"]:
        """The rows' scores in their neurons' places; −∞ for neurons that are not listed."""
        every = scores.new_full((len(self.neurons), self.problem.adapter.blocks[self.index].n_neurons), -math.inf)
        return every.scatter(1, self.neurons, scores.view(self.neurons.shape))
