"""The final score of given paths: the joint attribution score and its complete variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.objective import Objective
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.reverse import ReversePrefix
from neuron_path.attribution.tangent import TangentPrefix
from neuron_path.types import Measure

# Of the score of a path that no integral has led to: its estimated relative error. The estimate is cautious; the
# errors themselves are some tens of times smaller (docs/performance.md, quadrature).
_TOLERANCE = 1e-2
FEWEST = 3  # nodes that tell their own error


class PathScores(NamedTuple):
    """Final scores of B paths, in units of the target function.

    Attributes:
        joint: (B,) joint attribution scores.
        errors: (B,) the estimated error of each as an integral; None where the rule gives none.
        n_steps: (B,) the quadrature nodes of each.
        complete: (B,) the complete variant; None where it did not come along.
        deltas: (B,) its convergence delta, Σ attributions − (f(clean) − f(path zeroed)); None as before.
    """

    joint: Float[Tensor, "B"]
    errors: Float[Tensor, "B"] | None
    n_steps: Int[Tensor, "B"]
    complete: Float[Tensor, "B"] | None = None
    deltas: Float[Tensor, "B"] | None = None

    @staticmethod
    def of(terms: Float[Tensor, "*terms B"], n_steps: int) -> PathScores:
        """Joint scores by `n_steps` nodes, of the `adaptive` rule (4, B) with what tells their error."""
        joint = integral(terms, 1)
        errors = None if terms.ndim == 1 else integration_error(terms, n_steps)
        return PathScores(joint, errors, torch.full_like(joint, n_steps, dtype=torch.int64))

    def take(self, rows: Int[Tensor, "b"], like: Tensor) -> PathScores:
        """Those of some paths, with floats of the type and device of `like`."""

        def taken(values: Tensor) -> Tensor:
            return values[rows].to(like) if values.is_floating_point() else values[rows].to(like.device)

        return PathScores(*(None if values is None else taken(values) for values in self))  # pyright: ignore[reportArgumentType]

    def where(self, chosen: Bool[Tensor, "B"], others: PathScores) -> PathScores:
        """These of the chosen paths, else the others."""
        pairs = zip(self, others, strict=True)
        return PathScores(*(None if a is None or b is None else torch.where(chosen, a, b.to(a)) for a, b in pairs))  # pyright: ignore[reportArgumentType]

    def put(self, rows: Int[Tensor, "b"], others: PathScores) -> PathScores:
        """The same with others in some rows."""
        pairs = zip(self, others, strict=True)
        return PathScores(*(None if a is None or b is None else a.index_copy(0, rows, b.to(a)) for a, b in pairs))  # pyright: ignore[reportArgumentType]


def make_prefix(problem: Problem, measure: Measure = "joint") -> Prefix:
    """The faster way of carrying the prefix: a tangent, unless the measure needs several tokens kept apart."""
    tangent = measure == "complete" or one_sum(problem)
    return (TangentPrefix if tangent else ReversePrefix)(problem, measure)


def one_sum(problem: Problem) -> bool:
    """Whether the joint measure needs no two tokens kept apart: one tangent then gives the final score."""
    return problem.scope.pooled or problem.clean.projected[0].shape[1] == 1


def activation_sum(problem: Problem, neurons: Sequence[Int[Tensor, "B _k"]]) -> Float[Tensor, "B S"]:
    """W: the clean activations of the chosen neurons, block by block from the first, per token in scope (pooled tokens:
    one mean)."""
    return torch.stack([problem.chosen_sum(index, chosen) for index, chosen in enumerate(neurons)]).sum(0)


def joint_score(problem: Problem, prefix: Prefix, paths: Int[Tensor, "B L k"]) -> PathScores:
    """JAS(P) = mean over tokens of (Σ w) · ∫ Σ ∂f/∂a dα, from a prefix in which `paths` is chosen throughout."""
    return PathScores.of(partial_score(problem, prefix, paths.unbind(1), "joint"), problem.quadrature.n_steps)


def partial_score(
    problem: Problem, prefix: Prefix, neurons: Sequence[Int[Tensor, "B _k"]], measure: Measure
) -> Float[Tensor, "*terms B"]:
    """The score of paths through the first blocks, chosen in the prefix; the blocks behind them are live."""
    gradient = prefix.path_gradient()
    return (activation_sum(problem, neurons) * gradient).mean(-1) if measure == "joint" else gradient.sum(-1)


def path_scores(
    problem: Problem,
    paths: Int[Tensor, "B L k"],
    *,
    complete: bool = True,
    fallen: Float[Tensor, "B"] | None = None,
) -> PathScores:
    """Scores of given paths at the problem's nodes: one forward and one backward pass of the frozen graph each.

    The complete score comes from the same passes, its delta from one more forward pass, unless it is not wanted.

    Of the `adaptive` rule the estimated error is that of the joint score, and as a share of it no less than the delta
    is of the complete score, which is an error that is known. Where it exceeds the tolerance, the path is scored again
    with twice the nodes.

    Args:
        problem: the images.
        paths: their paths.
        complete: whether the complete score is wanted.
        fallen: (B,) f(clean) − f(path zeroed), where it is known.
    """
    rated = Objective(problem).rate(problem.every_image, paths)
    found = PathScores.of(rated.terms, problem.quadrature.n_steps)
    if complete:
        whole = Objective(problem, "complete").of(rated)
        if fallen is None:
            clean = problem.target_values(problem.clean.logits, problem.every_image)
            fallen = clean - Objective(problem).zeroed(paths)
        found = found._replace(complete=whole, deltas=whole - fallen)
        if found.errors is not None:
            series = integration_error(rated.terms, problem.quadrature.n_steps, spare=0)
            known = (found.joint * (whole - fallen) / fallen).abs().nan_to_num(0)
            found = found._replace(errors=torch.maximum(series, known))
    finer = problem.quadrature.finer()
    if finer is None or found.errors is None:
        return found
    rows = (found.errors > finer.tolerance * found.joint.abs()).nonzero().squeeze(1)
    if not len(rows):
        return found
    left = None if fallen is None else fallen[rows]
    return found.put(rows, path_scores(problem.take(rows, finer), paths[rows], complete=complete, fallen=left))


def converged_scores(problem: Problem, paths: Int[Tensor, "B L k"]) -> PathScores:
    """Both scores of paths that no integral has led to, with as many nodes as each needs for its error to be small.

    A rule that converges (Gauss–Legendre, `adaptive`) begins with three nodes and ends with its own; the others are
    taken as they are, for their error is part of what is asked for.
    """
    rule = problem.quadrature
    if rule.rule == "gauss_legendre" and rule.n_steps > FEWEST:
        rule = Quadrature("adaptive", FEWEST, tolerance=_TOLERANCE, max_steps=rule.n_steps)
    elif rule.is_adaptive:
        rule = replace(rule, n_steps=FEWEST)
    return path_scores(replace(problem, quadrature=rule), paths)
