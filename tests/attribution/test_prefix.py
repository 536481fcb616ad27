"""The two ways of carrying the visited blocks give the same numbers wherever both can."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuron_path.attribution.forward import clean_pass
from neuron_path.attribution.prefix import Prefix
from neuron_path.attribution.problem import Problem, Sequences
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.reverse import ReversePrefix
from neuron_path.attribution.tangent import TangentPrefix
from neuron_path.models.adapter import adapt
from tests import tiny

pytestmark = pytest.mark.covering

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
    return [*told, prefix.path_gradient().sum(1)]


@torch.no_grad()
@pytest.mark.parametrize(("name", "scope"), tiny.CASES)
def test_forward_and_reverse_mode_agree(name: str, scope: str, images: Tensor, targets: Tensor) -> None:
    problem = pose(name, scope, images, targets)
    paths = tiny.random_paths(tiny.make(name), n=3, k=2)
    forward = walk(TangentPrefix(problem), paths)
    reverse = walk(ReversePrefix(problem), paths)
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
@pytest.mark.parametrize("micro_batch", [1, 5, 100])
@pytest.mark.parametrize(("name", "scope"), [("avg", "patch"), ("registers", "patch"), ("avg", "cls")])
def test_graphs_that_are_kept_or_not_give_the_same(
    name: str, scope: str, micro_batch: int, images: Tensor, targets: Tensor
) -> None:
    problem = pose(name, scope, images, targets, micro_batch)
    paths = tiny.random_paths(tiny.make(name), n=3, k=2)
    kept = walk(ReversePrefix(problem), paths)
    run_again = walk(ReversePrefix(replace(problem, keeps_graphs=False)), paths)
    for ours, theirs in zip(kept, run_again, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@torch.no_grad()
@pytest.mark.parametrize("prefix", [TangentPrefix, ReversePrefix])
@pytest.mark.parametrize("rows", [[0], [2, 0], [1, 2], [0, 1, 2]])
def test_some_images_alone_get_the_same(prefix: type[Prefix], rows: list[int], images: Tensor, targets: Tensor) -> None:
    problem = pose("registers", "patch", images, targets, micro_batch=5)
    paths = tiny.random_paths(tiny.make("registers"), n=3, k=2)
    carried, chosen = prefix(problem), torch.tensor(rows)
    for index in range(paths.shape[1]):
        some, every = carried.candidate_gradients(chosen), carried.candidate_gradients()
        for ours, theirs in zip(some, every, strict=True):
            torch.testing.assert_close(ours, theirs[chosen], rtol=1e-12, atol=1e-14)
        carried.choose(paths[:, index])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nudged_copies_leave_the_images_as_they_are(dtype: torch.dtype) -> None:
    adapter = adapt(tiny.make("registers", dtype=dtype).requires_grad_(requires_grad=False), "patch")
    images = tiny.make_images(3, dtype=dtype)
    plain, beside = clean_pass(adapter, images), clean_pass(adapter, images, keep_graph=True, nudged=True)
    for one, other in zip(
        [*plain.activations, *plain.projected, plain.logits],
        [*beside.activations, *beside.projected, beside.logits],
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert beside.graph is not None
    logits = beside.graph[1].detach()
    assert 0 < (logits[:3] - logits[3:]).abs().amax() < 100 * torch.finfo(dtype).eps * logits.abs().amax()


@torch.no_grad()
def test_rounding_is_that_of_two_passes() -> None:
    """The copies' gradients against those of a pass in which a hook moves every block's input and output."""
    model, images = tiny.make(dtype=torch.float32).requires_grad_(requires_grad=False), tiny.make_images(3)
    problem = Problem.pose(adapt(model, "cls"), images.float(), None, Quadrature("midpoint", 1), 8)
    generator = torch.Generator().manual_seed(0)
    factors = []
    for x in [problem.clean.embedded, *problem.clean.projected]:
        signs = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
        factors.append(1 + torch.finfo(torch.float32).eps * signs.float())
    with torch.enable_grad():
        h, leaves = problem.clean.embedded * factors[0], []
        for index, block in enumerate(problem.adapter.blocks):
            scoped, live = problem.adapter.split(index, h)
            z = block.project(block.activations(scoped)) * factors[index + 1]
            leaves.append(z.requires_grad_() if not leaves else z)
            h = problem.scope.join(scoped + leaves[-1], live)
        total = problem.target_values(problem.adapter.head(h), problem.every_image).sum()
    expected = torch.autograd.grad(total, leaves)
    for ours, theirs in zip(problem.nudged_gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7 * float(theirs.abs().amax()))


@torch.no_grad()
@pytest.mark.parametrize("prefix", [TangentPrefix, ReversePrefix])
def test_candidates_need_not_be_asked_for(prefix: type[Prefix], images: Tensor, targets: Tensor) -> None:
    problem = pose("registers", "cls", images, targets)
    paths = tiny.random_paths(tiny.make("registers"), n=3, k=2)
    asked = walk(prefix(problem), paths)
    silent = prefix(problem)
    for index in range(paths.shape[1]):
        silent.choose(paths[:, index])
    torch.testing.assert_close(silent.path_gradient().sum(1), asked[-1], rtol=1e-14, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("keeps_graphs", [True, False])
def test_no_visited_block_runs_twice_where_graphs_are_kept(
    keeps_graphs: bool, images: Tensor, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = replace(pose("avg", "patch", images, targets), keeps_graphs=keeps_graphs)
    runs: list[int] = []
    split = problem.adapter.split
    monkeypatch.setattr(problem.adapter, "split", lambda index, h: (runs.append(index), split(index, h))[1])
    walk(ReversePrefix(problem), tiny.random_paths(tiny.make("avg"), n=3, k=1))
    again = [*range(4), *(index for depth in range(1, 4) for index in range(depth)), *range(4)]
    assert sorted(runs) == (list(range(4)) if keeps_graphs else sorted(again))


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
