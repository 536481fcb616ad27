"""Run a module's own code with some of its parts exchanged, on the same weights, and leave the module alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from torch import nn

from neuron_path.models.wrappers import inside


def stand_in(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """What looks like a module to who reads its attributes, but computes something else when called."""
    twin = _twin(module)
    twin.forward = forward
    return twin


def graft(module: nn.Module, parts: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The module with others in the place of some of its parts, wherever these lie in it.

    What leads to an exchanged part is copied, without hooks and in eval mode; all else, and every weight, is shared.
    """
    return _grafted(module, dict(parts))


def _grafted(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in known and (inner := inside(module)) is not None:
        twin = _grafted(inner, known)
        known[module] = module if twin is inner else twin
    elif module not in known:
        children = {name: _grafted(child, known) for name, child in module._modules.items() if child is not None}
        known[module] = module
        if any(child is not module._modules[name] for name, child in children.items()):
            known[module] = _twin(module)
            known[module]._modules.update(children)
    return known[module]


def _twin(module: nn.Module) -> nn.Module:
    """The same module once more, with its weights."""
    twin = object.__new__(type(module))
    for name, value in vars(module).items():
        own = isinstance(value, MethodType) and value.__self__ is module
        twin.__dict__[name] = MethodType(value.__func__, twin) if own else value
        if "hooks" in name and isinstance(value, dict):
            twin.__dict__[name] = type(value)()
    twin.__dict__.update(_modules=dict(module._modules), training=False, _compiled_call_impl=None)
    return twin
