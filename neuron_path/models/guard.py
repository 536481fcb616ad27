"""Run the maths on a model without leaving a trace, in exact arithmetic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import nn

from neuron_path.errors import NeuronPathError

T = TypeVar("T")

one_at_a_time = threading.RLock()
"""Held by the thread that runs a model: the switches below are the process's."""


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode and turn its parameters' gradients off; restore both on the way out, always."""
    training = [(module, module.training) for module in model.modules()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in training:
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32, no inference mode, no kernel without derivatives, and gradients off until the maths asks.

    Whatever the caller's context, the arithmetic is that of the model's own dtype.
    """
    with (
        _full_precision(),
        _plain_attention(),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """`nn.MultiheadAttention` without its fast path, which forward mode cannot go through."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 matrices in float32: no TF32, no bfloat16.

    torch has two interfaces to this. The older one refuses to be read once the newer (`fp32_precision`, from 2.9 on)
    has been used; both are set, so that they agree, and both are put back.
    """
    switches = _precision_switches()
    newer = [switch.fp32_precision for switch in switches]
    products = _read(torch.get_float32_matmul_precision, "highest")
    convolutions = _read(lambda: torch.backends.cudnn.allow_tf32, True)
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        for switch, precision in zip(switches, newer, strict=True):
            switch.fp32_precision = "none"  # take the value of the switch above; an own value only where that differs
            if switch.fp32_precision != precision:
                switch.fp32_precision = precision


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Products of float32 matrices on a GPU with TF32's 10 bits, within `exact`."""
    switches = [switch for switch in _precision_switches() if switch.fp32_precision == "ieee"]
    products = _read(torch.get_float32_matmul_precision, "highest")
    try:
        torch.set_float32_matmul_precision("high")
        for switch in switches:
            with suppress(RuntimeError):  # a library that has no such arithmetic
                switch.fp32_precision = "tf32"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        for switch in switches:
            switch.fp32_precision = "ieee"


def _precision_switches() -> list[Any]:
    """The newer interface's switches; none in versions of torch without them."""
    parts = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")
    switches = []
    for part in parts:
        with suppress(AttributeError):
            switch = attrgetter(part)(torch.backends)
            switch.fp32_precision  # noqa: B018 - there, or an AttributeError
            switches.append(switch)
    return switches


def _read(setting: Callable[[], T], otherwise: T) -> T:
    """A setting of the older interface; its default when it refuses to be read."""
    try:
        return setting()
    except RuntimeError:
        return otherwise


def standing(model: nn.Module) -> Hashable | None:
    """What decides how a model computes, but for the values of its weights: its modules, their replaced methods and
    settings, and the tensors that they hold. None where there are hooks, which may do otherwise the next time."""
    everywhere: Any = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return None
    parts: list[Hashable] = []
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return None
        parts += [id(module), type(module)]
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str | tuple):
                parts.append((name, repr(value)))
            elif callable(value):
                parts.append((name, id(value)))
        parts += [id(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())]
    return tuple(parts)


def check_weights(model: nn.Module) -> None:
    """Refuse a model whose weights hold NaN or infinity (its buffers NaN: an infinite one may be a bound), are whole
    numbers, or were made under inference mode.

    Raises:
        NeuronPathError: names the first such weight.
    """
    learned = dict(model.named_parameters())
    if any(parameter.is_meta for parameter in learned.values()):
        raise NeuronPathError("The model is on the meta device and has no weights: load them first.")
    if next(iter(learned.values())).is_inference():
        raise NeuronPathError(
            "The model was made under torch.inference_mode, which keeps gradients from its weights for ever: make "
            "or load it outside."
        )
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            continue
        if torch.isfinite(tensor.sum()):  # one pass: a sum hides no NaN and no infinity, it can only overflow
            continue
        if not (torch.isfinite(tensor) if name in learned else ~tensor.isnan()).all():
            raise NeuronPathError(f"The model's weight '{name}' holds NaN or infinity: the checkpoint is damaged.")


def check_not_quantised(model: nn.Module) -> None:
    """Refuse a model with layers whose weights are not floating-point numbers.

    Raises:
        NeuronPathError: names the first such layer.
    """
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        packed = callable(weight) and "quantized" in type(module).__module__  # torch's own
        kind = "packed" if packed else str(getattr(weight, "dtype", torch.float32)).removeprefix("torch.")
        if packed or kind.lstrip("qu").startswith("int"):
            raise NeuronPathError(
                f"The model's layer '{name}' is a {type(module).__name__} with {kind} weights: quantised models have "
                "no gradients. Dequantise it first, or load the model in its floating type."
            )
