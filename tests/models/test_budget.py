"""How batches are cut into chunks of images."""

from __future__ import annotations

import pytest
import torch

from neuron_path.models.adapter import adapt
from neuron_path.models.budget import chunks, default_micro_batch
from neuron_path.models.session import Session
from tests import tiny


@pytest.mark.parametrize("micro_batch", [None, 1, 7, 8, 20, 1000])
@pytest.mark.parametrize("n_steps", [1, 8])
def test_chunks_cover_the_batch_in_order_and_fit_a_pass(micro_batch: int | None, n_steps: int) -> None:
    session = Session(tiny.make())
    images = tiny.make_images(11)
    with session.active():
        runs = list(chunks(session, images, n_steps, micro_batch))
    rows = [row for run, _ in runs for row in range(11)[run]]
    assert rows == list(range(11))
    for run, size in runs:
        assert size == (micro_batch or size)
        n_images = len(range(11)[run])
        assert n_images == 1 or n_images * n_steps <= size


def by_default(embedded: torch.Tensor) -> int:
    return default_micro_batch(adapt(tiny.make()), embedded, torch.device("cpu"))


def test_the_default_pass_shrinks_with_the_residual_stream() -> None:
    sizes = [
        by_default(torch.zeros(1, tokens, width, dtype=dtype))
        for tokens, width, dtype in [(50, 384, torch.float32), (197, 768, torch.float32), (197, 768, torch.float64)]
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1


def test_maps_of_attention_between_thousands_of_tokens_are_held_one_at_a_time() -> None:
    assert by_default(torch.zeros(1, 197, 1024)) == 4
    assert by_default(torch.zeros(1, 4096, 768)) == 1
