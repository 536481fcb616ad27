"""Everything that is measured of given paths, for one chunk of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.score import score
from neuron_path.attribution.trust import CLOSE_CALL, lead, needs_double, settled
from neuron_path.interventions.edited import donate, edited_logits
from neuron_path.interventions.operations import KeepOnly, MeanAblation, Operation, Scale, check_operation, factor_of
from neuron_path.models.session import Session


@dataclass(frozen=True)
class Intervention:
    """One way to edit a path.

    Args:
        operation: its name.
        factor: of `enhance`; None is the operation's own.
        tokens: "scope" or "all".
        size: how many of the path's neurons to edit in each block, the first ones; None: all.

    Raises:
        NeuronPathError: no such operation or tokens, or a factor that it does not take.
    """

    operation: str
    factor: float | None = None
    tokens: str = "scope"
    size: int | None = None

    def __post_init__(self) -> None:
        check_operation(self.operation, self.tokens)
        if self.factor is not None:
            factor_of(self.operation, self.factor)


@dataclass(frozen=True)
class Measured:
    """What is measured of the paths of one method.

    Attributes:
        complete: (B,) the complete score, or None where it was not asked for.
        convergence_delta: (B,) its delta.
        logits: for each intervention (B, C).
    """

    complete: Float[Tensor, "B"] | None
    convergence_delta: Float[Tensor, "B"] | None
    logits: list[Float[Tensor, "B C"]]


@dataclass(frozen=True)
class Evaluator:
    """Measures the effects of interventions on given paths, and their complete scores.

    Images on which float32 is not to be trusted, or of which an edited prediction is in doubt, are measured in float64.

    Args:
        interventions: what to do to every path.
        means: of a mean-ablation.
        quadrature: of the complete score; None leaves it out.
        target: the function that it attributes.
    """

    interventions: Sequence[Intervention]
    means: MeanAblation | None = None
    quadrature: Quadrature | None = None
    target: str = "probability"

    def measure(
        self,
        session: Session,
        images: Float[Tensor, "B c H W"],
        targets: Int[Tensor, "B"] | None,
        paths: Sequence[Int[Tensor, "B L k"]],
        micro_batch: int,
        donors: Float[Tensor, "B c H W"] | None = None,
    ) -> tuple[Float[Tensor, "B C"], list[Measured]]:
        """The clean logits, and what is measured of each method's paths; call it within `session.active()`.

        Args:
            session: the model.
            images: preprocessed.
            targets: classes; None takes the predicted ones.
            paths: of each method.
            micro_batch: sequences per pass of the score.
            donors: preprocessed, one for each image, of a resample-ablation.
        """
        resampled = any(one.operation == "resample_ablation" for one in self.interventions)
        assert donors is not None or not resampled, "donors are needed"
        given = donors if donors is not None and resampled else images[:0]
        quadrature = self.quadrature or Quadrature("midpoint", 1)

        def values(
            session: Session, images: Tensor, targets: Tensor | None, paths: list[Tensor], donors: Tensor
        ) -> tuple[list[Problem], list[Tensor]]:
            settings = (quadrature, micro_batch, self.target)
            problem = Problem.pose(session.adapter, session.images(images), targets, *settings)
            posed = [problem]
            if len(donors):
                posed.append(Problem.pose(session.adapter, session.images(donors), None, *settings))
            return posed, [problem.clean.logits, *self._values(problem, paths, posed[-1].clean.embedded)]

        posed, first = values(session, images, targets, list(paths), given)
        problem, doubtful = posed[0], torch.stack([needs_double(one) for one in posed]).any(0)
        for value in first:
            if value.ndim == 2:
                doubtful |= lead(value) < CLOSE_CALL

        def again(double: Session, rows: Tensor) -> list[Tensor]:
            own, *chosen = (part[rows].to(double.device) for part in (problem.targets, *paths))
            seen, lent = (part[rows.to(part.device)] if len(part) else part for part in (images, given))
            return values(double, seen, own, chosen, lent)[1]

        clean, *rest = settled(session, first, doubtful, again)
        return clean, [self._measured(rest) for _ in paths]

    def _values(self, problem: Problem, paths: list[Tensor], donors: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for path in paths:
            if self.quadrature is not None:
                found += [value for value in score(problem, path, "complete") if value is not None]
            found += [self._edited(one, problem, path[:, :, : one.size], donors) for one in self.interventions]
        return found

    def _edited(self, one: Intervention, problem: Problem, paths: Tensor, donors: Tensor) -> Tensor:
        """Logits with the paths edited."""
        adapter = problem.adapter
        operation: Operation
        if one.operation == "mean_ablation":
            assert self.means is not None, "means are needed"
            operation = self.means
        elif one.operation == "resample_ablation":
            operation = donate(adapter, donors, paths, one.tokens)
        elif one.operation == "keep_only":
            operation = KeepOnly()
        else:
            operation = Scale(factor_of(one.operation, one.factor))
        return edited_logits(adapter, problem.clean.embedded, paths, operation, one.tokens)

    def _measured(self, values: list[Tensor]) -> Measured:
        """The first method's share of the values, which are taken out."""
        scores = (values.pop(0), values.pop(0)) if self.quadrature is not None else (None, None)
        return Measured(*scores, [values.pop(0) for _ in self.interventions])
