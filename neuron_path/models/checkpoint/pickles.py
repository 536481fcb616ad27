"""PyTorch files with more than tensors in them: arguments, paths and settings become inert stand-ins.

PyTorch's restricted unpickler builds the tensors and nothing else. Whatever other class a file names is replaced by a
stand-in, which keeps what it is given and does nothing: the class is not imported, and none of its code runs.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from neuron_path.errors import NeuronPathError

# What only a file that wants to run something asks for; `builtins` is refused but for its types of data.
_REFUSED = (
    "asyncio", "bdb", "code", "codeop", "commands", "cProfile", "ctypes", "distutils", "importlib", "marshal",
    "multiprocessing", "nt", "os", "pdb", "pickle", "pip", "pkgutil", "platform", "posix", "posixpath", "profile",
    "pty", "pydoc", "requests", "runpy", "shutil", "socket", "subprocess", "sys", "tempfile", "threading", "timeit",
    "urllib", "webbrowser",
)  # fmt: skip
_DATA = (
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range",
    "set", "slice", "str", "tuple", "type",
)  # fmt: skip


class StandIn(list):
    """In place of an object that is not read: its state is kept, and nothing is done with it."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_pytorch(file: Path) -> Any:
    """What a file of `torch.save` holds, with stand-ins for all that is neither a tensor nor plain data.

    Raises:
        OSError: it cannot be opened.
        NeuronPathError: it is no such file, or it asks for functions that could run code.
    """
    foreign = _foreign(file)
    if not any(map(_is_refused, foreign)):
        try:
            return _load(file, foreign)
        except OSError:
            raise
        except Exception as error:  # what is no file of tensors makes the restricted unpickler raise anything
            raise _refusal(file, foreign) from error
    raise _refusal(file, sorted(filter(_is_refused, foreign)))


def arguments_of(held: Any) -> dict[str, Any]:
    """The attributes of an object that stands in for an `argparse.Namespace`, or a plain mapping of settings.

    >>> arguments_of({"model": "vit"}), arguments_of(3)
    ({'model': 'vit'}, {})
    """
    state = held.state if isinstance(held, StandIn) else held
    return {str(key): value for key, value in state.items()} if isinstance(state, dict) else {}


def weights_of(held: StandIn) -> dict[str, Tensor]:
    """The weights of a whole pickled module, by their names; none of another object."""
    return dict(_tensors(held, ""))


def _tensors(held: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    state = arguments_of(held) if isinstance(held, StandIn) else {}
    passing = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (state.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in passing:
                yield f"{prefix}{name}", value
    for name, child in (state.get("_modules") or {}).items():
        yield from _tensors(child, f"{prefix}{name}.")


def _load(file: Path, foreign: list[str]) -> Any:
    """Objects that turn out to be mappings become ordered ones, one kind after the other."""
    kinds: dict[str, type] = {name: type(name, (StandIn,), {}) for name in foreign}
    for _ in range(len(foreign) + 1):
        known: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (kind, name) for name, kind in kinds.items()
        ]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(known):
                warnings.simplefilter("ignore")  # about the pickle protocol
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            mapping = next((name for name, kind in kinds.items() if repr(kind) in str(error)), None)
            if "SETITEM" not in str(error) or mapping is None:
                raise
            kinds[mapping] = type(mapping, (), {"__new__": lambda cls, *_: OrderedDict()})
    raise UnpicklingError("mappings that cannot be made")


def _foreign(file: Path) -> list[str]:
    """The names that a file asks for and the restricted unpickler does not know; it is scanned, not unpickled."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    except OSError:
        raise
    except Exception:  # damaged, or in the format before PyTorch 1.6
        return sorted(_old_globals(file))


def _old_globals(file: Path) -> set[str]:
    """All names in a file before PyTorch 1.6: a magic number, a version, the system, then the object, all pickled."""
    found: set[str] = set()
    try:
        with file.open("rb") as stream:
            for _ in range(4):
                found |= {
                    str(argument)
                    .replace("__builtin__", "builtins")
                    .replace("builtins long", "builtins int")
                    .replace(" ", ".")
                    for code, argument, _ in pickletools.genops(stream)
                    if code.name in ("GLOBAL", "INST")
                }
    except ValueError:  # no pickle: the unpickler will say so
        return set()
    return found  # those that the restricted unpickler knows too, which it will take itself


def _is_refused(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if module in ("", "builtins"):
        return attribute not in _DATA
    return module.split(".")[0] in _REFUSED


def _refusal(file: Path, foreign: list[str]) -> NeuronPathError:
    holds = f" (it holds {', '.join(foreign[:3])}{', …' if len(foreign) > 3 else ''})" if foreign else ""
    how = "Save the model's state_dict, best as .safetensors."
    if _is_script(file):
        how = f"It is a TorchScript archive: save torch.jit.load('{file}').state_dict()."
    return NeuronPathError(
        f"Checkpoint '{file}' is refused: it is no PyTorch file of tensors alone{holds}, and other Python objects "
        f"could run code. {how}"
    )


def _is_script(file: Path) -> bool:
    """Whether a file is an archive of code, as `torch.jit.save` writes it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
