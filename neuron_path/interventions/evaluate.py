"""Everything that is measured of given paths, for one chunk of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.exactness import exactness, lead, settled
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.score import path_scores
from neuron_path.attribution.target import PROBABILITY, Target
from neuron_path.interventions.edited import donate, edited_logits
from neuron_path.interventions.operations import KeepOnly, MeanAblation, Operation, Scale, check_operation, factor_of
from neuron_path.models.session import Session

_OF_DONORS = Target("logit")


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
class Subject:
    """The paths of one method on B images.

    Attributes:
        paths: (B, L, k).
        is_scored: whether their complete score is known, and not to be computed.
    """

    paths: Int[Tensor, "B L k"]
    is_scored: bool = False


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
    target: Target = PROBABILITY

    def measure(
        self,
        session: Session,
        images: Float[Tensor, "B c H W"],
        targets: Int[Tensor, "B"] | None,
        subjects: Sequence[Subject],
        micro_batch: int,
        donors: Float[Tensor, "B c H W"] | None = None,
        rounding: Float[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "B C"], list[Measured]]:
        """The clean logits, and what is measured of each method's paths; call it within `session.active()`.

        Args:
            session: the model.
            images: preprocessed.
            targets: classes; None takes the predicted ones.
            subjects: the paths of each method.
            micro_batch: sequences per pass of the score.
            donors: preprocessed, one for each image, of a resample-ablation.
            rounding: how much float32 rounds on each image, where the search has measured it.
        """
        resampled = any(one.operation == "resample_ablation" for one in self.interventions)
        assert donors is not None or not resampled, "donors are needed"
        given = donors if donors is not None and resampled else images[:0]
        quadrature = self.quadrature or Quadrature("midpoint", 1)

        def values(
            session: Session, images: Tensor, targets: Tensor | None, subjects: Sequence[Subject], donors: Tensor
        ) -> tuple[Problem, Problem | None, list[Tensor]]:
            adapter, settings = session.adapter, (quadrature, micro_batch, self.target)
            problem = Problem.pose(adapter, session.images(images), targets, *settings, nudged=rounding is None)
            lenders = None
            if len(donors):  # a donor has no target: any function of its logits tells how much it rounds
                lenders = Problem.pose(adapter, session.images(donors), None, quadrature, micro_batch, _OF_DONORS)
            embedded = problem.clean.embedded if lenders is None else lenders.clean.embedded
            measured = [value for one in subjects for value in self._values(problem, one, embedded)]
            return problem, lenders, [problem.clean.logits, *measured]

        problem, lenders, first = values(session, images, targets, subjects, given)
        exact = exactness(problem, rounding)
        if exact is not None:
            doubtful = exact.blurs_scores
            if lenders is not None and (theirs := exactness(lenders)) is not None:
                doubtful |= theirs.blurs_scores
            for value in first:
                if value.ndim == 2:
                    doubtful |= lead(value) < exact.close_call

            def again(double: Session, rows: Tensor) -> list[Tensor]:
                own = problem.targets[rows].to(double.device)
                chosen = [replace(one, paths=one.paths[rows].to(double.device)) for one in subjects]
                seen, lent = (part[rows.to(part.device)] if len(part) else part for part in (images, given))
                return values(double, seen, own, chosen, lent)[2]

            first = settled(session, first, doubtful, again)
        clean, *rest = first
        following = iter(rest)
        return clean, [self._measured(one, following) for one in subjects]

    def _values(self, problem: Problem, subject: Subject, donors: Tensor) -> list[Tensor]:
        """Of one method: the complete score and its delta where they are wanted, then logits by each intervention."""
        found: list[Tensor] = []
        if self._is_rated(subject):
            scored = path_scores(problem, subject.paths)
            assert scored.complete is not None
            assert scored.deltas is not None
            found += [scored.complete, scored.deltas]
        edited = (self._edited(one, problem, subject.paths[:, :, : one.size], donors) for one in self.interventions)
        return [*found, *edited]

    def _edited(self, one: Intervention, problem: Problem, paths: Tensor, donors: Tensor) -> Tensor:
        """Logits with the paths edited."""
        operation: Operation
        if one.operation == "mean_ablation":
            assert self.means is not None, "means are needed"
            operation = self.means
        elif one.operation == "resample_ablation":
            operation = donate(problem.adapter, donors, paths, one.tokens)
        elif one.operation == "keep_only":
            operation = KeepOnly()
        else:
            operation = Scale(factor_of(one.operation, one.factor))
        return edited_logits(problem, paths, operation, one.tokens)

    def _measured(self, subject: Subject, values: Iterator[Tensor]) -> Measured:
        """One method's share of the values, in the order of `_values`."""
        scores = (next(values), next(values)) if self._is_rated(subject) else (None, None)
        return Measured(*scores, [next(values) for _ in self.interventions])

    def _is_rated(self, subject: Subject) -> bool:
        return self.quadrature is not None and not subject.is_scored
