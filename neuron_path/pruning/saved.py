"""A pruned model on disk: weights as safetensors, and JSON that says what they are; no pickle either way."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.models.checkpoint.fitting import fit
from neuron_path.models.checkpoint.reading import read
from neuron_path.models.guard import exact, frozen
from neuron_path.models.heads import KINDS, LinearHead, attach_head, head_of
from neuron_path.models.loading import load_model
from neuron_path.models.preprocessing import image_transform, input_size
from neuron_path.pruning.description import (
    DESCRIPTION_FILE,
    DTYPES,
    PrunedDescription,
    read_pruned,
    write_description,
)
from neuron_path.pruning.layers import UnitLayers, unit_layers
from neuron_path.store.atomic import write_bytes
from neuron_path.store.jsonable import jsonable
from neuron_path.store.provenance import collect_provenance, weight_hash
from neuron_path.types import TokenScopeName

WEIGHTS_FILE = "model.safetensors"
# What makes timm or load_model read or fetch weights: a description that asks for it was not written here.
_NO_ARGUMENTS = ("name", "checkpoint", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 1e-2}


def save_pruned(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    name: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PrunedDescription:
    """Write a pruned model into a directory, from which `load_pruned` makes the same model.

    The model is first rebuilt from what is about to be written and compared with the given one, so that a directory
    that was written can be read.

    Args:
        model: from `slice_model`; also one that was pruned twice, or not at all.
        directory: made if need be; a pruned model that lies there is replaced. Each file is whole or absent, and the
            description, written last, knows the weights' hash.
        name: the architecture, as `neuron_path.load_model` takes it; None: the one that timm noted in the model.
        kwargs: timm's arguments with which the model was made (`img_size`, `embed_dim`, …); `num_classes` is known.
            None: those that its checkpoint has told, if it has.
        classes: class names by index.
        preprocessing: what the model's images need and its own `pretrained_cfg` does not say, as `overrides` of
            `neuron_path.models.preprocessing.image_transform`.
        provenance: what made the model, of JSON's types: run, ranking, kept share, seed.

    Returns:
        What was written beside the weights.

    Raises:
        NeuronPathError: an unsupported model, a name or arguments that do not make this architecture, another number of
            classes, something without a JSON form, or a directory that cannot be written.
    """
    timm_model: Any = model
    pretrained_cfg = getattr(model, "pretrained_cfg", None) or {}
    name = name or pretrained_cfg.get("architecture")
    kwargs = pretrained_cfg.get("model_args") if kwargs is None else kwargs
    if not name:
        raise NeuronPathError(
            "The model does not say which architecture it is: give the name that load_model takes, as name='NAME', "
            "such as name='digits_vit' for the embedded model."
        )
    if classes and len(classes) != timm_model.num_classes:
        raise NeuronPathError(
            f"There are {len(classes)} class names for a model of {timm_model.num_classes} classes: give one for each, "
            "or leave them out."
        )
    # A copy of each, because safetensors refuses tensors that share memory.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    data = save(tensors)
    head = head_of(model)
    arguments = {"num_classes": timm_model.num_classes if head is None else head.n_before} | dict(kwargs or {})
    _, prepared = image_transform(model, preprocessing)
    made = collect_provenance({}, **dict(provenance or {}))
    del made["config"], made["seed"]  # those of a run, which `provenance` may name
    description = PrunedDescription(
        name=str(name),
        kwargs=jsonable(arguments, "kwargs"),
        widths={scope: _widths(blocks) for scope, blocks in _scopes(model).items()},
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        weights_sha256=hashlib.sha256(data).hexdigest(),
        classes=[str(one) for one in classes],
        heads=_widths(_pruned_heads(model)),
        head=[] if head is None else [name for name in KINDS if getattr(head, name)],
        preprocessing=prepared,
        provenance=made | jsonable(dict(provenance or {}), "provenance") | {"weight_hash": _weight_hash(tensors)},
    )
    _check_same(model, _rebuild(description, tensors, Path(directory)), description)
    write_bytes(Path(directory) / WEIGHTS_FILE, data)
    write_description(directory, description)
    return description


def load_pruned(directory: str | os.PathLike[str]) -> nn.Module:
    """Make the model that `save_pruned` wrote: the same logits, frozen, in eval mode, on the CPU.

    Its `pretrained_cfg` has the saved preprocessing. Nothing in the files can run code or fetch anything.

    Raises:
        NeuronPathError: no such directory, files that are missing, foreign, damaged or do not belong together.
    """
    description = read_pruned(directory)
    file = Path(directory) / WEIGHTS_FILE
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise NeuronPathError(f"Cannot read '{file}': {error.strerror}. Save the pruned model again.") from error
    if found != description.weights_sha256:
        raise NeuronPathError(
            f"'{file}' is not the file that {DESCRIPTION_FILE} describes (another SHA-256): it is damaged, or of "
            "another model. Save the pruned model again."
        )
    return _rebuild(description, read(file), file)


def _rebuild(description: PrunedDescription, tensors: Mapping[str, Tensor], file: Path) -> nn.Module:
    """The architecture with as many neurons as are left, and these weights."""
    model = _build(description)
    if description.head:
        _expect_head(model, description.head, tensors, file)
    for scope, widths in description.widths.items():
        _narrow(model, unit_layers(model, scope), widths, tensors, description.name)
    if description.heads:
        _narrow(model, unit_layers(model, units="heads"), description.heads, tensors, description.name)
    fit(model, tensors, file)
    timm_model: Any = model
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in description.preprocessing.items()}
    timm_model.pretrained_cfg = dict(getattr(model, "pretrained_cfg", None) or {}) | made
    return model.eval().requires_grad_(False)


def _narrow(
    model: nn.Module,
    blocks: list[list[UnitLayers]],
    widths: list[list[int]],
    tensors: Mapping[str, Tensor],
    name: str,
) -> None:
    """Take neurons, or heads, out of the blocks until they have these widths; which ones, the weights will tell."""
    own = _widths(blocks)
    same = [len(parts) for parts in own] == [len(parts) for parts in widths]
    if not same or any(n > m for ns, ms in zip(widths, own, strict=True) for n, m in zip(ns, ms, strict=True)):
        raise NeuronPathError(
            f"The pruned model's widths {widths} do not fit the architecture '{name}', whose are {own}: give its own "
            "name= and kwargs=."
        )
    for parts, left in zip(blocks, widths, strict=True):
        for part, n in zip(parts, left, strict=True):
            if n < part.width:
                part.keep(torch.arange(part.width) < n)
            _expect_bias(model, part, tensors)


def _build(description: PrunedDescription) -> nn.Module:
    refused = [name for name in _NO_ARGUMENTS if name in description.kwargs]
    if refused or ":" in description.name:
        what = f"argument(s) {', '.join(refused)}" if refused else f"name '{description.name}'"
        raise NeuronPathError(f"The pruned model's {what} would fetch or read other weights: leave them out.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The weights of")  # random, until they are read
        return load_model(description.name, **description.kwargs).to(DTYPES[description.dtype])


def _expect_head(model: nn.Module, kinds: Sequence[str], tensors: Mapping[str, Tensor], file: Path) -> None:
    """Give the model a head of such a kind, whose numbers are read with the others."""
    timm_model: Any = model
    name = next(name for name, module in model.named_modules() if module is timm_model.get_classifier())
    weight = tensors.get(f"{name}.1.weight" if "of_output" in kinds else f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise NeuronPathError(f"'{file}' lacks the weight of its head, '{name}': save the pruned model again.")
    options = {kind: kind in kinds for kind in KINDS}
    head = replace(LinearHead(weight.float(), torch.zeros(len(weight))), **options)
    masks = tensors.get(f"{name}.masks")  # (K, P), of a head of patches
    attach_head(model, head, None if masks is None else masks.unsqueeze(1))


def _expect_bias(model: nn.Module, part: UnitLayers, tensors: Mapping[str, Tensor]) -> None:
    """Give a second layer that had no bias the one that folding made."""
    if part.second.bias is None:
        name = next(name for name, module in model.named_modules() if module is part.second)
        if f"{name}.bias" in tensors:
            part.add_to_bias(torch.zeros(part.second.out_features))


def _scopes(model: nn.Module) -> dict[TokenScopeName, list[list[UnitLayers]]]:
    """The FFNs of each token scope that the model has; the scopes' blocks are the same, or all different."""
    found: dict[TokenScopeName, list[list[UnitLayers]]] = {}
    own = adapt(model).scope.name
    for scope in ("patch", "cls"):
        try:
            found[scope] = unit_layers(model, scope)
        except NeuronPathError:
            if scope == own:
                raise
    return found


