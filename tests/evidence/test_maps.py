"""Maps of activations: what a hook sees at each patch, in bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import neuron_path
from neuron_path.evidence.maps import activation_maps
from neuron_path.models.session import Session
from tests import tiny


def read(found: dict[str, Any]) -> np.ndarray:
    """(patches,) activations."""
    return (np.frombuffer(found["values"], dtype=np.uint8).astype(float) - 128) / 127 * found["largest"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_patch_has_the_activation_that_a_hook_sees(dtype: torch.dtype) -> None:
    model, image = tiny.make().to(dtype), tiny.make_images(2)[1:].to(dtype)
    seen: list[np.ndarray] = []
    blocks: Any = model.blocks
    for block in blocks:
        block.mlp.fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].double().numpy()))
    with torch.no_grad():
        model(image)
    hooked, neurons = seen[:], [np.array([0, 2]), np.array([1]), np.array([3, 4])]
    [maps] = activation_maps(Session(tiny.make().to(dtype)), image, [neurons])
    assert [(one["block"], one["neuron"]) for one in maps] == [(0, 0), (0, 2), (1, 1), (2, 3), (2, 4)]
    for one in maps:
        expected = hooked[one["block"]][1:, one["neuron"]]  # behind the class token
        assert one["largest"] == pytest.approx(np.abs(expected).max(), rel=1e-5)
        np.testing.assert_allclose(read(one), expected, atol=one["largest"] / 254 * 1.001)
        assert np.abs(read(one)).max() == pytest.approx(one["largest"])


def test_heads_are_mapped_as_heat_map_does() -> None:
    model, image = tiny.make(), tiny.make_images(1)
    heads = [np.array([1])] * 3
    [maps] = activation_maps(Session(model, units="heads"), image, [heads])
    for block, one in enumerate(maps):
        expected = neuron_path.heat_map(model, image, (block, 1), quantity="activation", units="heads").values
        np.testing.assert_allclose(read(one), expected.flatten(), atol=one["largest"] / 254 * 1.001)


def test_a_neuron_that_is_never_active_is_zero() -> None:
    model: Any = tiny.make()
    with torch.no_grad():
        fc1 = model.blocks[1].mlp.fc1
        fc1.weight[2], fc1.bias[2] = 0.0, 0.0
    none = np.array([], dtype=np.int64)
    [[one]] = activation_maps(Session(model), tiny.make_images(1), [[none, np.array([2]), none]])
    assert one["largest"] == 0
    assert set(one["values"]) == {128}


def test_images_have_the_maps_that_each_has_alone() -> None:
    """Whatever is cut into one pass, and though each image asks for neurons of its own."""
    images = tiny.make_images(5)
    neurons = [[np.array([image % 4]), np.array([0, image]), np.array([3])] for image in range(5)]
    together = activation_maps(Session(tiny.make()), images, neurons)
    for image, maps in enumerate(together):
        [alone] = activation_maps(Session(tiny.make()), images[image : image + 1], [neurons[image]])
        assert [one["values"] for one in maps] == [one["values"] for one in alone]
        assert [one["largest"] for one in maps] == pytest.approx([one["largest"] for one in alone], rel=1e-12)
