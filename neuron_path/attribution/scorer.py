"""The seam between rating neurons and searching paths.

A scorer is a small frozen dataclass of options in `neuron_path.attribution.scorers`, registered by name. A search
starts it on a problem and asks it, block by block, for the scores of all candidates; one that rates blocks on their
own simply has them all at hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import PathScores, converged_scores
from neuron_path.registry import Registry


@runtime_checkable
class Scoring(Protocol):
    """A scorer at work on one problem."""

    def candidates(self, index: int, rows: Int[Tensor, "b"] | None = None) -> Float[Tensor, "*terms b F"]:
        """Scores of every neuron of block `index`, given the choices made so far; larger is better.

        With the `adaptive` rule four terms: the scores, and what tells their error (`integration_error`).

        Args:
            index: the block.
            rows: of these images only.
        """
        ...

    def choose(self, index: int, neurons: Int[Tensor, "B k"]) -> None:
        """Take note of the choice in block `index`. Blocks come in order."""
        ...

    def path_scores(self, paths: Int[Tensor, "B L k"]) -> PathScores:
        """Final scores of `paths`, which has just been chosen."""
        ...


class Scorer(ABC):
    """Options of a way to rate neurons; `start` puts it to work. Its `name` is the one it is registered under.

    Attributes:
        blockwise: whether it rates each block on its own, whatever was chosen before.
        by_nodes: whether its ratings are integrals over the problem's nodes; else it is much cheaper.
        in_double: whether it works in float64 whatever the model's type, because float32 would lose its ratings.
        shortlist: at most how many neurons of a block it rates; None: all. The ratings of the others are −∞.
        for_heads: whether it can rate attention heads.
        keeps_every_block: whether it holds something of every block for each sequence until the integral is taken.
        reference: the scorer whose paths it needs, in `Problem.reference`; None: none.
    """

    name: ClassVar[str]
    blockwise: ClassVar[bool] = True
    by_nodes: ClassVar[bool] = True
    in_double: ClassVar[bool] = False
    for_heads: ClassVar[bool] = True
    keeps_every_block: ClassVar[bool] = False
    shortlist: int | None = None
    reference: str | None = None

    @abstractmethod
    def start(self, problem: Problem) -> Scoring:
        """Begin with the images of one problem."""


@dataclass
class BlockwiseScoring:
    """The scoring of a method that rates each block on its own, whatever was chosen before."""

    problem: Problem
    scores: Sequence[Float[Tensor, "*terms B F"]]

    def candidates(self, index: int, rows: Tensor | None = None) -> Tensor:
        """Scores of block `index`."""
        return self.scores[index] if rows is None else self.scores[index][..., rows, :]

    def choose(self, index: int, neurons: Tensor) -> None:
        """Nothing depends on earlier choices."""

    def path_scores(self, paths: Tensor) -> PathScores:
        """Both scores of the path, with as many nodes as it needs."""
        return converged_scores(self.problem, paths)


scorers: Registry[Scorer] = Registry("scorer", "neuron_path.attribution.scorers")
