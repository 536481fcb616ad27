"""The paper's pruning protocol against literal ones: counted modes, and hooks on timm's own layers."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.session import Session
from pruning_protocol.masks import class_path, draw_masks, masked_probabilities
from tests import tiny


def literal_class_path(paths: np.ndarray, distinct: bool) -> list[list[int]]:
    """Slot by slot with plain counters."""
    found = []
    for block in np.moveaxis(paths, 1, 0):
        modes = []
        for slot in block.T:
            counts = Counter(slot.tolist())
            modes.append(min(n for n, count in counts.items() if count == max(counts.values())))
        if distinct:
            everywhere = Counter(block.ravel().tolist())
            ranked = sorted(everywhere, key=lambda n: (-everywhere[n], n))
            spare = [n for n in ranked if n not in modes]
            seen: set[int] = set()
            for slot, mode in enumerate(modes):
                if mode in seen:
                    modes[slot] = spare.pop(0)
                seen.add(mode)
        found.append(modes)
    return found


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 5), st.integers(0, 1000))
def test_a_class_path_is_the_mode_of_each_slot(n: int, n_blocks: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    paths = np.stack([[rng.permutation(7)[:k] for _ in range(n_blocks)] for _ in range(n)])
    for distinct in (True, False):
        found = class_path(paths, [7] * n_blocks, distinct=distinct)
        assert found.tolist() == literal_class_path(paths, distinct)
    assert all(len(set(block)) == k for block in class_path(paths, [7] * n_blocks).tolist())


def test_paths_of_one_neuron_need_no_slots() -> None:
    paths = torch.tensor([[0, 2], [1, 2], [1, 0]])
    assert class_path(paths, [3, 3]).tolist() == [[1], [2]]


def test_wrong_paths_are_refused() -> None:
    with pytest.raises(NeuronPathError, match="block 1 lacks"):
        class_path(np.array([[0, 3]]), [3, 3])
    with pytest.raises(NeuronPathError, match="of one image at least"):
        class_path(np.zeros((0, 2), dtype=np.int64), [3, 3])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_masks_hold_the_right_number_and_none_of_the_path(share: float) -> None:
    path, widths = torch.tensor([[1, 7], [0, 5], [2, 3]]), [25, 12, 30]
    masks = draw_masks(path, widths, share, 2, "class 3, seed 0")
    expected = [int(share * (width - 2) + 0.5) for width in widths[:2]] + [0]
    assert [int(mask.sum()) for mask in masks] == expected
    assert not any(bool(mask[own].any()) for mask, own in zip(masks, path, strict=True))


def test_masks_grow_with_share_and_depth_and_differ_by_key() -> None:
    path, widths = torch.tensor([[1], [0], [2]]), [40, 40, 40]
    small, large = (draw_masks(path, widths, share, None, "a") for share in (0.3, 0.5))
    assert all(bool((one <= two).all()) for one, two in zip(small, large, strict=True))
    shallow = draw_masks(path, widths, 0.5, 2, "a")
    assert all(torch.equal(one, two) for one, two in zip(shallow[:2], large[:2], strict=True))
    assert not any(
        torch.equal(one, two) for one, two in zip(large, draw_masks(path, widths, 0.5, None, "b"), strict=True)
    )
    for wrong in ({"share": 1.1, "depth": 1}, {"share": 0.5, "depth": 4}):
        with pytest.raises(NeuronPathError, match="expected"):
            draw_masks(path, widths, wrong["share"], int(wrong["depth"]), "a")


@pytest.mark.parametrize(("name", "scope"), [("cls", "cls"), ("registers", "cls"), ("avg", "patch")])
def test_masked_neurons_are_zero_at_the_tokens_in_scope(name: str, scope: str) -> None:
    model, images = tiny.make(name), tiny.make_images(5)
    session = Session(model, scope)
    generator = torch.Generator().manual_seed(4)
    masks = [torch.rand(5, block.n_neurons, generator=generator) < 0.4 for block in session.adapter.blocks]
    prefix = int(getattr(model, "num_prefix_tokens"))  # noqa: B009
    tokens = slice(0, 1) if scope == "cls" else slice(prefix, None)

    def zero(mask: Tensor) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            a = inputs[0].clone()
            a[:, tokens] = a[:, tokens] * (~mask).unsqueeze(1)
            return (a,)

        return hook

    with ExitStack() as stack, torch.no_grad():
        blocks: Any = model.blocks
        for block, mask in zip(blocks, masks, strict=True):
            handle = block.mlp.fc2.register_forward_pre_hook(zero(mask))
            stack.callback(handle.remove)
        expected = model(images).softmax(1)
    torch.testing.assert_close(masked_probabilities(session, images, masks), expected, rtol=1e-9, atol=1e-12)
