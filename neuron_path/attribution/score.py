"""The final score of given paths: the joint attribution score and its complete variant."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.objective import Along, Objective
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.reverse import ReversePrefix
from neuron_path.attribution.tangent import TangentPrefix

# Two Gauss nodes on [0, 1] and the three that Kronrod adds to them, with the weights of all five.
NODES = tuple(0.5 + 0.5 * x for x in (-(3**-0.5), 3**-0.5, -((6 / 7) ** 0.5), 0.0, (6 / 7) ** 0.5))
_WEIGHTS = (27 / 110, 27 / 110, 49 / 495, 14 / 45, 49 / 495)
# Of the score of a path that no integral has led to: its estimated relative error.
_TOLERANCE = 2e-2
FEWEST = 2  # nodes of such a path
_DIGITS_LOST = 1000  # a difference of f that is fewer units in the last place of f is not told from rounding


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


def make_prefix(problem: Problem) -> Prefix:
    """The faster way of carrying the prefix: a tangent, unless several tokens must be kept apart."""
    return TangentPrefix(problem) if one_sum(problem) else ReversePrefix(problem)


def one_sum(problem: Problem) -> bool:
    """Whether no two tokens need be kept apart: one tangent then gives the joint score."""
    return problem.scope.pooled or problem.clean.projected[0].shape[1] == 1


def joint_score(problem: Problem, prefix: Prefix, paths: Int[Tensor, "B L k"]) -> PathScores:
    """JAS(P) = mean over tokens of (Σ w) · ∫ Σ ∂f/∂a dα, from a prefix in which `paths` is chosen throughout."""
    weight = torch.stack([problem.chosen_sum(index, neurons) for index, neurons in enumerate(paths.unbind(1))]).sum(0)
    return PathScores.of((weight * prefix.path_gradient()).mean(-1), problem.quadrature.n_steps)


def path_scores(problem: Problem, paths: Int[Tensor, "B L k"], *, complete: bool = True) -> PathScores:
    """Scores of given paths at the problem's nodes: one forward and one backward pass of the frozen graph each.

    The complete score comes from the same passes, its delta from one more forward pass, unless it is not wanted. With
    the `adaptive` rule paths whose estimated error exceeds the tolerance are scored again with twice the nodes.
    """
    alpha, weights = problem.nodes()
    terms = Objective(problem).along(problem.every_image, paths, alpha).integrals(weights)
    found = PathScores.of(terms.joint, problem.quadrature.n_steps)
    if complete:
        whole = integral(terms.complete, 1)
        found = found._replace(complete=whole, deltas=whole - _fallen(problem, paths))
    finer = problem.quadrature.finer()
    if finer is None or found.errors is None:
        return found
    rows = (found.errors > finer.tolerance * found.joint.abs()).nonzero().squeeze(1)
    if not len(rows):
        return found
    return found.put(rows, path_scores(problem.take(rows, finer), paths[rows], complete=complete))


def converged_scores(
    problem: Problem, paths: Int[Tensor, "B L k"], *, complete: bool = True, known: Along | None = None
) -> PathScores:
    """Scores of paths that no integral has led to, with as many nodes as each needs for its error to be small.

    Two Gauss nodes first; where these leave too large an error, the three that Kronrod adds to them; and where that is
    not enough, the rule itself. Rules that do not converge, or have fewer nodes, are taken as they are. The error of
    the joint score is estimated from the nodes. With the complete score it is, as a share, no less than the delta is of
    that, which is known: f(clean) − f(path zeroed) takes one forward pass.

    Args:
        problem: the images.
        paths: one of each.
        complete: whether the complete score is wanted too, which may need more nodes: its terms may cancel.
        known: what is integrated at the first of NODES, one or both, where a search has left it.
    """
    rule = problem.quadrature
    if not rule.is_adaptive and (rule.rule != "gauss_legendre" or rule.n_steps < len(NODES)):
        return path_scores(problem, paths, complete=complete)
    tolerance = rule.tolerance if rule.is_adaptive else _TOLERANCE
    objective, every = Objective(problem), problem.every_image
    fallen = _fallen(problem, paths) if complete else None
    nodes = torch.tensor(NODES, dtype=torch.float64).to(problem.clean.embedded)
    n_known = 0 if known is None else len(known.joint)
    two = known if known is not None and n_known == 2 else objective.along(every, paths, nodes[n_known:2])
    if known is not None and n_known == 1:
        two = known.with_more(two)
    joint, whole = two.integrals(nodes.new_tensor([0.5, 0.5]))
    # c₁ of the Legendre series, whose coefficients fall as ρ^k: two nodes miss c₀ ρ⁴ = c₁ (c₁/c₀)³.
    bend = 3**0.5 / 2 * (two.joint[1] - two.joint[0]).abs()
    missed = bend * _share(bend, joint) ** 3
    found = _estimated(problem, joint, whole, fallen, missed, 2)
    rows = _rough(found, tolerance)
    if not len(rows):
        return found
    five = two.take(rows).with_more(objective.along(rows, paths[rows], nodes[2:]))
    better, whole = five.integrals(torch.tensor(_WEIGHTS, dtype=torch.float64).to(nodes))
    # The rule of five misses about the square of what that of two does, as a share; a power of 1.5 is on the safe side.
    difference = (better - joint[rows]).abs()
    missed = difference * _share(difference, better).sqrt()
    some = problem.take(rows, rule)
    fallen = None if fallen is None else fallen[rows]
    found = found.put(rows, _estimated(some, better, whole, fallen, missed, len(NODES)))
    left = _rough(found, tolerance)
    if not len(left):
        return found
    more = rule.finer() if rule.n_steps < len(NODES) else None
    last = problem.take(left, more or rule)
    again = path_scores(last, paths[left], complete=complete)
    if again.errors is None:
        dropped = None if again.complete is None or again.deltas is None else again.complete - again.deltas
        again = _estimated(last, again.joint, again.complete, dropped, torch.zeros_like(again.joint), rule.n_steps)
    return found.put(left, again)


def _fallen(problem: Problem, paths: Int[Tensor, "B L k"]) -> Float[Tensor, "B"]:
    """f(clean) − f(path zeroed), in the frozen graph."""
    clean = problem.target_values(problem.clean.logits, problem.every_image)
    return clean - Objective(problem).zeroed(paths)


def _estimated(
    problem: Problem, joint: Tensor, complete: Tensor | None, fallen: Tensor | None, missed: Tensor, n_steps: int
) -> PathScores:
    """Scores with their errors: what the nodes tell, or what is missing from the complete score where that is more."""
    n_nodes = torch.full_like(joint, n_steps, dtype=torch.int64)
    if complete is None or fallen is None:
        return PathScores(joint, missed, n_nodes)
    deltas = complete - fallen
    clean = problem.target_values(problem.clean.logits, problem.every_image)
    # A difference of two nearly equal values is rounding, and tells nothing.
    is_known = fallen.abs() > _DIGITS_LOST * torch.finfo(fallen.dtype).eps * clean.abs()
    known = torch.where(is_known, joint.abs() * _share(deltas, fallen), 0.0)
    return PathScores(joint, torch.maximum(missed, known), n_nodes, complete, deltas)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """|part / whole|, 1 at most."""
    return (part.abs() / whole.abs().clamp(min=torch.finfo(whole.dtype).tiny)).clamp(max=1)


def _rough(scored: PathScores, tolerance: float) -> Int[Tensor, "b"]:
    """Paths whose error is not small; NaN is not."""
    assert scored.errors is not None
    return (~(scored.errors <= tolerance * scored.joint.abs())).nonzero().squeeze(1)
