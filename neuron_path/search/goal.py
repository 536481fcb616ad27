"""What a search maximises of a whole path: a score in the frozen graph, or an edit's effect in the live network.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.forward import through
from neuron_path.attribution.linear import Linear, Sum
from neuron_path.attribution.objective import Objective
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.score import FEWEST, NODES
from neuron_path.attribution.scorers.activation import activation
from neuron_path.interventions.operations import factor_of
from neuron_path.models.adapter import taken
from neuron_path.search.choice import in_blocks
from neuron_path.types import Measure

MEASURES = ("joint", "complete", "effect")
EDITS = ("remove", "mean_ablation", "resample_ablation", "enhance")
# Gauss–Radau on [0, 1] with a node at 1, where an edit is whole: nodes and weights.
_RADAU = {
    1: ((1.0,), (1.0,)),
    2: ((1 / 3, 1.0), (3 / 4, 1 / 4)),
    3: (((4 - 6**0.5) / 10, (4 + 6**0.5) / 10, 1.0), ((16 - 6**0.5) / 36, (16 + 6**0.5) / 36, 1 / 9)),
}


class Rating(NamedTuple):
    """n rated paths.

    Attributes:
        values: (n,) what is maximised.
        model: what it is to first order around them.
        along: (n, 2, m) the joint and the complete integrand at the first m of NODES, which their final score takes
            over; m = 0: nothing of use.
    """

    values: Float[Tensor, "n"]
    model: Linear
    along: Float[Tensor, "n 2 m"]


class Goal(ABC):
    """What is maximised on the images of one problem.

    Attributes:
        problem: the images.
        n_steps: nodes of a path that is rated with the model around it: each is a pass, forward and backward.
    """

    problem: Problem
    n_steps: int

    @abstractmethod
    def starts(self) -> Iterator[Linear]:
        """Models of the live network at the clean point, whose best paths are where a search may begin, the most
        promising first; the clean pass has left all that they take."""

    @abstractmethod
    def rate(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"]) -> Rating:
        """Rate paths of the images `rows`, in `n_steps` passes each."""

    @abstractmethod
    def values(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n"]:
        """The values alone."""

    @abstractmethod
    def exactly(self, rows: Int[Tensor, "n"], paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n"]:
        """The values alone, by the problem's own rule."""

    def in_blocks(self, paths: Int[Tensor, "n L k"]) -> Int[Tensor, "n L k"]:
        """The paths as lists of each block's neurons."""
        return paths


@dataclass(frozen=True)
class Anywhere(Goal):
    """The same goal for sets of k neurons of any blocks.

    A set is (n, 1, k): the neurons of all blocks, counted from the first block's first, are those of one block.

    Attributes:
        goal: for lists of each block's neurons.
    """

    goal: Goal

    @property
    def problem(self) -> Problem:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.goal.problem

    @property
    def n_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.goal.n_steps

    def starts(self) -> Iterator[Linear]:
        return (model.joined() for model in self.goal.starts())

    def rate(self, rows: Tensor, paths: Tensor) -> Rating:
        rating = self.goal.rate(rows, self.in_blocks(paths))
        return rating._replace(model=rating.model.joined())

    def values(self, rows: Tensor, paths: Tensor) -> Tensor:
        return self.goal.values(rows, self.in_blocks(paths))

    def exactly(self, rows: Tensor, paths: Tensor) -> Tensor:
        return self.goal.exactly(rows, self.in_blocks(paths))

    def in_blocks(self, paths: Tensor) -> Int[Tensor, "n L k"]:
        return in_blocks(paths[:, 0], [block.n_neurons for block in self.problem.adapter.blocks])


