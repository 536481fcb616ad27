"""Run the maths on a model without leaving a trace, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from neuron_path.errors import NeuronPathError


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
    """No autocast, no TF32, no inference mode, and gradients off until the maths asks for them.

    Whatever the caller's context, the arithmetic is that of the model's own dtype.
    """
    precision, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolution


def check_finite(model: nn.Module) -> None:
    """Refuse a model whose weights hold NaN or infinity.

    Raises:
        NeuronPathError: names the first such weight.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NeuronPathError(f"The model's weight '{name}' holds NaN or infinity: the checkpoint is damaged.")
