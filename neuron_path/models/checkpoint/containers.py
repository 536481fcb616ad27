"""Containers: where training scripts keep the weights, among all else that they save."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.pickles import StandIn, weights_of

AVERAGED = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
)
USUAL = (
    "state_dict",
    "model",
    "module",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "weights",
    "params",
)
"""The keys of weights, the first ones first; timm's order."""
_ENOUGH = 8  # tensors under an unusual key that are taken for a model's; optimisers and losses hold fewer by name
# What torch.compile, FSDP and activation checkpointing put into names, anywhere.
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")


def chosen(held: Any, path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The one set of weights that a file holds, or the one under a key; other values beside them are passed over.

    Args:
        held: all that the file holds.
        path: of the file, for messages.
        key: a key of the file, keys of nested mappings with dots between, or what names begin with.

    Raises:
        NeuronPathError: no weights, several sets of them, or no such key.
    """
    if key is not None:
        held = _under(held, key, path)
    held = _unwrapped(held, path, averaged=key is None)
    weights = _tensors(held)
    if not weights:
        raise NeuronPathError(
            f"Checkpoint '{path}' is no state dict: expected a mapping of names to tensors, found {_contents(held)}."
        )
    if any(re.search(r"(^|[._])lora_[AB]?", name) for name in weights):
        raise NeuronPathError(
            f"Checkpoint '{path}' holds the parts of LoRA apart ({_some(n for n in weights if 'lora_' in n)}), and not "
            "how strongly they count: merge them where you trained, model = peft_model.merge_and_unload(), and save "
            "its state_dict."
        )
    return _without_wrappers(weights)


def _under(held: Any, key: str, path: Path) -> Any:
    found = held
    for part in [key] if isinstance(held, Mapping) and key in held else key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is not None and (isinstance(found, StandIn) or _tensors(_innermost(found))):
        return found
    names = _tensors(_unwrapped(held, path, averaged=True, only=(*AVERAGED, *USUAL)))
    if inside := {name.removeprefix(f"{key}."): value for name, value in names.items() if name.startswith(f"{key}.")}:
        return inside
    raise NeuronPathError(
        f"Checkpoint '{path}' has no weights under '{key}' (checkpoint_key): it holds {_contents(held)}."
    )


def _innermost(held: Any) -> Any:
    """What lies behind usual keys, whichever are there."""
    while isinstance(held, Mapping) and not _tensors(held):
        inner = next((held[key] for key in (*AVERAGED, *USUAL) if isinstance(held.get(key), Mapping)), None)
        if inner is None:
            break
        held = inner
    return held


def _unwrapped(held: Any, path: Path, *, averaged: bool, only: Iterable[str] | None = None) -> Any:
    """The weights out of the mappings around them, four deep at most.

    Args:
        held: all that the file holds.
        path: for messages.
        averaged: whether averaged weights go before the others.
        only: keys to look at; None: the usual ones, then all others.
    """
    for _ in range(4):
        if isinstance(held, StandIn):
            return weights_of(held) or held
        if not isinstance(held, Mapping):
            return held
        usual = [key for key in (*AVERAGED, *USUAL) if _leads_to_tensors(held.get(key))]
        others = [] if only or len(_tensors(held)) >= _ENOUGH else _unusual(held)
        if not usual and len(others) > 1:
            raise NeuronPathError(
                f"Checkpoint '{path}' holds several models ({', '.join(map(str, others))}): choose one with "
                f"model.checkpoint_key={others[-1]} (checkpoint_key='{others[-1]}' in Python)."
            )
        found = next(iter([*usual, *others]), None)
        if found is None:
            return held
        if found in AVERAGED and (averaged or len(usual) == 1):
            plain = next((key for key in usual if key not in AVERAGED), None)
            instead = f"; model.checkpoint_key={plain} takes the others" if plain else ""
            warnings.warn(f"Checkpoint '{path}': the averaged weights are taken ('{found}'){instead}.", stacklevel=2)
        held = held[found]
    return held


def _unusual(held: Mapping[Any, Any]) -> list[Any]:
    """The keys of mappings that hold as many tensors as a model."""
    return [key for key, value in held.items() if len(_tensors(_innermost(_opened(value)))) >= _ENOUGH]


def _opened(held: Any) -> Any:
    return weights_of(held) if isinstance(held, StandIn) else held


def _leads_to_tensors(held: Any, depth: int = 3) -> bool:
    held = _opened(held)
    if not isinstance(held, Mapping) or not depth:
        return False
    return bool(_tensors(held)) or any(_leads_to_tensors(held.get(key), depth - 1) for key in (*AVERAGED, *USUAL))


def _tensors(held: Any) -> dict[str, Tensor]:
    """Those of a mapping, by name."""
    if not isinstance(held, Mapping):
        return {}
    return {str(name): value for name, value in held.items() if isinstance(value, Tensor)}


def _without_wrappers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {_WRAPPERS.sub(r"\1", name): value for name, value in weights.items()}
    return renamed if len(renamed) == len(weights) else weights


def _contents(held: Any) -> str:
    if isinstance(held, Mapping):
        kinds = {type(value).__name__ for value in held.values() if isinstance(value, StandIn)}
        of = f", of {', '.join(sorted(kinds)[:3])} and not of tensors" if len(held) >= _ENOUGH and kinds else ""
        return f"the keys {_some(map(str, held))}{of}" if held else "an empty mapping"
    if isinstance(held, StandIn):
        return f"an object ({type(held).__name__})"
    return f"a value of type {type(held).__name__}"


def _some(names: Iterable[str], n: int = 6) -> str:
    found = sorted(names)
    return ", ".join(found[:n]) + (", …" if len(found) > n else "")
