"""Folders of Hugging Face whose models timm lacks: transformers makes the model, and it is taken as it is.

Of `config.json` only numbers and settings reach the library, never code, a path, a name of the hub or of a kernel; the
class is one of those named here, and its weights are those that were read as data. Nothing is fetched.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint.fetching import first_line
from neuron_path.models.checkpoint.huggingface import Settings, n_classes
from neuron_path.progress import hushed

# By model_type, what the library's classes are called, and whether they end in a classifier or in an image's embedding
# where the folder holds none.
CLASSES = {
    "beit": "Beit",
    "data2vec-vision": "Data2VecVision",
    "dinov2": "Dinov2",
    "dinov2_with_registers": "Dinov2WithRegisters",
    "ijepa": "IJepa",
}
TOWERS = {
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "metaclip_2": "MetaClip2",
    "metaclip_2_vision_model": "MetaClip2",
    "siglip": "Siglip",
    "siglip_vision_model": "Siglip",
}
KNOWN = (*CLASSES, *TOWERS)
RESIZING = ("dinov2", "dinov2_with_registers")
"""Those that resize their position embedding to whatever picture comes."""
# What says where else to look, in which type to compute, and how many classes there are, which the weights tell.
_LEFT_OUT = (
    "architectures", "attn_implementation", "auto_map", "distributed_config", "dtype", "experts_implementation",
    "fusion_config", "id2label", "kernel_config", "label2id", "num_labels", "output_attentions",
    "output_hidden_states", "quantization_config", "return_dict", "torch_dtype", "use_return_dict",
)  # fmt: skip
# Weights that no classifier of pictures reads: of the texts' tower, and of pretraining.
_UNREAD = re.compile(r"logit_(?:bias|scale)|text_(?:model|projection)\..*|(?:.*\.)?mask_token")


class Tower(nn.Module):
    """An encoder of pictures with a place for a classifier, which reads the embedding that the encoder ends with."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        output = self.encoder(images)
        embedding = getattr(output, "image_embeds", None)
        return self.classifier(output.pooler_output if embedding is None else embedding)


def make(path: Path, config: Settings, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
    """The model of a folder, with its weights; `num_classes` and `pretrained_cfg` tell of it as of timm's.

    Args:
        path: of the folder, for messages.
        config: of its `config.json`, with a `model_type` of `KNOWN`.
        weights: by the library's names.
        options: arguments for timm's models, of which only `num_classes` means something here.

    Raises:
        NeuronPathError: transformers is not installed, or the folder's parts do not belong together.
    """
    found = n_classes(weights)
    if set(options) - {"num_classes"} or options.get("num_classes", found) not in (0, found):
        raise NeuronPathError(
            f"Checkpoint '{path}' tells its model and its {found} classes, and timm's options do not change it: give "
            "none (model.kwargs), but for num_classes=0, which takes off the classifier."
        )
    kind = _class(path, str(config["model_type"]), weights, found)
    made: Any = _loaded(path, kind, _settings(config, kind, found), weights)
    own = getattr(made.config, "vision_config", made.config)
    size = own.image_size if isinstance(own.image_size, list | tuple) else (own.image_size, own.image_size)
    if not kind.__name__.endswith("ForImageClassification"):
        made = Tower(made)
    made.num_classes = options.get("num_classes", found)
    if made.num_classes == 0:
        made.classifier = nn.Identity()
    made.pretrained_cfg = {"architecture": kind.__name__, "input_size": (getattr(own, "num_channels", 3), *size)}
    return made


def _class(path: Path, model_type: str, weights: Mapping[str, Tensor], found: int) -> Any:
    """The library's class for a model with so many classes, or for what gives an embedding."""
    try:
        library = importlib.import_module("transformers")
    except ImportError as error:
        raise NeuronPathError(
            f"Checkpoint '{path}' is of a model that timm lacks ({model_type}), and transformers, which has it, is not "
            "installed: pip install transformers."
        ) from error
    ending = "ForImageClassification"
    if model_type in TOWERS and not found:
        has_projection = any(name.endswith("visual_projection.weight") for name in weights)
        ending = "VisionModelWithProjection" if has_projection else "VisionModel"
    name = (CLASSES | TOWERS)[model_type] + ending
    if not hasattr(library, name):
        raise NeuronPathError(
            f"Checkpoint '{path}' is of a model that transformers {library.__version__} lacks ({name}): install a "
            "newer one, pip install -U transformers."
        )
    return getattr(library, name)


def _settings(config: Settings, kind: Any, found: int) -> dict[str, Any]:
    """What of `config.json` is the architecture; of two towers, where that of the pictures stands alone, its part."""
    part = config.get("vision_config")
    is_part = isinstance(part, Mapping) and kind.config_class.model_type != config["model_type"]
    settings = _harmless(part if is_part else config)
    return settings if kind.__name__.endswith(("Model", "Projection")) else settings | {"num_labels": found}


def _harmless(config: Any) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key not in _LEFT_OUT}
    return {key: _harmless(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def _loaded(path: Path, kind: Any, settings: Settings, weights: Mapping[str, Tensor]) -> nn.Module:
    """A model of the class with these weights, all of them, in single precision.

    transformers itself renames what older versions of it have saved.
    """
    try:
        with hushed("transformers"), _without_bars():
            config = kind.config_class.from_dict(dict(settings))
            model, loading_info = kind.from_pretrained(
                None, config=config, state_dict=dict(weights), output_loading_info=True, local_files_only=True
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the library makes of settings that do not belong together
        raise NeuronPathError(
            f"Checkpoint '{path}' does not fit the {kind.__name__} of its config.json: {first_line(error)}"
        ) from error
    unknown = [name for name in loading_info["unexpected_keys"] if not _UNREAD.fullmatch(name)]
    problems = {
        "missing": loading_info["missing_keys"],
        "unknown": unknown,
        "of another shape": loading_info["mismatched_keys"],
    }
    listed = [
        f"{len(names)} {what} ({', '.join(sorted(map(str, names))[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in problems.items()
        if names
    ]
    if listed:
        raise NeuronPathError(
            f"Checkpoint '{path}' does not fit the {kind.__name__} of its config.json: {'; '.join(listed)}."
        )
    return model.float()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers' progress bars off the screen."""
    bars = importlib.import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
