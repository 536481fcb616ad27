"""What the searches have in common that maximise something of the whole path, and ask no scorer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.linear import Linear
from neuron_path.attribution.objective import Along
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.score import PathScores, converged_scores
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.interventions.operations import factor_of
from neuron_path.search.goal import EDITS, MEASURES, Anywhere, Effect, Goal, Score
from neuron_path.search.search import Doubt, Found, Search, Trail


@dataclass(frozen=True)
class Maximising(Search):
    """A search for the path with the largest final score or effect.

    Args:
        measure: "joint" or "complete", the final score in the frozen graph; "effect", the change of the target function
            when the path is edited in the live network: its fall, of "enhance" its rise.
        operation: the edit of "effect", by default "remove".
        factor: of "enhance"; None: 2.

    Raises:
        NeuronPathError: no such measure or operation, or an option that does not belong to the others.
    """

    measure: str = "joint"
    operation: str | None = None
    factor: float | None = None

    asks_scorer: ClassVar[bool] = False
    any_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown_name("measure", self.measure, MEASURES)
        if self.measure != "effect":
            for name in ("operation", "factor"):
                if getattr(self, name) is not None:
                    raise NeuronPathError(
                        f"search.{name} is {getattr(self, name)}, but measure={self.measure} edits nothing: use "
                        "search.measure=effect with it."
                    )
        elif self.operation is not None and self.operation not in EDITS:
            raise unknown_name("operation", self.operation, EDITS)
        elif self.factor is not None:
            factor_of(self.edit, self.factor)

    @property
    def edit(self) -> str:
        """The operation of "effect"; empty without."""
        return (self.operation or "remove") if self.measure == "effect" else ""

    @property
    def maximises(self) -> str:
        return f"effect of {self.edit}" if self.measure == "effect" else self.measure

    @property
    def borrows(self) -> str | None:
        return {"mean_ablation": "reference_images", "resample_ablation": "donor_images"}.get(self.edit)

    def n_rated(self, n_blocks: int) -> int:
        """The model around a path holds its neurons' activations too."""
        return 8

    @abstractmethod
    def run(
        self,
        problem: Problem,
        scorer: Scorer,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found: ...

    def goal(self, problem: Problem, n_steps: int = 1, *, per_block: bool = True) -> Goal:
        """What is maximised, on the images of a problem, with so many nodes on the way."""
        goal: Goal
        if self.measure == "effect":
            goal = Effect(problem, self.edit, n_steps, self.factor)
        else:
            goal = Score(problem, "joint" if self.measure == "joint" else "complete", n_steps)
        return goal if per_block else Anywhere(goal)

    def found(
        self,
        goal: Goal,
        paths: Int[Tensor, "B L k"],
        values: Float[Tensor, "B"],
        *,
        passes: Int[Tensor, "B"],
        clearance: Float[Tensor, "B"],
        margins: Float[Tensor, "B L"] | None = None,
        candidates: Float[Tensor, "B G"] | None = None,
        along: Float[Tensor, "B 2 m"] | None = None,
        trail: Trail | None = None,
        draft: Found | None = None,
        keep_candidates: bool,
    ) -> Found:
        """The result: neurons in order, both scores, and what the model around the paths tells.

        Args:
            goal: what was maximised.
            paths, values: the best paths and their values; with margins each block's neurons in order.
            passes: that it took.
            clearance: the closest call.
            margins: see `PathResult`; None: they and the candidates are told now.
            candidates: as `candidates_of` the model around the paths.
            along: of the paths, see `Rating`; None: nothing of it is known.
            trail: what led to them.
            draft: paths whose scores are taken over if these are the same.
            keep_candidates: whether the values with each neuron swapped in are kept.
        """
        problem = goal.problem
        if margins is None:
            model = goal.rate(problem.every_image, paths).model
            paths = model.in_order(paths)
            margins, candidates = model.margins(paths), candidates_of(model, paths)
        widths = [block.n_neurons for block in problem.adapter.blocks]
        paths, margins = goal.in_blocks(paths), margins.expand(-1, len(widths))
        if draft is not None and torch.equal(paths, draft.paths):
            scored = draft.scored
        else:
            scored = self._scored(problem, paths, None if along is None else Along(*along.movedim(0, 2)))
        return Found(
            paths=paths,
            scored=scored,
            margins=margins,
            clearance=clearance.unsqueeze(1).expand_as(margins),
            resolution=margins.new_full(margins.shape, float("inf")),
            candidates=list(candidates.split(widths, 1)) if keep_candidates and candidates is not None else None,
            objectives=self._value(scored, values),
            passes=passes,
            trail=trail,
        )

    def revise(
        self,
        problem: Problem,
        scorer: Scorer,
        draft: Found,
        doubt: Doubt,
        *,
        top_k: int = 1,
        per_block: bool = True,
        keep_candidates: bool = False,
    ) -> Found:
        """Search again where a choice is in doubt, which depends on all before; else only score again."""
        if doubt.blocks.any():
            return self.run(problem, scorer, top_k=top_k, per_block=per_block, keep_candidates=keep_candidates)
        scored, values = self._scored(problem, draft.paths), None
        if self.measure == "effect":
            values = self.goal(problem).exactly(problem.every_image, draft.paths)
        return replace(draft, scored=scored, objectives=self._value(scored, values))

    def _scored(self, problem: Problem, paths: Tensor, known: Along | None = None) -> PathScores:
        """Final scores; the complete one comes along where it is maximised, and tells the adaptive rule its error."""
        complete = self.measure != "joint" or problem.quadrature.is_adaptive
        return converged_scores(problem, paths, complete=complete, known=known)

    def _value(self, scored: PathScores, value: Tensor | None) -> Tensor | None:
        """What was maximised: a score by as many nodes as it takes, or a value that is exact."""
        return {"joint": scored.joint, "complete": scored.complete}.get(self.measure, value)


def candidates_of(model: Linear, paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n G"]:
    """The model's values of the paths with each neuron swapped in, of all blocks side by side; see `Linear`."""
    return torch.cat([scores for scores, _ in model.candidates(paths)], 1)
