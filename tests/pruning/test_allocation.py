"""Allocation against sorting in plain Python."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.allocation import Allocation, keep_neurons

Scores = list[list[float]]
ALLOCATIONS: tuple[Allocation, ...] = ("uniform", "global")
few = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])  # ties are frequent
rankings = st.lists(st.lists(few, min_size=1, max_size=8), min_size=1, max_size=4)
shares = st.integers(1, 16).map(lambda n: Fraction(n, 16))  # exact in binary


def in_order(a: Scores, b: Scores, block: int) -> list[int]:
    return sorted(range(len(a[block])), key=lambda neuron: (-a[block][neuron], -b[block][neuron], neuron))


def n_kept(share: Fraction, n: int) -> int:
    return max(1, (2 * share.numerator * n + share.denominator) // (2 * share.denominator))


def literal_uniform(a: Scores, b: Scores, share: Fraction) -> list[list[int]]:
    return [sorted(in_order(a, b, block)[: n_kept(share, len(a[block]))]) for block in range(len(a))]


def scaled(ranking: Scores) -> list[list[Fraction]]:
    exact = [[Fraction(score) for score in scores] for scores in ranking]
    means = [sum(map(abs, scores), Fraction(0)) / len(scores) for scores in exact]
    return [[score / (mean or 1) for score in scores] for scores, mean in zip(exact, means, strict=True)]


def literal_global(a: Scores, b: Scores, share: Fraction) -> list[list[int]]:
    kept = [[in_order(a, b, block)[0]] for block in range(len(a))]
    first, second = scaled(a), scaled(b)
    rest = [(block, neuron) for block in range(len(a)) for neuron in range(len(a[block])) if neuron not in kept[block]]
    rest.sort(key=lambda one: (-first[one[0]][one[1]], -second[one[0]][one[1]], *one))
    total = max(len(a), n_kept(share, sum(map(len, a))))
    for block, neuron in rest[: total - len(a)]:
        kept[block].append(neuron)
    return [sorted(neurons) for neurons in kept]


def tensors(ranking: Scores) -> list[torch.Tensor]:
    return [torch.tensor(scores) for scores in ranking]


def second(data: st.DataObject, a: Scores) -> Scores:
    return [data.draw(st.lists(few, min_size=len(scores), max_size=len(scores))) for scores in a]


def zeros(a: Scores) -> Scores:
    return [[0.0] * len(scores) for scores in a]


@given(rankings, shares, st.data())
def test_the_best_of_each_block_are_kept(a: Scores, share: Fraction, data: st.DataObject) -> None:
    b = second(data, a)
    found = keep_neurons(tensors(a), float(share))
    assert [kept.tolist() for kept in found] == literal_uniform(a, zeros(a), share)
    found = keep_neurons(tensors(a), float(share), then=tensors(b))
    assert [kept.tolist() for kept in found] == literal_uniform(a, b, share)


# In blocks of such sizes the sums and means of such scores are exact in binary, so that ties stay ties.
exact_blocks = st.lists(
    st.sampled_from([1, 2, 4, 8]).flatmap(lambda n: st.lists(few, min_size=n, max_size=n)), min_size=1, max_size=4
)


@given(exact_blocks, shares, st.data())
def test_the_best_of_all_blocks_are_kept(a: Scores, share: Fraction, data: st.DataObject) -> None:
    b = second(data, a)
    found = keep_neurons(tensors(a), float(share), "global")
    assert [kept.tolist() for kept in found] == literal_global(a, zeros(a), share)
    found = keep_neurons(tensors(a), float(share), "global", then=tensors(b))
    assert [kept.tolist() for kept in found] == literal_global(a, b, share)


@given(rankings, st.floats(0.01, 1), st.sampled_from(ALLOCATIONS))
def test_every_block_keeps_a_neuron_and_the_share_is_met(a: Scores, keep: float, allocation: Allocation) -> None:
    kept = keep_neurons(tensors(a), keep, allocation)
    n = sum(map(len, a))
    assert all(len(neurons) for neurons in kept)
    assert all(neurons.tolist() == sorted(set(neurons.tolist())) for neurons in kept)
    assert all(neurons.dtype == torch.int64 for neurons in kept)
    found, slack = sum(map(len, kept)), len(a) if allocation == "uniform" else 1
    assert found >= len(a)
    assert keep * n - slack <= found <= max(keep * n, len(a)) + slack
    assert [len(one) for one in keep_neurons(tensors(a), 1.0, allocation)] == [len(scores) for scores in a]


@given(rankings, st.floats(0.01, 0.5), st.floats(0.5, 1), st.sampled_from(ALLOCATIONS))
def test_more_is_kept_by_keeping_more(a: Scores, less: float, more: float, allocation: Allocation) -> None:
    fewer, all_of = (keep_neurons(tensors(a), keep, allocation) for keep in (less, more))
    assert all(set(one.tolist()) <= set(two.tolist()) for one, two in zip(fewer, all_of, strict=True))


def test_a_global_rank_is_by_each_blocks_own_scale() -> None:
    ranking = [torch.tensor([1.0, 1, 1, 1]), torch.tensor([4000.0, 2000, 0, 0]), torch.tensor([1e-9, 0, 0, 0])]
    # In units of the blocks' means: 1, 1, 1, 1; 2.67, 1.33, 0, 0; 4, 0, 0, 0. The best of each block come first.
    assert [kept.tolist() for kept in keep_neurons(ranking, 0.25, "global")] == [[0], [0], [0]]
    assert [kept.tolist() for kept in keep_neurons(ranking, 4 / 12, "global")] == [[0], [0, 1], [0]]
    assert [kept.tolist() for kept in keep_neurons(ranking, 5 / 12, "global")] == [[0, 1], [0, 1], [0]]
    kept = keep_neurons(ranking, 8 / 12, "global")
    assert [neurons.tolist() for neurons in kept] == [[0, 1, 2, 3], [0, 1, 2], [0]]


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_no_scale_is_too_small_or_too_large(scale: float) -> None:
    ranking = [torch.tensor([3.0, 1, 2, 0], dtype=torch.float64) * scale, torch.tensor([0.0, 0, 0, 0])]
    assert [kept.tolist() for kept in keep_neurons(ranking, 0.5, "global")] == [[0, 1, 2], [0]]


def test_a_second_ranking_tells_neurons_apart_that_lie_on_no_path() -> None:
    on_paths, magnitude = torch.tensor([0.0, 3, 0, 0]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert keep_neurons([on_paths], 0.5)[0].tolist() == [0, 1]
    assert keep_neurons([on_paths], 0.5, then=[magnitude])[0].tolist() == [1, 3]
    assert keep_neurons([on_paths], 0.5, "global", then=[magnitude])[0].tolist() == [1, 3]


RANKING = [torch.tensor([1.0, 2]), torch.tensor([3.0])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "The kept share is 0; expected a number above 0, up to 1."),
        ({"keep": 1.5}, "The kept share is 1.5"),
        ({"keep": float("nan")}, "The kept share is nan"),
        ({"allocation": "globl"}, "No allocation is named 'globl'. Did you mean 'global'?"),
        ({"ranking": []}, "The ranking rates no block"),
        ({"ranking": [torch.zeros(2, 2)]}, "The ranking of block 0 has shape (2, 2)"),
        ({"ranking": [torch.zeros(2), torch.zeros(0)]}, "The ranking of block 1 has shape (0,)"),
        ({"ranking": [torch.tensor([1.0, torch.inf])]}, "The ranking of block 0 holds NaN or infinity"),
        ({"then": [torch.zeros(2)]}, "The two rankings rate [2, 1] and [2] neurons"),
        ({"then": [torch.zeros(2), torch.full((1,), torch.nan)]}, "The second ranking of block 1 holds NaN"),
    ],
)
def test_wrong_arguments_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        keep_neurons(**({"ranking": RANKING, "keep": 0.5} | options))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
