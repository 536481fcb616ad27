"""Baseline: conductance, what flows through a neuron as the input fades in (Dhamdhere et al., ICLR 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.forward_mode import push
from neuron_path.attribution.live import live_gradients
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.scorer import BlockwiseScoring, Scorer, scorers


@scorers.register("conductance")
@dataclass(frozen=True)
class Conductance(Scorer):
    """∫ ∂f/∂a_j · ∂a_j/∂α dα at the inputs α·x, in the live network, summed over tokens in scope.

    One backward pass gives all gradients and one forward-mode pass all ∂a_j/∂α.
    """

    keeps_every_block: ClassVar[bool] = True

    def start(self, problem: Problem) -> BlockwiseScoring:
        """Integrate all blocks at once."""
        sequences = Sequences(*problem.nodes(), problem.n_images, problem.micro_batch)
        passes = [_flows(problem, images, alpha) for _, images, alpha in sequences.passes()]
        return BlockwiseScoring(problem, [sequences.integrate(torch.cat(parts)) for parts in zip(*passes, strict=True)])


def _flows(problem: Problem, images: Tensor, alpha: Tensor) -> list[Tensor]:
    """∂f/∂a · ∂a/∂α of every block, summed over tokens in scope: each (n, F)."""
    adapter = problem.adapter

    def activations(x: Tensor) -> tuple[Tensor, ...]:
        seen: list[Tensor] = []

        def record(index: int, scoped: Tensor) -> Tensor:
            seen.append(adapter.blocks[index].activations(scoped))
            return adapter.blocks[index].project(seen[-1])

        embedded = adapter.embed(x)
        through(adapter, embedded, record)
        return embedded, *seen

    x = problem.images[images]
    (embedded, *_), (_, *speeds) = push(activations, x * alpha.view(-1, 1, 1, 1), x)
    gradients = live_gradients(problem, embedded, images)
    blocks = zip(adapter.blocks, gradients, speeds, strict=True)
    return [block.per_neuron((block.pullback(gradient) * speed).sum(1)) for block, gradient, speed in blocks]
