"""LoRA: a folder of PEFT's, which holds what it adds to a model, put into the weights of that model.

To a layer's weight W (out, in) it adds ``s · B A``, with A (r, in), B (out, r) and s = α / r, or α / √r where
`use_rslora` says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.names import as_saved
from neuron_path.models.checkpoint.reading import IN_A_FOLDER, held_by

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_A, _B = ".lora_A.weight", ".lora_B.weight"
_MERGE = (
    "merge it where you trained, peft_model.merge_and_unload().save_pretrained('merged'), and give that folder, with "
    "the image processor saved in it too"
)
# Options by which more is added than B A, or something else.
_OTHERWISE = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "fan_in_fan_out", "kasa_config", "layer_replication",
    "lora_bias", "monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora",
    "use_qalora", "velora_config",
)  # fmt: skip


def adapter_in(path: Path) -> Path | None:
    """The folder of an adapter that a path names, itself or by its file of weights; None for any other path."""
    folder = path if path.is_dir() else path.parent
    is_named = path.name in _WEIGHTS or not any((folder / name).is_file() for name in IN_A_FOLDER)
    return folder if (path.is_dir() or path.name in _WEIGHTS) and is_named and (folder / CONFIG).is_file() else None


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter was trained on.

    Raises:
        NeuronPathError: an adapter of another kind, or of a model that is not at hand.
    """
    config = _config(folder)
    if config.get("peft_type") != "LORA":
        raise _refusal(folder, f"its peft_type is '{config.get('peft_type')}', and only LORA is known")
    if strange := [name for name in _OTHERWISE if config.get(name)]:
        raise _refusal(folder, f"{strange[0]} is not known")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not Path(base).expanduser().is_dir():
        raise _refusal(folder, f"its base_model_name_or_path is '{base}', which is no folder here")
    if adapter_in(Path(base).expanduser()) is not None:
        raise _refusal(folder, f"its base '{base}' is an adapter too")
    return Path(base).expanduser()


def merged(folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base's weights with the adapter in them.

    Args:
        folder: of the adapter.
        weights: of its base, by the names of its file; they stay.

    Raises:
        NeuronPathError: the adapter is not of this base.
    """
    config, parts = _config(folder), _parts(folder)
    made = dict(weights)
    for name, value in parts.items():
        if name.endswith(_A):
            target = name.removesuffix(_A) + ".weight"
            made[target] = _added(folder, config, target, made, value, parts)
        elif ".lora_" not in name:
            made[name.replace(".base_layer.", ".")] = value
    return made


def _added(
    folder: Path, config: Mapping[str, Any], name: str, weights: Mapping[str, Tensor], a: Tensor, parts: Any
) -> Tensor:
    weight, b = weights.get(name), parts.get(name.removesuffix(".weight") + _B)
    shapes = [tensor.shape for tensor in (weight, a, b) if tensor is not None]
    if weight is None or b is None or not _fit(*shapes):
        raise _refusal(folder, f"what it adds to '{name}' does not fit its base")
    rank = len(a) ** 0.5 if config.get("use_rslora") else len(a)
    return weight + config["lora_alpha"] / rank * (b.to(weight) @ a.to(weight))


def _fit(weight: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether B A is a matrix of a weight's shape."""
    return len(weight) == len(a) == len(b) == 2 and (*b, *a) == (weight[0], a[0], a[0], weight[1]) and a[0] > 0


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config | {"lora_alpha": float(config.get("lora_alpha", 8))}  # PEFT's own default
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _refusal(folder, f"its {CONFIG} cannot be read") from error


def _parts(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors, by the names of its base's file."""
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    held = {} if file is None else held_by(file)
    held = held if isinstance(held, dict) else {}
    found = {name.removeprefix("base_model.model."): value for name, value in held.items() if isinstance(value, Tensor)}
    if not any(name.endswith(_A) for name in found):
        raise _refusal(folder, f"it holds no …{_A}")
    return as_saved(found)


def _refusal(folder: Path, why: str) -> NeuronPathError:
    return NeuronPathError(f"Checkpoint '{folder}' is an adapter that cannot be put into its base: {why}; {_MERGE}.")
