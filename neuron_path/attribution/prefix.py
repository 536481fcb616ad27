"""The frozen graph of a growing path: what is common to the two ways of carrying its visited blocks.

Blocks are *opened* (their candidates can be rated), then *chosen* (their path neurons are fixed), one after another.
Both ways give the same numbers: `TangentPrefix` carries a forward-mode tangent and needs a backward over later blocks
only; `ReversePrefix` keeps tokens apart, which one tangent cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem, Sequences


class Prefix(ABC):
    """Visited blocks of the frozen graph, at all quadrature nodes, for the images of one problem.

    The *path sum* is Σ_l Σ_i ∂f/∂a_{l,j_{l,i}} over the chosen neurons of visited blocks, where f is the target
    function.

    Args:
        problem: images, targets, model and quadrature.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.adapter = problem.adapter
        self.scope = problem.scope
        alpha, weights = problem.nodes()
        self.sequences = Sequences(alpha, weights, problem.n_images, problem.micro_batch)
        self.depth = 0

    @abstractmethod
    def candidate_gradients(
        self, rows: Int[Tensor, "b"] | None = None
    ) -> tuple[Float[Tensor, "*terms b S"], Float[Tensor, "*terms b S D"]]:
        """With the whole next block scaled: the integrals of the path sum and of ∂f/∂z of that block's projection.

        Args:
            rows: of these images only.
        """

    @abstractmethod
    def choose(self, neurons: Int[Tensor, "B k"]) -> None:
        """Fix the next block's path neurons and pass on to the block after it."""

    @abstractmethod
    def path_gradient(self) -> Float[Tensor, "*terms B S"]:
        """Behind the chosen blocks: the integral of the path sum per token.

        A tangent cannot tell tokens apart: it gives their sum (where they are pooled: the sum of their means), S = 1.
        """

    def _written(
        self, index: int, neurons: Int[Tensor, "B k"]
    ) -> tuple[Float[Tensor, "B S D"], Float[Tensor, "B _s D"]]:
        """What path neurons add to their block's projection: at their clean activations, and per unit of the path sum,
        the same at every token unless neurons are gated."""
        block = self.adapter.blocks[index]
        places = block.places(neurons)
        columns, w = block.columns(places), self.problem.clean.chosen(index, places)
        n_pooled = w.shape[1] if self.scope.pooled else 1
        written = w @ columns
        return written, (written if self.adapter.gated else columns.sum(1, keepdim=True)) / n_pooled