def _pruned_heads(model: nn.Module) -> list[list[UnitLayers]]:
    """The attention of each block, if heads may be missing: where it is not as wide as the stream that it reads."""
    try:
        blocks = unit_layers(model, units="heads")
    except NeuronPathError:
        return []
    return blocks if any(part.size != part.first[0][0].in_features for parts in blocks for part in parts) else []


def _widths(blocks: Sequence[Sequence[UnitLayers]]) -> list[list[int]]:
    return [[part.width for part in parts] for parts in blocks]


def _check_same(model: nn.Module, again: nn.Module, description: PrunedDescription) -> None:
    """The rebuilt model must compute what the given one does: weights alone do not tell heads, pooling or a hook."""
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *input_size(model), generator=generator).to(like.dtype)
    with frozen(model), exact(like.device):
        expected, found = model(images.to(like.device)).cpu(), again(images)
    tolerance = _TOLERANCE.get(like.dtype, 1e-4)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        raise NeuronPathError(
            f"The architecture '{description.name}' with {description.kwargs} computes other logits from the same "
            "weights: give all arguments with which the model was made as kwargs=, and remove hooks."
        )


def _weight_hash(tensors: Mapping[str, Tensor]) -> str:
    """As a run's provenance has it; NumPy has no bfloat16, whose bits are hashed as integers."""
    plain = {key: value.view(torch.int16) if value.dtype == torch.bfloat16 else value for key, value in tensors.items()}
    return weight_hash((key, value.numpy()) for key, value in plain.items())
