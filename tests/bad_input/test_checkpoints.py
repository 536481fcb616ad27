"""Damaged and foreign checkpoints: refused in one line, or read where the damage is in the numbers alone."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import neuron_path
from tests.bad_input.refusals import Damage, check_refusal, damages, few_by_default
from tests.command import run_in


def weights() -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in neuron_path.load_model().state_dict().items()}


def as_bytes(held: Any, suffix: str) -> bytes:
    """What a file of that suffix holds."""
    stream = io.BytesIO()
    if suffix == "safetensors":
        return save(held)
    if suffix == "npz":
        np.savez(stream, **{name: value.numpy() for name, value in held.items()})
    else:
        torch.save(held, stream, _use_new_zipfile_serialization=suffix == "pth")
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt", "npz"])
@few_by_default(2, 8)
def test_damaged_checkpoints_are_one_line(examples: int, suffix: str, tmp_path: Path) -> None:
    whole = as_bytes(weights(), suffix)
    refused: set[Damage] = set()

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(damages)
    def check(damage: Damage) -> None:
        file = tmp_path / f"damaged.{suffix}"
        file.write_bytes(damage.of(whole))
        quick = ("data.limit=1", "quadrature.n_steps=1")
        outcome = run_in(tempfile.mkdtemp(dir=tmp_path), "search", f"model.checkpoint={file}", *quick)
        if outcome.code:
            check_refusal(outcome.code, outcome.err)
            refused.add(damage)

    check()
    assert len(refused) >= examples / 3


names = st.sampled_from(sorted(weights()))
HELD: dict[str, st.SearchStrategy[Any]] = {
    "not a mapping": st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3), st.none()),
    "no tensors": st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    "a weight less": names.map(lambda name: {key: value for key, value in weights().items() if key != name}),
    "a weight more": st.text(min_size=1, max_size=9).map(lambda name: weights() | {f"zz{name}": torch.zeros(2)}),
    "another shape": names.map(lambda name: weights() | {name: torch.zeros(7, 5)}),
    "whole numbers": names.map(lambda name: weights() | {name: weights()[name].long()}),
    "complex numbers": names.map(lambda name: weights() | {name: weights()[name].to(torch.complex64)}),
    "no number": st.tuples(names, st.sampled_from([torch.nan, torch.inf, -torch.inf])).map(
        lambda case: weights() | {case[0]: torch.full_like(weights()[case[0]], case[1])}
    ),
    "sparse": names.map(lambda name: weights() | {name: weights()[name].to_sparse()}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", HELD)
def test_files_that_hold_something_else_are_one_line(kind: str, tmp_path: Path) -> None:
    @settings(max_examples=1, derandomize=True, database=None, phases=[Phase.generate])
    @given(HELD[kind])
    def check(held: Any) -> None:
        file = tmp_path / "held.pth"
        file.write_bytes(as_bytes(held, "pth"))
        outcome = run_in(tmp_path / "run", "search", f"model.checkpoint={file}")
        check_refusal(outcome.code, outcome.err)
        assert outcome.results == []

    check()


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz"])
@few_by_default(1, 4)
def test_damaged_heads_are_one_line(examples: int, suffix: str, tmp_path: Path) -> None:
    whole = as_bytes({"weight": torch.randn(10, 48), "bias": torch.zeros(10)}, suffix)

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.integers(0, 990))
    def check(share: int) -> None:
        file = tmp_path / f"head.{suffix}"
        file.write_bytes(whole[: len(whole) * share // 1000])
        outcome = run_in(tmp_path / "run", "search", "head=file", f"head.path={file}", "data.limit=1")
        assert str(file) in check_refusal(outcome.code, outcome.err)

    check()
