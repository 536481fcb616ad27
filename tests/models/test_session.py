"""What a session checks and remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.session import Session
from tests import tiny


def test_the_double_is_a_separate_exact_copy() -> None:
    model = tiny.make(dtype=torch.float32)
    session = Session(model)
    double = session.double()
    assert double is session.double()
    assert double.dtype == torch.float64
    assert session.dtype == torch.float32
    for (name, ours), theirs in zip(double.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs.double()), name
        assert theirs.dtype == torch.float32


@pytest.mark.parametrize("form", [list, tuple, np.array, np.uint16, lambda t: torch.tensor(t, dtype=torch.int16)])
def test_targets_come_in_many_forms(form: Callable[[list[int]], Any]) -> None:
    checked = Session(tiny.make()).check_targets(form([3, 0, 4]), 3)
    assert checked is not None
    assert checked.dtype == torch.int64
    assert checked.tolist() == [3, 0, 4]


def doubled(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return 2 * output


def test_a_model_that_does_more_than_its_blocks_is_refused(model: VisionTransformer, images: Tensor) -> None:
    model.blocks[1].register_forward_hook(doubled)
    session = Session(model)
    with session.active(), pytest.raises(NeuronPathError, match="other logits than its family 'vision_transformer'"):
        session.images(images)


def test_logits_that_are_not_finite_are_refused(model: VisionTransformer, images: Tensor) -> None:
    with torch.no_grad():
        model.get_submodule("blocks.0.mlp.fc2").get_parameter("weight").fill_(1e308)
    session = Session(model)
    with session.active(), pytest.raises(NeuronPathError, match=r"logits are not finite .* weights are damaged"):
        session.images(images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_hook_on_the_activations_is_refused(dtype: torch.dtype, images: Tensor) -> None:
    model = tiny.make(dtype=dtype)
    keep = (torch.arange(24) != 5).to(dtype)
    layer = model.get_submodule("blocks.1.mlp.fc2")
    handle = layer.register_forward_pre_hook(lambda _, args: (args[0] * keep,))
    session = Session(model)
    with session.active(), pytest.raises(NeuronPathError, match="FFN of block 1 adds something else"):
        session.images(images)
    handle.remove()
    with session.active():
        session.images(images)


def test_a_hook_that_only_looks_is_no_matter(model: VisionTransformer, images: Tensor) -> None:
    model.blocks[1].register_forward_hook(lambda *_: None)
    session = Session(model)
    with session.active():
        assert torch.equal(session.images(images), images)


def test_images_take_the_models_dtype(images: Tensor) -> None:
    session = Session(tiny.make(dtype=torch.float32))
    with session.active():
        assert session.images(images).dtype == torch.float32
    assert images.dtype == torch.float64


def test_a_model_made_under_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = tiny.make()
    with pytest.raises(NeuronPathError, match=r"made under torch\.inference_mode.*load it outside"):
        Session(model)


def test_the_float64_copy_has_the_weights_of_now() -> None:
    model = tiny.make(dtype=torch.float32)
    session = Session(model)
    assert session.double() is session.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    double = dict(session.double().model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(double[name], parameter.double()), name


def test_the_weights_are_copied_once_for_all_that_is_done_while_a_session_is_active() -> None:
    model = tiny.make(dtype=torch.float32)
    session = Session(model)
    copied = Mock(wraps=session.double().model.load_state_dict)
    session.double().model.load_state_dict = copied
    for change in (0.0, 1.0):
        for parameter in model.parameters():
            parameter.data.add_(change)
        copied.reset_mock()
        with session.active():
            session.double()
            with session.active():
                double = dict(session.double().model.named_parameters())
            session.double()
        assert copied.call_count == 1
        for name, parameter in model.named_parameters():
            assert torch.equal(double[name], parameter.double()), name


def test_a_model_is_verified_once_while_it_stands_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.make()
    images, seen = tiny.make_images(2), []
    verify = Session._verify
    monkeypatch.setattr(Session, "_verify", lambda self, image: (seen.append(1), verify(self, image))[1])

    def look() -> int:
        with (session := Session(model)).active():
            session.images(images)
            session.images(images)
        return len(seen)

    assert look() == look() == 1
    with torch.no_grad():
        model.head.weight.mul_(2)
    assert look() == 1
    model.blocks[1].attn.scale = 0.3
    assert look() == 2
    model.blocks[0].mlp.act = torch.nn.ReLU()
    assert look() == 3
    handle = model.blocks[0].mlp.fc1.register_forward_hook(lambda *_: None)
    assert look() == 4
    assert look() == 5
    handle.remove()
    assert look() == 5
    model.forward_features = lambda x, **_: x.new_zeros(len(x), 5, 16)
    with pytest.raises(NeuronPathError):
        look()
