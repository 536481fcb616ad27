"""Everything of a model that must be the same afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """A copy of weights, gradients, modes and hooks."""
    return {
        "weights": {name: (tensor.dtype, tensor.device, tensor.clone()) for name, tensor in model.state_dict().items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(module, hook)) for hook in _HOOKS] for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def assert_untouched(model: nn.Module, before: dict[str, Any]) -> None:
    """Raise unless the model is as it was when the snapshot was taken."""
    after = snapshot(model)
    for part in ("requires_grad", "training", "hooks", "attributes"):
        assert after[part] == before[part], part
    assert all(gradient is before["gradients"][name] for name, gradient in after["gradients"].items())
    for name, (dtype, device, tensor) in after["weights"].items():
        old_dtype, old_device, old = before["weights"][name]
        assert (dtype, device) == (old_dtype, old_device), name
        assert torch.equal(tensor, old), name
