"""How the tails are computed: exactly, or faster with fewer digits, or compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.models.adapter import Adapter
from neuron_path.models.guard import tensor_float_32

PRECISIONS = ("fp32", "tf32", "bf16")
_MOST_BLOCKS = 256  # of a model, each compiled on its own; torch gives up after 8 by default

_Run = Callable[[int, Tensor], Tensor]
_compiled: WeakKeyDictionary[Adapter, _Run] = WeakKeyDictionary()


@dataclass(frozen=True)
class Arithmetic:
    """Of the tails alone: the clean pass, the prefix and the head stay in the model's own type, and with them the score
    of the path that is found.

    Args:
        precision: "fp32" exactly; "tf32" or "bf16" round what goes into matrix products to 10 or 7 bits. Then a choice
            may turn out otherwise, and may depend on the batch.
        compiled: run blocks through torch.compile.
    """

    precision: str = "fp32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if not isinstance(self.compiled, bool):
            raise NeuronPathError(f"compile is {self.compiled!r}; expected True or False.")

    def on(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Arithmetic:
        """What the device can do of it for a model of this type; a line of warning says what it cannot."""
        precision, compiled = self.precision, self.compiled
        if dtype != torch.float32 and self != Arithmetic():
            name = str(dtype).removeprefix("torch.")
            warnings.warn(
                f"The model is in {name}: precision and compile are for models in float32; the search runs as it is.",
                stacklevel=2,
            )
            return Arithmetic()
        if not has_units(precision, device):
            warnings.warn(
                f"This {'GPU' if device.type == 'cuda' else device.type.upper()} has no units for {precision}: the "
                "search runs in fp32.",
                stacklevel=2,
            )
            precision = "fp32"
        if compiled and (reason := _cannot_compile(device)):
            warnings.warn(f"torch.compile does not work here ({reason}): the search runs without it.", stacklevel=2)
            compiled = False
        return Arithmetic(precision, compiled)

    def runner(self, adapter: Adapter) -> _Run:
        """What runs a block of the model."""
        if not self.compiled:
            return adapter.run
        if adapter not in _compiled:
            _compiled[adapter] = _compile(adapter.run)
        return _compiled[adapter]

    def forwards(self, device: torch.device) -> Any:
        """The context of a forward pass through a tail."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def both_ways(self) -> Any:
        """The context of a forward and a backward pass through a tail."""
        return tensor_float_32() if self.precision == "tf32" else nullcontext()


def has_units(precision: str, device: torch.device) -> bool:
    """Whether the device multiplies in that precision faster than in fp32."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or precision == "tf32":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any("bf16" in name and found for name, found in capabilities.items())


def _compile(run: _Run) -> _Run:
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    compiled = torch.compile(run)
    broken: set[int] = set()

    def patient(index: int, h: Tensor) -> Tensor:
        if index not in broken:
            try:
                with _many_graphs(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the compiler's own
                    return compiled(index, h)
            except TorchDynamoException as error:
                broken.add(index)
                warnings.warn(f"Block {index} cannot be compiled ({_reason(error)}): it runs as it is.", stacklevel=2)
        return run(index, h)

    return patient


@contextmanager
def _many_graphs() -> Iterator[None]:
    """Let every block have a graph of its own."""
    config: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    with config.patch({name: _MOST_BLOCKS}):
        yield


def _cannot_compile(device: torch.device) -> str | None:
    """Why not, if so: tried on a small function."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """An error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
