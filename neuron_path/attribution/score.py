"""The final score of given paths: the joint attribution score or its complete variant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.reverse import ReversePrefix
from neuron_path.attribution.tangent import TangentPrefix
from neuron_path.types import Measure


def make_prefix(problem: Problem, measure: Measure = "joint", *, at_zero: bool = False) -> Prefix:
    """The faster way of carrying the prefix: a tangent, unless the measure needs several tokens kept apart."""
    tangent = measure == "complete" or one_sum(problem)
    return (TangentPrefix if tangent else ReversePrefix)(problem, measure, at_zero=at_zero)


def one_sum(problem: Problem) -> bool:
    """Whether the joint measure needs no two tokens kept apart: one tangent then gives the final score."""
    return problem.scope.pooled or problem.clean.projected[0].shape[1] == 1


def activation_sum(problem: Problem, neurons: Sequence[Int[Tensor, "B _k"]]) -> Float[Tensor, "B S"]:
    """W: the clean activations of the chosen neurons, block by block from the first, per token in scope (pooled tokens:
    one mean)."""
    return torch.stack([problem.chosen_sum(index, chosen) for index, chosen in enumerate(neurons)]).sum(0)


def joint_score(problem: Problem, prefix: Prefix, paths: Int[Tensor, "B L k"]) -> Float[Tensor, "*terms B"]:
    """JAS(P) = mean over tokens of (Σ w) · ∫ Σ ∂f/∂a dα, from a prefix in which `paths` is chosen throughout."""
    return partial_score(problem, prefix, paths.unbind(1), "joint")


def partial_score(
    problem: Problem, prefix: Prefix, neurons: Sequence[Int[Tensor, "B _k"]], measure: Measure
) -> Float[Tensor, "*terms B"]:
    """The score of paths through the first blocks, chosen in the prefix; the blocks behind them are live."""
    gradient = prefix.path_gradient()[0]
    return (activation_sum(problem, neurons) * gradient).mean(-1) if measure == "joint" else gradient.sum(-1)


def path_score(
    problem: Problem, paths: Int[Tensor, "B L k"], measure: Measure = "joint"
) -> tuple[Float[Tensor, "*terms B"], Float[Tensor, "B"] | None]:
    """Scores of given paths at the problem's nodes; see `score`."""
    complete = measure == "complete"
    prefix = make_prefix(problem, measure, at_zero=complete)
    for index in range(len(problem.adapter.blocks)):
        prefix.choose(paths[:, index])
    if not complete:
        return joint_score(problem, prefix, paths), None
    gradient, values = prefix.path_gradient()
    attribution = gradient.sum(-1)
    clean = problem.target_values(problem.clean.logits, problem.every_image)
    return attribution, integral(attribution, 1) - (clean - values[-1])


def score(
    problem: Problem, paths: Int[Tensor, "B L k"], measure: Measure = "joint"
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"] | None]:
    """Scores of given paths; for `complete` also the convergence delta, Σ attributions − (f(clean) − f(zeroed)).

    Cls scope and `complete`: one forward-mode pass. Joint in patch scope: one forward and one backward. The `adaptive`
    rule scores again, with twice the nodes, where the estimated error exceeds its tolerance.
    """
    terms, delta = path_score(problem, paths, measure)
    scores, finer = integral(terms, 1), problem.quadrature.finer()
    if finer is None:
        return scores, delta
    rows = (integration_error(terms, problem.quadrature.n_steps) > finer.tolerance * scores.abs()).nonzero().squeeze(1)
    if not len(rows):
        return scores, delta
    again, its_delta = score(problem.take(rows, finer), paths[rows], measure)
    scores = scores.index_copy(0, rows, again)
    return scores, delta if delta is None or its_delta is None else delta.index_copy(0, rows, its_delta)
