"""The two ways of carrying the visited blocks give the same numbers wherever both can."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.reverse import ReversePrefix
from neuron_path.attribution.tangent import TangentPrefix
from neuron_path.models.adapter import adapt
from neuron_path.types import Measure
from tests import tiny

CLS = [name for name, scope in tiny.CASES if scope == "cls"]


def pose(name: str, scope: str, images: Tensor, targets: Tensor, micro_batch: int = 100) -> Problem:
    adapter = adapt(tiny.make(name).requires_grad_(requires_grad=False), scope)
    return Problem.pose(adapter, images, targets, Quadrature("gauss_legendre", 4), micro_batch)


def walk(prefix: Prefix, paths: Tensor) -> list[Tensor]:
    """Everything a prefix tells on its way along given paths; path sums over all tokens in scope."""
    told = []
    for index in range(paths.shape[1]):
        path_sum, gradient = prefix.candidate_gradients()
        told += [path_sum.sum(1), gradient]
        prefix.choose(paths[:, index])
    path_sum, probabilities = prefix.path_gradient()
    return [*told, path_sum.sum(1), probabilities]


@torch.no_grad()
@pytest.mark.parametrize("measure", ["joint", "complete"])
@pytest.mark.parametrize(("name", "scope"), tiny.CASES)
def test_forward_and_reverse_mode_agree(
    name: str, scope: str, measure: Measure, images: Tensor, targets: Tensor
) -> None:
    problem = pose(name, scope, images, targets)
    paths = tiny.random_paths(tiny.make(name), n=3, k=2)
    forward = walk(TangentPrefix(problem, measure, at_zero=True), paths)
    reverse = walk(ReversePrefix(problem, measure, at_zero=True), paths)
    for ours, theirs in zip(forward, reverse, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize("prefix", [TangentPrefix, ReversePrefix])
@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_passes_change_nothing(prefix: type[Prefix], micro_batch: int, images: Tensor, targets: Tensor) -> None:
    paths = tiny.random_paths(tiny.make(), n=3, k=1)
    whole = walk(prefix(pose("cls", "patch", images, targets)), paths)
    cut = walk(prefix(pose("cls", "patch", images, targets, micro_batch)), paths)
    for ours, theirs in zip(cut, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@torch.no_grad()
@pytest.mark.parametrize("prefix", [TangentPrefix, ReversePrefix])
def test_candidates_need_not_be_asked_for(prefix: type[Prefix], images: Tensor, targets: Tensor) -> None:
    problem = pose("registers", "cls", images, targets)
    paths = tiny.random_paths(tiny.make("registers"), n=3, k=2)
    asked = walk(prefix(problem), paths)
    silent = prefix(problem)
    for index in range(paths.shape[1]):
        silent.choose(paths[:, index])
    torch.testing.assert_close(silent.path_gradient()[0].sum(1), asked[-2], rtol=1e-14, atol=0)


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 6, 100])
def test_sequences_cover_every_pair_once(micro_batch: int) -> None:
    alpha, weights = torch.tensor([0.1, 0.6, 0.9]), torch.tensor([0.25, 0.5, 0.25])
    sequences = Sequences(alpha, weights, n_images=2, micro_batch=micro_batch)
    passes = list(sequences.passes())
    assert max(len(images) for _, images, _ in passes) <= micro_batch
    pairs = [
        (image, round(node, 6))
        for _, images, nodes in passes
        for image, node in zip(images.tolist(), nodes.tolist(), strict=True)
    ]
    assert pairs == [(0, 0.1), (1, 0.1), (0, 0.6), (1, 0.6), (0, 0.9), (1, 0.9)]
    values = torch.tensor([1.0, 10.0, 2.0, 20.0, 4.0, 40.0])
    assert sequences.integrate(values).tolist() == [2.25, 22.5]
