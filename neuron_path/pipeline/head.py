"""The head of a model that gives features only: read from a file, or made of a folder's images and stored."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from neuron_path.config import (
    DataConfig,
    DigitsConfig,
    FileHeadConfig,
    FittedHeadConfig,
    LinearProbeConfig,
    SimilarityHeadConfig,
)
from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import DigitsDataModule, ImageDataModule
from neuron_path.models.guard import exact
from neuron_path.models.heads import (
    KINDS,
    LinearHead,
    features,
    fit_linear_head,
    head_bytes,
    load_head,
    similarity_head,
)
from neuron_path.models.preprocessing import input_size
from neuron_path.pipeline.images import build_folder
from neuron_path.progress import progress_bar
from neuron_path.store.atomic import write_bytes
from neuron_path.store.provenance import weight_hash

HEAD_FILE = "head.safetensors"


@dataclass(frozen=True)
class ChosenHead:
    """A head with where it comes from.

    Attributes:
        head: to be attached to the model.
        record: for `run.json`, always with `name` and `hash`.
        is_new: whether no file holds it yet.
    """

    head: LinearHead
    record: dict[str, Any]
    is_new: bool


def read_head(options: FileHeadConfig) -> ChosenHead:
    """The head in a file.

    Raises:
        NeuronPathError: as for `load_head`.
    """
    head = load_head(options.path, key=options.key, of_patches=options.of_patches)
    return ChosenHead(head, {"name": options.name, "hash": _hash(head), "path": options.path}, is_new=False)


def fit_head(
    options: FittedHeadConfig,
    data: DataConfig,
    model: nn.Module,
    preprocessing: Mapping[str, Any],
    device: torch.device,
) -> ChosenHead:
    """Make the head that the options describe; see `fit_probe` and `refer`, whose arguments these are."""
    if isinstance(options, LinearProbeConfig):
        return fit_probe(options, data, model, preprocessing, device)
    assert isinstance(options, SimilarityHeadConfig)
    return refer(options, data, model, preprocessing, device)


def refer(
    options: SimilarityHeadConfig,
    data: DataConfig,
    model: nn.Module,
    preprocessing: Mapping[str, Any],
    device: torch.device,
) -> ChosenHead:
    """A head that tells how like an image is to references: the cosine of their features times a scale.

    Of class folders each class is one reference, the mean of its pictures' features, each scaled to length 1 first (a
    classifier by the nearest class mean); of pictures without folders each picture is one.

    Args:
        options: the folder of the references, and the scale.
        data: the images under study; the folder's are read and prepared in the same way.
        model: on any device; left as it was.
        preprocessing: as the overrides of `image_transform`.
        device: where to compute the features.

    Raises:
        NeuronPathError: no such folder, no picture that can be read, or features without a direction.
    """
    if not 0 < options.scale < float("inf"):  # before the features are computed
        raise NeuronPathError(f"head.scale is {options.scale}; expected a finite number above 0.")
    module = _images(options, data, model, preprocessing)
    x, labels, names = _features(model, module, device, skip=data.on_error == "skip")
    classes = list(module.dataset.classes)
    vectors = torch.nn.functional.normalize(torch.from_numpy(x).double(), dim=1)
    if classes:
        missing = sorted(set(range(len(classes))) - set(labels.tolist()))
        if missing:
            raise NeuronPathError(
                f"No picture of the class '{classes[missing[0]]}' can be read: put one into its folder, or remove it."
            )
        vectors = torch.stack([vectors[torch.from_numpy(labels == label)].mean(0) for label in range(len(classes))])
    head = similarity_head(vectors.float(), classes or names, scale=options.scale)
    return _made(head, options, module, names, {"scale": options.scale, "n_references": len(names)})


def fit_probe(
    options: LinearProbeConfig,
    data: DataConfig,
    model: nn.Module,
    preprocessing: Mapping[str, Any],
    device: torch.device,
) -> ChosenHead:
    """Fit a linear probe on a labelled folder, or on the digits' training split, and measure it on what is held out.

    Args:
        options: the folder, and how to fit and to measure.
        data: the images under study; the folder's are read and prepared in the same way.
        model: a timm model on any device; left as it was.
        preprocessing: as the overrides of `image_transform`.
        device: where to compute the features.

    Raises:
        NeuronPathError: an option out of range, no such folder, images without labels or too few of a class.
    """
    _check(options)
    module = _images(options, data, model, preprocessing)
    names = list(module.dataset.classes)
    if len(names) < 2:
        raise NeuronPathError(
            f"The folder '{options.root}' has {len(names)} class folder(s): a head is fitted on pictures of 2 or more."
        )
    x, labels, read = _features(model, module, device, skip=data.on_error == "skip")
    counts = np.bincount(labels, minlength=len(names))
    least = 2 if options.held_out else 1
    if counts.min() < least:
        raise NeuronPathError(
            f"Class '{names[counts.argmin()]}' has {counts.min()} image(s) to fit a head on; expected {least} or more, "
            "one of them to measure it."
        )
    if not np.isfinite(x).all():
        raise NeuronPathError("The model's features hold NaN or infinity: its weights or the images are broken.")
    fitted, held_out = _split(labels, options.held_out, options.seed)
    with progress_bar() as bar:
        bar.add_task("Fitting the head", total=None)
        head, converged = fit_linear_head(x[fitted], labels[fitted], C=options.C, max_iter=options.max_iter)
    head = LinearHead(head.weight, head.bias, tuple(names))
    if not converged:
        warnings.warn(f"The linear probe did not converge in head.max_iter={options.max_iter} steps.", stacklevel=2)
    measured = {
        "C": options.C,
        "max_iter": options.max_iter,
        "held_out": options.held_out,
        "seed": options.seed,
        "converged": converged,
        "n_fitted": len(fitted),
        "accuracy_fitted": _accuracy(head, x[fitted], labels[fitted]),
        "n_held_out": len(held_out),
        "accuracy_held_out": _accuracy(head, x[held_out], labels[held_out]) if len(held_out) else None,
    }
    return _made(head, options, module, read, measured)


def _made(
    head: LinearHead, options: FittedHeadConfig, module: ImageDataModule, read: Sequence[str], others: Mapping[str, Any]
) -> ChosenHead:
    """A new head with its record: what both kinds have in common, and the others."""
    record = {
        "name": options.name,
        "hash": _hash(head),
        "file": HEAD_FILE,
        "root": options.root,
        "preprocessing": dict(module.dataset.preprocessing),
        "classes": list(head.classes),
        "skipped_images": len(module.dataset) - len(read),
    }
    return ChosenHead(head, record | dict(others), is_new=True)


def store_head(chosen: ChosenHead, run_dir: Path) -> None:
    """Write a fitted head into the run directory; one from a file is there already."""
    if chosen.is_new:
        write_bytes(run_dir / HEAD_FILE, head_bytes(chosen.head))


def describe(record: Mapping[str, Any]) -> str:
    """A fitted head's accuracies, in words, or what its references are.

    >>> describe({"n_fitted": 8, "accuracy_fitted": 1.0, "n_held_out": 2, "accuracy_held_out": 0.5})
    'accuracy 50.0 % on 2 held-out images, 100.0 % on the 8 it was fitted on'
    """
    if "n_references" in record:
        return f"the likeness to {len(record['classes'])} reference(s) of {record['n_references']} image(s)"
    fitted = f"{record['accuracy_fitted']:.1%}".replace("%", " %") + f" on the {record['n_fitted']} it was fitted on"
    if not record["n_held_out"]:
        return f"accuracy {fitted}"
    held_out = f"{record['accuracy_held_out']:.1%}".replace("%", " %")
    return f"accuracy {held_out} on {record['n_held_out']} held-out images, {fitted}"


def _check(options: LinearProbeConfig) -> None:
    if not options.C > 0:
        raise NeuronPathError(f"head.C is {options.C}; expected a number above 0, such as 1.")
    if options.max_iter < 1:
        raise NeuronPathError(f"head.max_iter is {options.max_iter}; expected at least 1.")
    if not 0 <= options.held_out < 1:
        raise NeuronPathError(
            f"head.held_out is {options.held_out}; expected a share, 0 or more and below 1, such as 0.2."
        )
    if not 0 <= options.seed < 2**32:
        raise NeuronPathError(f"head.seed is {options.seed}; expected 0 … {2**32 - 1}.")


def _images(
    options: FittedHeadConfig, data: DataConfig, model: nn.Module, preprocessing: Mapping[str, Any]
) -> ImageDataModule:
    if options.root is not None:
        return build_folder(options.root, data, model, preprocessing)
    if not isinstance(data, DigitsConfig):
        raise NeuronPathError(
            "A linear probe is fitted on labelled pictures: add head.root=DIR, with class sub-folders."
            if isinstance(options, LinearProbeConfig)
            else "A head of likeness needs references: add head.root=DIR, pictures or class sub-folders of them."
        )
    digits = DigitsDataModule("train", batch_size=data.batch_size, num_workers=data.num_workers)
    found, expected = tuple(digits.dataset[0]["image"].shape), input_size(model)
    if found != expected:
        raise NeuronPathError(
            f"The digits are images of shape {found}, but this model takes {expected}: give it pictures with "
            "data=image_folder data.root=DIR head.root=DIR, or a model for the digits."
        )
    return digits


def _features(
    model: nn.Module, module: ImageDataModule, device: torch.device, *, skip: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(N, D) features and (N,) labels of all images that can be read, −1 for none, and their names."""
    parameter = next(model.parameters())
    home, dtype = parameter.device, parameter.dtype
    rows: list[np.ndarray] = []
    labels: list[int] = []
    names: list[str] = []
    model.to(device)
    try:
        with progress_bar() as bar, exact(device):
            task = bar.add_task("Features for the head", total=len(module.dataset))
            for batch in module.predict_dataloader():
                if batch.problems and not skip:
                    raise unreadable(*batch.problems[0])
                if len(batch):
                    rows.append(features(model, batch.images.to(device, dtype)).float().cpu().numpy())
                labels += [-1 if label is None else label for label in batch.labels]
                names += batch.sample_ids
                bar.advance(task, len(batch) + len(batch.problems))
    finally:
        model.to(home)
    if not rows:
        raise NeuronPathError(f"None of the {len(module.dataset)} images to make a head of can be read.")
    return np.concatenate(rows), np.asarray(labels, dtype=np.int64), names


def _split(labels: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to fit on and to measure on, ascending, each class with its share."""
    everything = np.arange(len(labels))
    if not held_out:
        return everything, everything[:0]
    n_classes = len(np.unique(labels))
    n_held_out = int(np.clip(np.ceil(held_out * len(labels)), n_classes, max(len(labels) - n_classes, n_classes)))
    fitted, measured = train_test_split(everything, test_size=n_held_out, stratify=labels, random_state=seed)
    return np.sort(fitted), np.sort(measured)


def _accuracy(head: LinearHead, x: np.ndarray, labels: np.ndarray) -> float:
    logits = torch.from_numpy(x) @ head.weight.T + head.bias
    return float((logits.argmax(1).numpy() == labels).mean())


def _hash(head: LinearHead) -> str:
    kinds = [(name, np.ones(1)) for name in KINDS if getattr(head, name)]
    return weight_hash([("weight", head.weight.numpy()), ("bias", head.bias.numpy()), *kinds])
