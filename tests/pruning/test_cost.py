"""Parameters, operations and time."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from neuron_path.errors import NeuronPathError
from neuron_path.pruning.cost import count_flops, count_parameters, measure_latency
from neuron_path.pruning.slicing import slice_model


def literal_flops(width: int, depth: int, hidden: int, tokens: int, patch: int, channels: int, classes: int) -> int:
    """Two operations for each multiplication of a plain vision transformer's matrices."""
    patches = (tokens - 1) * width * patch * patch * channels
    linear = tokens * width * (3 * width + width + 2 * hidden)
    attention = 2 * tokens * tokens * width
    return 2 * (patches + depth * (linear + attention) + width * classes)


@pytest.mark.parametrize(("kept", "hidden"), [(None, 24), (10, 10)])
def test_operations_are_those_of_the_matrices(model: VisionTransformer, kept: int | None, hidden: int) -> None:
    counted = model if kept is None else slice_model(model, [range(kept)] * 3)
    assert count_flops(counted) == literal_flops(16, 3, hidden, 5, 4, 3, 5)


def test_parameters_fall_by_the_neurons_weights(model: VisionTransformer) -> None:
    small = slice_model(model, [range(10)] * 3)
    assert count_parameters(model) - count_parameters(small) == 3 * 14 * (16 + 1 + 16)


def test_both_models_are_timed_in_every_round(model: VisionTransformer) -> None:
    seen = []
    model.register_forward_hook(lambda _, inputs, __: seen.append(("original", len(inputs[0]))))
    small = slice_model(model, [range(10)] * 3)
    small._forward_hooks.clear()
    small.register_forward_hook(lambda _, inputs, __: seen.append(("pruned", len(inputs[0]))))
    one, two = measure_latency(model, small, (1, 4), rounds=3)
    assert (one.batch_size, two.batch_size) == (1, 4)
    assert len(one.original) == len(one.pruned) == len(two.original) == len(two.pruned) == 3
    names = ["original", "pruned", "original", "pruned", "pruned", "original", "original", "pruned"]  # warmed up first
    assert seen == [(name, 1) for name in names] + [(name, 4) for name in names]
    assert all(seconds > 0 for seconds in one.original + two.pruned)


def test_the_time_that_a_batch_size_may_take_is_kept(model: VisionTransformer) -> None:
    (latency,) = measure_latency(model, model, (1,), rounds=50, seconds=0)
    assert len(latency.original) == 3


def test_no_round_and_no_image_are_refused(model: VisionTransformer) -> None:
    for sizes, rounds in (((1,), 0), ((0,), 3)):
        with pytest.raises(NeuronPathError, match="expected 1 or more of each"):
            measure_latency(model, model, sizes, rounds)


def test_a_model_is_left_as_it_was(model: VisionTransformer) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_flops(model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
