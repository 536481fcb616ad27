"""How many sequences a pass holds by default, and how batches are cut into chunks of images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.models import budget
from neuron_path.models.adapter import adapt
from neuron_path.models.budget import (
    chunks,
    default_micro_batch,
    kept_by_attention,
    kept_values,
    most_sequences,
)
from neuron_path.models.footprint import Footprint
from neuron_path.models.session import Session
from tests import tiny


@pytest.mark.parametrize("most", [1, 7, 8, 20, 1000])
@pytest.mark.parametrize("n_steps", [1, 8])
def test_chunks_cover_the_batch_in_order_and_fit_a_pass(
    most: int, n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "default_micro_batch", lambda _: most)
    session = Session(tiny.make())
    images = tiny.make_images(11)
    with session.active():
        runs = list(chunks(session, images, n_steps))
    rows = [row for run, _ in runs for row in range(11)[run]]
    assert rows == list(range(11))
    for run, size in runs:
        assert size == most
        n_images = len(range(11)[run])
        assert n_images == 1 or n_images * n_steps <= size


def test_a_chunk_s_pass_is_the_default_one() -> None:
    session, images = Session(tiny.make()), tiny.make_images(3)
    with session.active():
        _, size = next(chunks(session, images, 1))
        assert size == default_micro_batch(session.adapter.embed(images[:1]))


def test_the_default_pass_shrinks_with_the_residual_stream() -> None:
    sizes = [
        default_micro_batch(torch.zeros(1, tokens, width, dtype=dtype))
        for tokens, width, dtype in [(50, 384, torch.float32), (197, 768, torch.float32), (197, 768, torch.float64)]
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1


def test_maps_of_attention_between_thousands_of_tokens_are_held_one_at_a_time() -> None:
    assert default_micro_batch(torch.zeros(1, 197, 1024)) == 4
    assert default_micro_batch(torch.zeros(1, 4096, 768)) == 1


shapes = st.tuples(st.integers(1, 5000), st.integers(1, 2048))


@given(shapes, st.sampled_from([torch.float32, torch.float64]))
def test_no_pass_holds_more_maps_of_attention_than_fit(shape: tuple[int, int], dtype: torch.dtype) -> None:
    embedded = torch.zeros(1, 1, 1, dtype=dtype).expand(1, *shape)
    most = most_sequences(embedded)
    assert 1 <= default_micro_batch(embedded) <= most
    maps = 4 * shape[0] ** 2 * (shape[1] / 64) * embedded.element_size()  # logits, softmax and their tangents
    assert most == 1 or most * maps <= 2e9


def test_autograd_keeps_no_more_of_a_block_than_is_said() -> None:
    model = tiny.make(img_size=32, embed_dim=64, mlp_ratio=4, dtype=torch.float32)
    adapter = adapt(model.requires_grad_(requires_grad=False))
    x = adapter.embed(tiny.make_images(1, size=32, dtype=torch.float32)).detach().requires_grad_()
    with Footprint() as footprint:
        out = adapter.run(0, x)
    assert 0.5 <= footprint.alive / (4 * kept_values(*x.shape[1:], n_neurons=256)) <= 1
    assert out.shape == x.shape


def test_kept_attention_grows_with_blocks_tokens_and_type() -> None:
    three, six = adapt(tiny.make()), adapt(tiny.make(depth=6))
    embedded = torch.zeros(1, 10, 16)
    one = kept_by_attention(three, embedded)
    assert one == 3 * 10 * 8 * 16 * 4
    assert kept_by_attention(six, embedded) == 2 * one
    assert kept_by_attention(three, torch.zeros(1, 20, 16)) == 2 * one
    assert kept_by_attention(three, embedded.double()) == 2 * one
