"""Look through what wraps a model: parallel, compiled and averaged models, and modules that only hold one."""

from __future__ import annotations

from torch import nn

# By kind, the part that computes just what the wrapper does.
_INSIDE = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",  # torch's average of weights
    "ModelEma": "module",  # timm's
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "OptimizedModule": "_orig_mod",  # of torch.compile
    "_FabricModule": "_original_module",  # Lightning Fabric's
}
_LIBRARIES = ("torch", "timm", "lightning", "pytorch_lightning", "lightning_fabric")


def inside(module: nn.Module) -> nn.Module | None:
    """What a wrapper of a known kind holds; None of all else."""
    kind = type(module)
    if kind.__module__.split(".")[0] not in _LIBRARIES:
        return None
    return module._modules.get(_INSIDE.get(kind.__name__, ""))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers, and inside a module without a forward pass of its own that holds one module alone."""
    while isinstance(model, nn.Module):
        inner = inside(model)
        if inner is None and not _computes(model):
            parts = [part for part in model.children() if any(True for _ in part.parameters())]
            inner = parts[0] if len(parts) == 1 else None
        if inner is None:
            break
        model = inner
    return model


def _computes(model: nn.Module) -> bool:
    """Whether the class says what the module computes; torch's and Lightning's own base classes only raise an error."""
    home = next(kind for kind in type(model).__mro__ if "forward" in vars(kind))
    return "forward" in vars(model) or (home is not nn.Module and home.__name__ != "LightningModule")