@dataclass(frozen=True)
class Score(Goal):
    """The final score, joint or complete.

    Attributes:
        problem: the images.
        measure: which one.
        n_steps: Gauss–Legendre nodes on the way; with one it is the first of two, where paths are told apart better
            than in the middle, and the final score needs the second only.
    """

    problem: Problem
    measure: Measure
    n_steps: int

    def starts(self) -> Iterator[Linear]:
        problem = self.problem
        yield Objective(problem, "complete").linear(problem.every_image, problem.clean_gradients)
        yield Sum(activation(problem))
        if self.measure == "joint":
            yield Objective(problem).linear(problem.every_image, problem.clean_gradients)

    def rate(self, rows: Tensor, paths: Tensor) -> Rating:
        objective = Objective(self.problem, self.measure)
        rated = objective.rate(rows, paths, *self._rule())
        along = torch.stack(rated.along).movedim(2, 0)
        if self.n_steps > FEWEST:
            along = along[:, :, :0]
        return Rating(rated.scores, objective.linear(rows, rated.gradients), along)

    def values(self, rows: Tensor, paths: Tensor) -> Tensor:
        return self._by(rows, paths, *self._rule())

    def exactly(self, rows: Tensor, paths: Tensor) -> Tensor:
        rule = self.problem.quadrature
        rule = Quadrature("gauss_legendre", rule.most_steps) if rule.is_adaptive else rule
        return self._by(rows, paths, *self.problem.nodes(rule))

    def _by(self, rows: Tensor, paths: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
        return getattr(Objective(self.problem).along(rows, paths, nodes).integrals(weights), self.measure)

    def _rule(self) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
        """Nodes and weights on the way."""
        nodes, weights = self.problem.nodes(Quadrature("gauss_legendre", self.n_steps))
        return (nodes.new_tensor(NODES[:1]), weights) if self.n_steps == 1 else (nodes, weights)


@dataclass(frozen=True)
class Effect(Goal):
    """The change of the target function when the path's neurons are edited in the live network.

    With t from 0 to 1 the path's activations go from a, which the edits before lead to, to b: a + t (b − a). Then
    f(edited) − f(clean) = Σ_P ∫ (b − a) · ∂f/∂a dt, exactly, and what each neuron adds to it is what the model sums.

    Attributes:
        problem: the images.
        operation: one of EDITS.
        n_steps: Gauss–Radau nodes on the way, 1 to 3. With one, at t = 1, the model tells what a neuron would add to
            the whole edit.
        factor: of "enhance"; None: its own.
    """

    problem: Problem
    operation: str
    n_steps: int
    factor: float | None = None

    @property
    def sign(self) -> int:
        """What counts is a rise by "enhance", a fall by the others."""
        return 1 if self.operation == "enhance" else -1

    def starts(self) -> Iterator[Linear]:
        problem, gains = self.problem, []
        for index, (block, gradient) in enumerate(zip(problem.adapter.blocks, problem.clean_gradients, strict=True)):
            change = self._change(index, problem.clean.activations[index], problem.every_image)
            gains.append(self.sign * block.per_neuron((change * block.pullback(gradient)).sum(1)))
        yield Sum(gains)
        yield Sum(activation(problem))

    def rate(self, rows: Tensor, paths: Tensor) -> Rating:
        nodes, weights = (
            torch.tensor(x, dtype=torch.float64).to(self.problem.clean.embedded) for x in _RADAU[self.n_steps]
        )
        values, gains = [], []
        for run in self._runs(rows, len(nodes)):
            edited, found = self._along(rows[run], paths[run], nodes, weights)
            values.append(edited)
            gains.append(found)
        every = [torch.cat(parts) for parts in zip(*gains, strict=True)]
        changed = self._changed(torch.cat(values), rows)
        return Rating(changed, Sum(every), changed.new_empty((len(rows), 2, 0)))

    def values(self, rows: Tensor, paths: Tensor) -> Tensor:
        return self.exactly(rows, paths)

    @torch.no_grad()
    def exactly(self, rows: Tensor, paths: Tensor) -> Tensor:
        one = torch.ones(1).to(self.problem.clean.embedded)
        values = [self._edited(rows[run], paths[run], one, [], []) for run in self._runs(rows, 1)]
        return self._changed(torch.cat(values), rows)

    def _runs(self, rows: Tensor, n_nodes: int) -> Sequence[Tensor]:
        return torch.arange(len(rows), device=rows.device).split(max(1, self.problem.micro_batch // n_nodes))

    def _changed(self, edited: Tensor, rows: Tensor) -> Float[Tensor, "n"]:
        return self.sign * (
            edited - self.problem.target_values(self.problem.clean.logits, self.problem.every_image)[rows]
        )

    def _along(
        self, rows: Tensor, paths: Tensor, nodes: Tensor, weights: Tensor
    ) -> tuple[Float[Tensor, "n"], list[Float[Tensor, "n F"]]]:
        """f with the whole edit, and what each neuron adds, of the paths of one pass."""
        changes: list[Tensor] = []
        projections: list[Tensor] = []
        with torch.enable_grad():
            values = self._edited(rows, paths, nodes, changes, projections)
            total = values.sum()
        gradients = torch.autograd.grad(total, projections)
        gains = []
        for block, change, gradient in zip(self.problem.adapter.blocks, changes, gradients, strict=True):
            added = block.per_neuron((change * block.pullback(gradient)).sum(1)).unflatten(0, (len(nodes), -1))
            gains.append(self.sign * torch.tensordot(weights, added, dims=1))
        return values.detach()[-len(rows) :], gains

    def _edited(
        self, rows: Tensor, paths: Tensor, nodes: Tensor, changes: list[Tensor], projections: list[Tensor]
    ) -> Float[Tensor, "N"]:
        """f at each t, node by node; per block b − a and the projection are appended to the lists."""
        problem, adapter = self.problem, self.problem.adapter
        images, t = rows.repeat(len(nodes)), nodes.repeat_interleave(len(rows)).view(-1, 1, 1)

        def project(index: int, u: Tensor) -> Tensor:
            block = adapter.blocks[index]
            places = block.places(paths[:, index]).repeat(len(nodes), 1)
            a = block.activations(u)
            change = self._change(index, a, images)
            changes.append(change.detach())
            chosen = taken(change, places)
            z = block.project(a) + t * (chosen @ block.columns(places))
            # No gradient is asked for before the first projection: there the graph begins.
            projections.append(z if projections or not torch.is_grad_enabled() else z.detach().requires_grad_())
            return projections[-1]

        scoped, live = (part[images] for part in problem.first_split)
        h = through(adapter, scoped, project, first=(scoped, live))
        return problem.target_values(adapter.head(h), images)

    def _change(self, index: int, a: Float[Tensor, "n S W"], rows: Int[Tensor, "n"]) -> Float[Tensor, "n S W"]:
        """b − a of every activation of a block."""
        if self.operation in ("remove", "enhance"):
            return (factor_of(self.operation, self.factor) - 1) * a
        replacements = self.problem.replacements
        assert replacements is not None, "images to borrow from are needed"
        b = replacements[index]
        return (b if len(b) == 1 else b[rows]) - a
