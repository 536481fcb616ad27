"""Loading: which model, the embedded one or any of timm's, and where its weights come from."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import VisionTransformer
from torch import nn

from neuron_path.errors import NeuronPathError, nearest
from neuron_path.models.adapter import check_supported
from neuron_path.models.checkpoint import Checkpoint, make, open_checkpoint, put
from neuron_path.models.checkpoint.fetching import fetch, first_line
from neuron_path.models.checkpoint.fitting import fit
from neuron_path.models.checkpoint.layouts import in_timm_names
from neuron_path.progress import hushed

EMBEDDED = "digits_vit"
_TORCHVISION = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
}


def load_model(
    name: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    checkpoint_key: str | None = None,
    pretrained: bool = False,
    **timm_kwargs: Any,
) -> nn.Module:
    """Load a vision transformer, frozen and in eval mode.

    Args:
        name: `digits_vit`, the embedded 12-block ViT trained on handwritten digits, any timm model name, or a
            repository of the Hugging Face hub (`google/vit-base-patch16-224`). None: the model that the checkpoint
            tells, as Hugging Face's and timm's folders do, else `digits_vit`.
        checkpoint: a file of weights, `.safetensors`, PyTorch's or Google's `.npz`, or a folder; `docs/models.md` lists
            what is read. Classes and preprocessing that it tells become the model's.
        checkpoint_key: under which key of the file the weights lie, where it holds several models.
        pretrained: fetch timm's own weights from the model hub, unless there is a checkpoint.
        **timm_kwargs: passed on to `timm.create_model` (`num_classes`, `img_size`, …); `layer_norm_eps` is that of all
            its norms.

    Raises:
        NeuronPathError: no such model or file, a model that is not supported, a file that does not fit the
            architecture or has no weights, weights that cannot be fetched.

    >>> model = load_model("digits_vit")
    >>> len(model.blocks), model.training
    (12, False)
    """
    if name is not None and checkpoint is None and _is_repository(name):
        name, checkpoint = None, fetch(name)
    opened = None if checkpoint is None else open_checkpoint(checkpoint, key=checkpoint_key)
    if opened is not None and opened.description.config and name in (None, EMBEDDED):
        return make(opened, timm_kwargs).eval().requires_grad_(False)
    if opened is not None and _is_told(name, opened, timm_kwargs):
        model = _told_model(name, opened, timm_kwargs)
    elif name in (None, EMBEDDED):
        model = _embedded(checkpoint is None, timm_kwargs)
    else:
        model = _named_model(str(name), pretrained and checkpoint is None, checkpoint is None, timm_kwargs)
    if opened is not None:
        put(model, opened)
    return model.eval().requires_grad_(False)


def _is_told(name: str | None, opened: Checkpoint, timm_kwargs: Mapping[str, Any]) -> bool:
    """Whether the checkpoint says which model it is of, and the name is no reason to disbelieve it."""
    description, is_unnamed = opened.description, name in (None, EMBEDDED)
    is_unnamed_or_same = is_unnamed or name == description.architecture
    if is_unnamed_or_same and description.lacking and description.lacking not in timm_kwargs:
        raise NeuronPathError(
            f"Checkpoint '{opened.path}' tells its architecture but for {description.lacking}, which is in no file of "
            f"weights: give +model.kwargs.{description.lacking}=N ({description.lacking}=N in Python)."
        )
    if is_unnamed and description.why_not:
        raise NeuronPathError(
            f"Checkpoint '{opened.path}' tells its architecture, but {description.why_not}: give a timm model of the "
            "same architecture as model.name=NAME (name='NAME' in Python)."
        )
    return description.architecture is not None and (description.is_certain or is_unnamed_or_same)


def _told_model(name: str | None, opened: Checkpoint, timm_kwargs: Mapping[str, Any]) -> nn.Module:
    """The model that a checkpoint tells of, without its weights; given arguments go before those that it tells."""
    description = opened.description
    architecture = str(description.architecture)
    arguments = {**description.kwargs, **timm_kwargs}
    if description.folder is not None:
        model: Any = _from_timm(f"local-dir:{description.folder}", False, timm_kwargs)
    else:
        model = _from_timm(architecture, False, arguments)
    model.pretrained_cfg = {**model.pretrained_cfg, "model_args": arguments}
    check_supported(model)
    if name not in (None, EMBEDDED, architecture) and not _are_alike(model, str(name), timm_kwargs):
        raise NeuronPathError(
            f"Checkpoint '{opened.path}' tells another architecture than '{name}': leave out model.name, or choose the "
            "file that you mean."
        )
    return model


def _are_alike(model: Any, name: str, timm_kwargs: Mapping[str, Any]) -> bool:
    """Whether a named model has blocks of the same shapes as a model, whatever its heads and image size."""
    own, other = (
        {key: value.shape for key, value in one.state_dict().items() if "blocks" in key}
        for one in (model, _from_timm(name, False, timm_kwargs))
    )
    return own == other


def _named_model(name: str, fetched: bool, is_random: bool, timm_kwargs: Mapping[str, Any]) -> nn.Module:
    model = _from_timm(name, fetched, timm_kwargs)
    check_supported(model)
    if is_random and not fetched:
        warnings.warn(
            f"The weights of '{name}' are random. For trained ones give model.checkpoint=FILE or "
            "model.pretrained=true on the command line (checkpoint=FILE or pretrained=True in Python).",
            stacklevel=3,
        )
    if fetched:
        _warn_of_a_random_head(name, model)
    return model


def _warn_of_a_random_head(name: str, model: Any) -> None:
    """timm gives a model whose classes are not those of its weights a new head, of random numbers, without a word."""
    trained = (getattr(model, "pretrained_cfg", None) or {}).get("num_classes")
    if trained is not None and getattr(model, "num_classes", 0) not in (0, trained):
        warnings.warn(
            f"The head of '{name}' is random: its weights are for {trained} classes, and num_classes is "
            f"{model.num_classes}. Fit one with head=linear_probe head.root=DIR, or leave out num_classes.",
            stacklevel=4,
        )


def _is_repository(name: str) -> bool:
    """Whether a name is that of a repository of the hub, as `google/vit-base-patch16-224`."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists()


