"""What searching costs, counted and not timed, so that a budget allows the same on every machine and in every batch."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import one_sum

# Of a block's arithmetic at one token, what its FFN takes at the usual width of 4 · D.
_FFN = 2 / 3


@dataclass(frozen=True)
class Prices:
    """Costs in units of the greedy search by the paper's scorer, of one image at all its nodes.

    A block's forward pass counts 1, going back through it another 1, and so does carrying a tangent through it. A
    visited block is run without its FFN at the tokens in scope.

    Attributes:
        n_blocks: L.
        visited: a visited block relative to a live one.
        by_tangent: whether a tangent carries the prefix; else each score goes back through all visited blocks.
    """

    n_blocks: int
    visited: float
    by_tangent: bool

    @staticmethod
    def of(problem: Problem) -> Prices:
        """The prices of a problem."""
        n_scoped, n_tokens = problem.clean.projected[0].shape[1], problem.clean.embedded.shape[1]
        share = min(1.0, n_scoped / n_tokens)
        return Prices(len(problem.adapter.blocks), 1 - _FFN * share, one_sum(problem))

    @property
    def path(self) -> float:
        """Rating a whole path: forward and back through L visited blocks."""
        return 2 * self.n_blocks * self.visited / self._greedy

    def candidate(self, index: int) -> float:
        """Rating all candidates of a block, or scoring one of them exactly with the blocks behind it live."""
        return self._behind(index) / self._greedy

    def swap(self, index: int) -> float:
        """Scoring a path that differs in one block from one whose prefix is at hand."""
        n_run = self.n_blocks - 1 - index if self.by_tangent else self.n_blocks
        return 2 * n_run * self.visited / self._greedy

    def _behind(self, index: int) -> float:
        back = 0.0 if self.by_tangent else index * self.visited
        return 2 * (self.n_blocks - 1 - index) + back

    @property
    def _greedy(self) -> float:
        prefix = (2 if self.by_tangent else 1) * self.n_blocks * self.visited
        return prefix + sum(self._behind(index) for index in range(self.n_blocks))
