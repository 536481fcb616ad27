"""Baseline: guided influence patterns, a greedy chain of derivatives (Lu et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward_mode import push
from neuron_path.attribution.live import live_gradients
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.score import PathScores, converged_scores
from neuron_path.attribution.scorer import Scorer, scorers


@scorers.register("guided_influence_pattern")
@dataclass(frozen=True)
class GuidedInfluencePattern(Scorer):
    """∫ (Π_{n<l} ∂a_n/∂a_{n−1}) · ∂a_j/∂a_{l−1} · ∂f/∂a_j dα along the chosen neurons, at the inputs α·x, all live.

    Where several tokens are in scope the factors are Jacobians between tokens, summed over the tokens at both ends;
    where a block has several chosen neurons, over the chains through all of them. In float64: a product of many small
    factors is no place for float32.
    """

    blockwise = False
    in_double = True

    for_heads: ClassVar[bool] = False
    keeps_every_block: ClassVar[bool] = True

    def start(self, problem: Problem) -> GuidedInfluencePatternScoring:
        """Begin with the images of one problem."""
        return GuidedInfluencePatternScoring(problem)


class GuidedInfluencePatternScoring:
    """Greedy state: the live stream at every node, and its tangent along the chain."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._sequences = Sequences(*problem.nodes(), problem.n_images, problem.micro_batch)
        passes = [self._begin(images, alpha) for _, images, alpha in self._sequences.passes()]
        streams, gradients = zip(*passes, strict=True)
        self._gradients = [torch.cat(parts) for parts in zip(*gradients, strict=True)]
        self._h = torch.cat(streams)
        self._dh = torch.zeros_like(self._h)
        # Of the block that is open: residual, live tokens, activations, and how fast these change along the chain.
        self._block: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def candidates(self, index: int, rows: Tensor | None = None) -> Tensor:
        """Ratings of block `index`; every image's chain is led on, whichever rows are asked for."""
        *_, speeds = self._open(index)
        gradient = self.problem.adapter.blocks[index].pullback(self._gradients[index])
        scores = self._sequences.integrate((gradient * speeds).sum(1))
        return scores if rows is None else scores[..., rows, :]

    def choose(self, index: int, neurons: Tensor) -> None:
        """Lead the chain on through the chosen neurons alone."""
        block, scope = self.problem.adapter.blocks[index], self.problem.scope
        residual, live, activations, speeds = self._open(index)
        every = neurons.repeat(len(self._sequences.alpha), 1)
        speeds = speeds.gather(2, every.unsqueeze(1).expand(-1, speeds.shape[1], -1))
        z, dz = push(block.after, block.project(activations), speeds @ block.columns(every))
        self._h = scope.join(residual + z, live)
        self._dh = scope.join(dz, torch.zeros_like(live))
        self._block = None

    def path_scores(self, paths: Tensor) -> PathScores:
        """JAS of the path."""
        return converged_scores(self.problem, paths)

    def _begin(self, images: Int[Tensor, "n"], alpha: Float[Tensor, "n"]) -> tuple[Tensor, list[Tensor]]:
        """The stream that enters the first block, and ∂f/∂z of every block."""
        embedded = self.problem.adapter.embed(self.problem.images[images] * alpha.view(-1, 1, 1, 1))
        return embedded, live_gradients(self.problem, embedded, images)

    def _open(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lead stream and chain up to the block's neurons."""
        if self._block is None:
            passes = [self._advance(index, run) for run, _, _ in self._sequences.passes()]
            residual, live, activations, speeds = (torch.cat(parts) for parts in zip(*passes, strict=True))
            self._block = (residual, live, activations, torch.ones_like(speeds) if index == 0 else speeds)
        return self._block

    def _advance(self, index: int, run: slice | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        adapter = self.problem.adapter
        block = adapter.blocks[index]

        def cut(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            scoped, live = adapter.split(index, h)
            return block.residual(scoped), live, block.activations(scoped)

        values, tangents = push(cut, self._h[run], self._dh[run])
        return *values, tangents[2]