def _embedded(with_weights: bool, overrides: Mapping[str, Any]) -> nn.Module:
    with resources.as_file(resources.files("neuron_path.models") / "weights" / f"{EMBEDDED}.safetensors") as file:
        with safe_open(file, "pt") as weights:
            metadata = weights.metadata()
        try:
            model: Any = VisionTransformer(**(json.loads(metadata["architecture"]) | dict(overrides)))
        except (TypeError, ValueError, AssertionError) as error:
            raise _unmakeable(EMBEDDED, overrides, error) from error
        if with_weights:
            # Renamed for what it leaves out: the head, where the model is to have none.
            fit(model, in_timm_names(load_file(file), model, file).weights, file)
    made = json.loads(metadata["preprocessing"])
    model.pretrained_cfg = {
        "input_size": (made["channels"], *made["size"]),
        "mean": (made["mean"],) * made["channels"],
        "std": (made["std"],) * made["channels"],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    return model


def _from_timm(name: str, pretrained: bool, timm_kwargs: Mapping[str, Any]) -> nn.Module:
    if ":" not in name and not timm.is_model(name.split(".", maxsplit=1)[0]):
        if Path(name).exists():
            raise NeuronPathError(
                f"'{name}' is no model's name but a file or folder: give it as "
                f"{shlex.quote(f'model.checkpoint={name}')} (checkpoint={name!r} in Python)."
            )
        if name in _TORCHVISION:
            raise NeuronPathError(
                f"'{name}' is torchvision's name of a model, which is '{_TORCHVISION[name]}' in timm: give that, or in "
                "Python the model itself, find_paths(model, …)."
            )
        raise NeuronPathError(
            f"No model is named '{name}'.{nearest(name, [EMBEDDED, *timm.list_models()])} Known: {EMBEDDED} and "
            "timm's models, which timm.list_models() lists."
        )
    options = dict(timm_kwargs)
    if "layer_norm_eps" in options:
        options["norm_layer"] = partial(nn.LayerNorm, eps=options.pop("layer_norm_eps"))
    try:
        with hushed("timm", "huggingface_hub"):  # five retries on a lost network are one error
            return timm.create_model(name, pretrained=pretrained, **options)
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        ArithmeticError,
        ImportError,
        TypeError,
        AssertionError,
    ) as error:
        from_a_hub = ":" in name and isinstance(error, OSError)  # even its configuration
        if isinstance(error, TypeError) or not (pretrained or from_a_hub):
            raise _unmakeable(name, timm_kwargs, error) from error
        what = "pretrained weights" if pretrained else "configuration"
        raise NeuronPathError(
            f"Could not fetch the {what} of '{name}' ({first_line(error)}). Check the name and the network, or "
            "give a model of timm and a file with checkpoint=FILE."
        ) from error


def _unmakeable(name: str, options: Mapping[str, Any], error: Exception) -> NeuronPathError:
    given = f" with {dict(options)}" if options else ""
    return NeuronPathError(f"The model '{name}' cannot be made{given}: {first_line(error)}")
