"""Counted bytes against those that a tensor's shape and type tell."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import neuron_path
from neuron_path.models.footprint import Footprint
from tests import tiny

SIZE = 4 * 100  # bytes of 100 float32 numbers


def hundred() -> Tensor:
    return torch.zeros(100)


def test_what_is_dropped_at_once_counts_for_the_peak_only() -> None:
    with Footprint() as footprint:
        kept = hundred().add(1).add(1)
    assert (footprint.alive, footprint.peak) == (SIZE, 2 * SIZE)
    assert kept.sum() == 200


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=8))
def test_the_peak_is_the_most_that_was_alive(steps: list[tuple[int, bool]]) -> None:
    kept: list[Tensor] = []
    most = 0
    with Footprint() as footprint:
        for length, is_dropped in steps:
            if is_dropped and kept:
                del kept[0]
            kept.append(torch.zeros(length, dtype=torch.float64))
            alive = sum(8 * len(x) for x in kept)
            most = max(most, alive)
            assert footprint.alive == alive
    assert footprint.peak == most


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_bytes_follow_the_type(dtype: torch.dtype) -> None:
    with Footprint() as footprint:
        x = torch.zeros(3, 5, dtype=dtype)
    assert footprint.alive == x.numel() * x.element_size()


VIEWS: dict[str, Callable[[Tensor], object]] = {
    "view": lambda x: x.view(10, 10),
    "slice": lambda x: x[5:20],
    "split": lambda x: x.split(7),
    "expand": lambda x: x.expand(50, 100),
    "transpose": lambda x: x.view(4, 25).mT,
    "detach": lambda x: x.detach(),
    "in place": lambda x: x.add_(1).clamp_(min=0).zero_(),
    "written into": lambda x: torch.add(x, x, out=x),
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_shares_memory_counts_once(name: str) -> None:
    with Footprint() as footprint:
        x = hundred()
        made = VIEWS[name](x)
    assert (footprint.alive, footprint.peak) == (SIZE, SIZE)
    assert made is not None


def test_a_view_keeps_its_memory() -> None:
    with Footprint() as footprint:
        row = hundred().view(10, 10)[3]
        assert footprint.alive == SIZE
        del row
        assert footprint.alive == 0


def test_what_was_there_before_is_not_counted() -> None:
    x = hundred()
    with Footprint() as footprint:
        x.add_(1)
        views = x.view(4, 25), x[:3]
    assert (footprint.alive, footprint.peak) == (0, 0)
    assert len(views) == 2


def test_memory_is_forgotten_after_leaving_too() -> None:
    with Footprint() as footprint:
        x = hundred()
    assert footprint.alive == SIZE
    del x
    assert (footprint.alive, footprint.peak) == (0, SIZE)


def test_memory_that_is_used_again_counts_again() -> None:
    with Footprint() as footprint:
        for _ in range(20):
            hundred()
            assert footprint.alive == 0
        x = hundred()
    assert (footprint.alive, footprint.peak) == (SIZE, SIZE)
    assert len(x) == 100


def test_what_autograd_saves_counts_until_the_backward() -> None:
    x = hundred().requires_grad_()
    with Footprint() as footprint:
        # exp keeps its result; the sum keeps nothing.
        total = x.exp().exp().exp().sum()
        assert footprint.alive == 3 * SIZE + 4
        total.backward()
        assert footprint.alive == SIZE + 4  # the gradient and the total
    assert footprint.peak > 4 * SIZE
    assert x.grad is not None


@torch.no_grad()
def test_without_a_graph_nothing_is_saved() -> None:
    x = hundred()
    with Footprint() as footprint:
        total = x.exp().exp().exp().sum()
    assert (footprint.alive, footprint.peak) == (4, 2 * SIZE)
    assert total > 0


def test_gradients_asked_for_inside_no_grad_count() -> None:
    x = hundred().requires_grad_()
    with torch.no_grad(), Footprint() as footprint:
        with torch.enable_grad():
            total = x.exp().sum()
        (gradient,) = torch.autograd.grad(total, (x,))
        del total
        assert footprint.alive == SIZE
    assert gradient.shape == x.shape


def test_a_model_in_float64_weighs_twice_its_weights() -> None:
    with Footprint() as footprint:
        model = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 30)).double()
    assert footprint.alive == 8 * sum(parameter.numel() for parameter in model.parameters())


def test_footprints_nest() -> None:
    with Footprint() as outer:
        first = hundred()
        with Footprint() as inner:
            second = hundred()
        del second
    assert (outer.alive, outer.peak) == (SIZE, 2 * SIZE)
    assert (inner.alive, inner.peak) == (0, SIZE)
    assert len(first) == 100


def test_counting_changes_no_result() -> None:
    model, images = tiny.make(dtype=torch.float32), tiny.make_images(3, dtype=torch.float32)
    expected = neuron_path.find_paths(model, images)
    with Footprint() as footprint:
        found = neuron_path.find_paths(model, images)
    assert torch.equal(found.paths, expected.paths)
    assert torch.equal(found.scores, expected.scores)
    assert footprint.peak > footprint.alive > 0
    del found
    gc.collect()
    assert footprint.alive == 0
