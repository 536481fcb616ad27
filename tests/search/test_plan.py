"""What a memory budget allows, by the arithmetic that is documented."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.attribution.needs import Needs
from neuron_path.errors import NeuronPathError
from neuron_path.search.plan import Plan, in_bytes, in_units, is_out_of_memory, plan_within, preferred

HEADROOM = 1.15

ACCEPTED: dict[str, float] = {
    "2e9": 2e9,
    "800MB": 8e8,
    "1.5GiB": 1.5 * 2**30,
    " 1.5 GB ": 1.5e9,
    "3kb": 3e3,
    "2 MiB": 2**21,
    ".5gb": 5e8,
    "1e3 kib": 1024e3,
    "3TB": 3e12,
    "1 TiB": 2**40,
    "64B": 64,
    "7": 7.0,
}
REFUSED = [
    "",
    " ",
    "GB",
    "much",
    "1..5",
    "-1",
    "-1GB",
    "0",
    "0GB",
    "nan",
    "inf",
    "1e999",
    "5 PB",
    "1,5GB",
    "1 G B",
    "0x10",
]
NO_NUMBERS = [0, -1, 0.0, math.nan, math.inf, -math.inf, True, False, None, [1e9], {"GB": 1}, 1j, b"1GB"]


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_budget_may_be_written_with_its_unit(text: str) -> None:
    assert in_bytes(text) == pytest.approx(ACCEPTED[text], rel=1e-15)


@pytest.mark.parametrize("value", [1, 2.5, 2 * 10**9, np.float64(3e9), np.int64(5), Fraction(7, 2)])
def test_a_budget_may_be_any_positive_number(value: float) -> None:
    found = in_bytes(value)
    assert type(found) is float
    assert found == float(value)


@pytest.mark.parametrize("value", [*REFUSED, *NO_NUMBERS], ids=repr)
def test_what_is_no_number_of_bytes_is_refused_in_one_line(value: float | str) -> None:
    with pytest.raises(NeuronPathError, match=r"^memory_budget is .*2e9, 800MB or 1\.5GiB\.$"):
        in_bytes(value)


@given(st.text(max_size=12))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with suppress(NeuronPathError):
        assert 0 < in_bytes(text) < math.inf


@given(st.floats(1, 1e15), st.sampled_from(["", "kB", "MB", "GB", "KiB", "mib", "GIB"]))
def test_units_multiply(number: float, unit: str) -> None:
    factors = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    assert in_bytes(f"{number:.17f}{unit}") == pytest.approx(number * factors[unit.lower()], rel=1e-12)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(999e6, "999.0 MB"), (1e9, "1.0 GB"), (12.34e9, "12.3 GB"), (5.6e6, "5.6 MB"), (4e12, "4000.0 GB")],
)
def test_bytes_are_written_as_people_do(n_bytes: float, text: str) -> None:
    assert in_units(n_bytes) == text


@given(st.floats(1e5, 1e14))
def test_what_is_written_is_read_again(n_bytes: float) -> None:
    assert in_bytes(in_units(n_bytes)) == pytest.approx(n_bytes, rel=0.06, abs=0.06e6)


amounts = st.integers(0, 10**8)
positive = st.integers(1, 10**8)
all_needs = st.builds(Needs, fixed=amounts, image=amounts, sequence=amounts, graph=amounts, in_pass=positive)
rules = st.integers(1, 32).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 128)))
asked = st.tuples(st.integers(1, 512), st.integers(1, 40))


def taken(plan: Plan, needs: Needs) -> float:
    """Bytes of a plan: whatever it holds at once, and what allocators take beside it."""
    sequence = needs.sequence + (needs.graph if plan.keeps_graphs else 0)
    in_pass = needs.in_pass + (0 if plan.keeps_graphs else needs.graph)
    assert plan.n_sequences is not None
    tensors = needs.fixed + plan.n_images * needs.image + plan.n_sequences * sequence + plan.micro_batch * in_pass
    return HEADROOM * tensors


def least(needs: Needs, most_steps: int) -> float:
    """Bytes of one image in passes of one sequence, twice as long where a copy of the model settles it in float64."""
    twice = 2 if needs.fixed else 1
    return taken(Plan(1, twice, twice * most_steps, keeps_graphs=False), needs)


@given(all_needs, rules, asked, st.floats(0, 1))
def test_a_plan_stays_within_its_budget_and_what_was_asked(
    needs: Needs, rule: tuple[int, int], wanted: tuple[int, int], share: float
) -> None:
    (n_steps, most_steps), (micro_batch, n_images) = rule, wanted
    whole = taken(Plan(n_images, micro_batch, max(n_images * n_steps, most_steps), keeps_graphs=True), needs)
    budget = least(needs, most_steps) * (1 + 1e-9) + 1 + share * whole
    plan = plan_within(budget, needs, n_steps, most_steps, micro_batch, n_images)
    assert taken(plan, needs) <= budget * (1 + 1e-9)
    assert 1 <= plan.n_images <= n_images
    assert 1 <= plan.micro_batch <= min(micro_batch, plan.n_images * n_steps)
    assert plan.n_sequences == max(plan.n_images * n_steps, (2 if needs.fixed else 1) * most_steps)


@given(all_needs, rules, asked)
def test_with_room_a_plan_is_as_large_as_was_asked(
    needs: Needs, rule: tuple[int, int], wanted: tuple[int, int]
) -> None:
    (n_steps, most_steps), (micro_batch, n_images) = rule, wanted
    plan = plan_within(1e18, needs, n_steps, most_steps, micro_batch, n_images)
    assert (plan.n_images, plan.micro_batch) == (n_images, min(micro_batch, n_images * n_steps))
    assert plan.keeps_graphs


@given(all_needs, rules, asked, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_more_memory_never_makes_a_plan_smaller(
    needs: Needs, rule: tuple[int, int], wanted: tuple[int, int], shares: tuple[float, float]
) -> None:
    """Keeping graphs comes before holding more images: it spares whole passes."""
    (n_steps, most_steps), (micro_batch, n_images) = rule, wanted
    whole = taken(Plan(n_images, micro_batch, max(n_images * n_steps, most_steps), keeps_graphs=True), needs)
    start = least(needs, most_steps) * (1 + 1e-9) + 1
    small, large = (
        plan_within(start + share * whole, needs, n_steps, most_steps, micro_batch, n_images)
        for share in sorted(shares)
    )
    assert (large.keeps_graphs, large.n_images, large.micro_batch) >= (
        small.keeps_graphs,
        small.n_images,
        small.micro_batch,
    )
    if large.keeps_graphs == small.keeps_graphs:
        assert large.micro_batch >= small.micro_batch


@given(all_needs, rules, asked)
def test_what_one_image_needs_is_enough_and_less_is_not(
    needs: Needs, rule: tuple[int, int], wanted: tuple[int, int]
) -> None:
    (n_steps, most_steps), (micro_batch, n_images) = rule, wanted
    enough = least(needs, most_steps)
    options = (needs, n_steps, most_steps, micro_batch, n_images)
    plan_within(enough * (1 + 1e-9) + 1, *options)
    with pytest.raises(NeuronPathError) as caught:
        plan_within(enough * (1 - 1e-9) - 1, *options)
    assert "\n" not in str(caught.value)


def test_a_budget_that_is_too_small_is_told_what_is_needed() -> None:
    needs = Needs(fixed=700_000_000, image=200_000_000, sequence=10_000_000, graph=0, in_pass=120_000_000)
    with pytest.raises(NeuronPathError) as caught:
        plan_within(5e8, needs, 8, 64, 32, 4)
    message = str(caught.value)
    assert message.startswith("memory_budget is 500.0 MB, but one image with 64 nodes needs about 2.9 GB")
    assert "805.0 MB of it for the model in float64" in message
    assert message.endswith("raise it to that, or take fewer nodes.")
    assert "\n" not in message


def test_a_model_in_float64_has_no_copy_to_tell_of() -> None:
    needs = Needs(fixed=0, image=200_000_000, sequence=10_000_000, graph=0, in_pass=120_000_000)
    with pytest.raises(NeuronPathError, match=r"needs about 487\.6 MB \(above the loaded model\)"):
        plan_within(1e8, needs, 8, 8, 32, 4)


def test_a_budget_between_keeps_no_graphs() -> None:
    needs = Needs(fixed=0, image=100, sequence=10, graph=1000, in_pass=100)
    n_steps = micro_batch = 8
    kept = plan_within(HEADROOM * (100 + 8 * 1010 + 8 * 100), needs, n_steps, n_steps, micro_batch, 1)
    run_again = plan_within(HEADROOM * (100 + 8 * 10 + 3 * 1100), needs, n_steps, n_steps, micro_batch, 1)
    assert kept == Plan(1, 8, 8, keeps_graphs=True)
    assert run_again == Plan(1, 3, 8, keeps_graphs=False)


plans = st.builds(
    Plan,
    n_images=st.integers(1, 64),
    micro_batch=st.integers(1, 1024),
    n_sequences=st.none() | st.integers(1, 4096),
    keeps_graphs=st.booleans(),
)


@given(plans, st.integers(0, 40), st.integers(1, 64))
def test_groups_hold_every_row_once_and_in_order(plan: Plan, n_rows: int, n_steps: int) -> None:
    rows = torch.randperm(100, generator=torch.Generator().manual_seed(n_rows))[:n_rows]
    groups = plan.groups(rows, n_steps)
    assert [row for group in groups for row in group.tolist()] == rows.tolist()
    assert all(len(group) for group in groups)
    if plan.n_sequences is None:
        assert len(groups) <= 1
    else:
        assert all(len(group) == 1 or len(group) * n_steps <= plan.n_sequences for group in groups)


@given(plans)
def test_halving_ends_at_one_of_each(plan: Plan) -> None:
    steps, last = 0, plan
    while (smaller := last.halved()) is not None:
        one, two = ((p.n_images, p.micro_batch, p.keeps_graphs, p.n_sequences or 0) for p in (smaller, last))
        assert one != two
        assert all(a <= b for a, b in zip(one, two, strict=True))
        assert smaller.n_sequences is None or smaller.n_sequences >= 1
        last, steps = smaller, steps + 1
        assert steps <= 20
    assert (last.n_images, last.micro_batch, last.keeps_graphs) == (1, 1, False)


@given(plans)
def test_numbers_twice_as_long_take_half_as_many(plan: Plan) -> None:
    double = plan.in_double()
    assert double.micro_batch == max(1, plan.micro_batch // 2)
    assert (double.n_images, double.keeps_graphs) == (plan.n_images, plan.keeps_graphs)
    if plan.n_sequences is None:
        assert double.n_sequences is None
    else:
        assert double.n_sequences == max(1, plan.n_sequences // 2)


@pytest.mark.parametrize(("by_cache", "n_steps", "n_images"), [(32, 8, 4), (4, 8, 1), (1, 1, 1)])
def test_a_cpu_s_pass_is_a_chunk(by_cache: int, n_steps: int, n_images: int) -> None:
    assert preferred(torch.device("cpu"), by_cache, n_steps) == (by_cache, n_images)


@pytest.mark.parametrize(
    ("by_cache", "n_steps", "longest"), [(7, 8, 8), (3, 8, 3), (100, 3, 99), (7, 20, 7), (15, 20, 20)]
)
def test_passes_are_even_and_rather_long_than_short(by_cache: int, n_steps: int, longest: int) -> None:
    assert preferred(torch.device("cpu"), by_cache, n_steps)[0] == longest


def test_a_gpu_s_pass_is_larger() -> None:
    micro_batch, n_images = preferred(torch.device("cuda"), 4, 8)
    assert micro_batch >= 128
    assert n_images * 8 == micro_batch


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError(), False),
    ],
)
def test_what_an_allocator_says_is_understood(error: RuntimeError, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory


def test_an_allocator_that_really_fails_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
