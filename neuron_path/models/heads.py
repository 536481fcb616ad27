"""Heads: classes for models that give features only, by a linear layer or by likeness to reference vectors.

Shapes: B images, D features, C classes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.blocks import identity
from neuron_path.models.checkpoint.layouts import linear_heads
from neuron_path.models.checkpoint.reading import read
from neuron_path.models.classes import name_classes
from neuron_path.models.grafting import graft, stand_in
from neuron_path.models.objects import probe

PREFIXES = ("", "head.", "fc.", "linear.", "classifier.", "head.fc.", "module.", "module.linear.")
"""What may stand before `weight` and `bias` in a file of a linear head."""
KINDS = ("cosine", "of_output")  # fields of `LinearHead`
_PLACES = ("classifier", "heads.head", "head", "fc")  # of the last layer in other libraries' models


@dataclass(frozen=True)
class LinearHead:
    """Logits from features: ``features @ weight.T + bias``.

    Attributes:
        weight: (C, D).
        bias: (C,).
        classes: C class names by index; empty where they are not known.
        cosine: the features are scaled to length 1 first, so that with rows of length s a logit is s times the cosine
            of the angle between features and row.
        of_output: it reads what the model gives, as the embedding of a CLIP tower behind its projection, not what the
            model's classifier reads; where a model has no classifier, both are the same.
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"]
    classes: tuple[str, ...] = ()
    cosine: bool = False
    of_output: bool = False


class CosineLinear(nn.Linear):
    """A linear layer of features that are scaled to length 1."""

    def forward(self, input: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """The logits."""
        return super().forward(F.normalize(input, dim=-1))


def similarity_head(
    vectors: Float[Tensor, "C D"],
    classes: Sequence[str] = (),
    *,
    scale: float = 1.0,
    bias: float = 0.0,
    of_output: bool = False,
) -> LinearHead:
    """A head whose logits are ``scale · cos(features, vector) + bias``: how like an image is to each of C references.

    With one picture's features as the only vector and `target="logit"`, paths drive the similarity to that picture;
    with the embeddings of prompts, and the scale of their CLIP or SigLIP, a tower becomes a zero-shot classifier.

    Args:
        vectors: (C, D) reference vectors, of any length but 0; each class's own.
        classes: their names.
        scale: what a cosine is multiplied by; `exp(logit_scale)` of a model of pictures and text.
        bias: added to every logit; SigLIP's `logit_bias`.
        of_output: see `LinearHead`.

    Raises:
        NeuronPathError: vectors that are not finite or have no direction, another number of names, or a scale that is
            not a finite number above 0.

    >>> similarity_head(torch.tensor([[3.0, 4.0]])).weight
    tensor([[0.6000, 0.8000]])
    """
    if vectors.ndim != 2 or not len(vectors):
        raise NeuronPathError(f"The vectors have shape {tuple(vectors.shape)}; expected (references, features).")
    lengths = vectors.double().norm(dim=1, keepdim=True)
    if not lengths.isfinite().all() or not lengths.all():
        raise NeuronPathError("A reference vector holds NaN or infinity, or is all zeros: it has no direction.")
    if classes and len(classes) != len(vectors):
        raise NeuronPathError(f"There are {len(classes)} names for {len(vectors)} vectors: give one for each.")
    if not 0 < scale < float("inf"):
        raise NeuronPathError(f"scale is {scale}; expected a finite number above 0.")
    weight = (scale * vectors.double() / lengths).float()
    return LinearHead(weight, torch.full((len(weight),), float(bias)), tuple(classes), cosine=True, of_output=of_output)


def features(model: nn.Module, images: Float[Tensor, "B c H W"]) -> Float[Tensor, "B D"]:
    """What a model's classifier reads, pooled and normalised as the model does it, without a gradient.

    Raises:
        NeuronPathError: a model of another library whose classifier is not found.
    """
    timm_model: Any = model
    with torch.no_grad():
        if hasattr(model, "forward_head"):
            return timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
        _, place = _place(model)
        output: Any = graft(model, {place: stand_in(place, identity)})(images)
        return getattr(output, "logits", output)


def attach_head(model: nn.Module, head: LinearHead) -> nn.Module:
    """Make a head the classifier of a model, in place of the one it has or behind it, and return the model.

    The pooling stays. The new classifier is frozen, on the model's device and of its dtype; the names of
    the classes are the head's. Of other libraries' models the last linear layer, by its usual name (`classifier`,
    `heads.head`, `head`, `fc`), is exchanged. Where there is none, as in open_clip's towers, a head of the output comes
    behind the whole model, in a new module.

    Raises:
        NeuronPathError: a model that no linear head fits, features of another width, or numbers that are not finite.

    >>> import timm
    >>> model = timm.create_model("test_vit", num_classes=0)
    >>> attach_head(model, LinearHead(torch.zeros(5, 64), torch.zeros(5))).num_classes
    5
    """
    timm_model: Any = model
    name = type(model).__name__
    if hasattr(model, "head_dist"):
        raise NeuronPathError(
            f"A linear head does not fit a distilled model ({name}): it has two classifiers, on two tokens. Choose the "
            "model without distillation, or load it with its own classifiers."
        )
    if not hasattr(model, "reset_classifier") or not hasattr(model, "forward_head"):
        return _attach_to_other(model, head)
    if getattr(model, "global_pool", None) == "":
        raise NeuronPathError(
            "A linear head needs one vector of features for each image, and this model does not pool its tokens: load "
            "it with +model.kwargs.global_pool=avg or token."
        )
    if head.cosine or head.of_output:
        return _attach_as_is(model, head)
    n_classes = _check_head(head, _width(timm_model))
    timm_model.reset_classifier(n_classes)
    classifier = _linear(timm_model.get_classifier())
    if classifier is None or classifier.weight.shape != head.weight.shape:
        raise NeuronPathError(f"A linear head does not fit a {name}: timm's reset_classifier makes it no linear one.")
    with torch.no_grad():
        classifier.weight.copy_(head.weight)
        if classifier.bias is not None:
            classifier.bias.copy_(head.bias)
        elif head.bias.any():
            raise NeuronPathError(f"The classifier of a {name} has no bias, but the head has one.")
    classifier.eval().requires_grad_(False)
    return name_classes(model, head.classes)


@dataclass(frozen=True)
class AttachedHead:
    """A head that is no linear layer of a timm model's features alone.

    Attributes:
        cosine, of_output: as of `LinearHead`.
        n_before: outputs of the classifier that it stands behind; 0 without one.
    """

    cosine: bool
    of_output: bool
    n_before: int


def head_of(model: nn.Module) -> AttachedHead | None:
    """What `attach_head` has given a timm model beside a linear classifier; None: nothing."""
    timm_model: Any = model
    classifier = timm_model.get_classifier() if hasattr(model, "get_classifier") else None
    if isinstance(classifier, _Behind):
        old, made = classifier
        return AttachedHead(isinstance(made, CosineLinear), True, getattr(old, "out_features", 0))
    return AttachedHead(True, False, 0) if isinstance(classifier, CosineLinear) else None


class _Behind(nn.Sequential):
    """A model's own last layer and the head that reads what it gives."""


def _attach_as_is(model: nn.Module, head: LinearHead) -> nn.Module:
    """To a model of timm, in its classifier's place, or behind it."""
    timm_model: Any = model
    old = timm_model.get_classifier()
    name = next((name for name, module in model.named_modules() if module is old), None)
    if name is None or not isinstance(old, nn.Linear | nn.Identity):
        raise NeuronPathError(f"A head of cosines does not fit a {type(model).__name__}: its classifier is no layer.")
    is_behind = head.of_output and isinstance(old, nn.Linear)
    return _exchange(model, name, old.out_features if is_behind and isinstance(old, nn.Linear) else _width(model), head)


def _attach_to_other(model: nn.Module, head: LinearHead) -> nn.Module:
    """Of another library than timm."""
    if head.of_output and _find_place(model) is None:
        with torch.no_grad():
            output: Any = model(probe(model, next(model.parameters())))
        return name_classes(nn.Sequential(model, _layer(model, head, output.shape[1])), head.classes)
    name, place = _place(model)
    found = features(model, probe(model, next(model.parameters())))
    if found.ndim != 2:
        raise NeuronPathError(
            f"A linear head does not fit a {type(model).__name__}: its '{name}' is not its last layer."
        )
    is_behind = head.of_output and isinstance(place, nn.Linear)
    return _exchange(model, name, place.out_features if is_behind else found.shape[1], head)  # pyright: ignore[reportArgumentType]


def _exchange(model: nn.Module, name: str, width: int, head: LinearHead) -> nn.Module:
    """Put a head in the place of the layer `name`, or behind it if it is a linear one and the head reads its output."""
    old, made = model.get_submodule(name), _layer(model, head, width)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, _Behind(old, made) if head.of_output else made)
    changed: Any = model
    changed.num_classes = len(head.weight)
    return name_classes(model, head.classes)


def _layer(model: nn.Module, head: LinearHead, width: int) -> nn.Linear:
    """The head as a frozen layer of so many features, where the model is and of its dtype."""
    made = (CosineLinear if head.cosine else nn.Linear)(width, _check_head(head, width))
    with torch.no_grad():
        made.weight.copy_(head.weight)
        made.bias.copy_(head.bias)
    return made.to(next(model.parameters())).eval().requires_grad_(False)


def _find_place(model: nn.Module) -> str | None:
    """The name of the linear layer that ends a model of another library, or of the place for one."""
    modules = dict(model.named_modules())
    return next((name for name in _PLACES if isinstance(modules.get(name), nn.Linear | nn.Identity)), None)


def _place(model: nn.Module) -> tuple[str, nn.Module]:
    """The linear layer that ends a model of another library, or the place for one, with its name.

    Raises:
        NeuronPathError: there is none under the usual names.
    """
    found = _find_place(model)
    if found is None:
        raise NeuronPathError(
            f"A linear head does not fit a {type(model).__name__}, which has no linear layer named "
            f"{', '.join(_PLACES)}: put both into a module of your own, whose forward is "
            "`return self.classifier(self.backbone(images).last_hidden_state[:, 0])`."
        )
    return found, model.get_submodule(found)


def fit_linear_head(
    x: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, "N"],
    *,
    C: float = 1.0,
    max_iter: int = 1000,
) -> tuple[LinearHead, bool]:
    """Fit a linear probe: scikit-learn's logistic regression on standardised features, folded into one linear map.

    With mean μ and standard deviation σ of the features, the regression's weights V and intercept v become
    ``W = V / σ`` and ``b = v − V·(μ / σ)``, so that the head reads the features as they are. For two classes, whose
    regression has one row, the logits are −z/2 and z/2. The solver (L-BFGS) is deterministic.

    Args:
        x: (N, D) features, at least one of each class.
        labels: (N,) in 0 … n − 1, each of which occurs; n ≥ 2.
        C: inverse strength of the L2 penalty, above 0.
        max_iter: most iterations of the solver.

    Returns:
        The head in float32, and whether the solver converged.
    """
    scaler = StandardScaler()
    standardised = scaler.fit_transform(x.astype(np.float64))
    regression = LogisticRegression(C=C, max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # returned instead
        regression.fit(standardised, labels)
    slope, intercept = np.asarray(regression.coef_), np.asarray(regression.intercept_)
    if len(slope) == 1:
        slope, intercept = np.concatenate([-slope, slope]) / 2, np.concatenate([-intercept, intercept]) / 2
    mean, scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
    weight, bias = slope / scale, intercept - slope @ (mean / scale)
    return LinearHead(torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)), bool(
        np.max(regression.n_iter_) < max_iter
    )


def head_bytes(head: LinearHead) -> bytes:
    """A head as the bytes of a safetensors file, which `load_head` reads."""
    tensors = {"weight": head.weight.contiguous(), "bias": head.bias.contiguous()}
    notes = {"classes": json.dumps(head.classes, ensure_ascii=False)} if head.classes else {}
    notes |= {name: "true" for name in KINDS if getattr(head, name)}
    return save(tensors, notes or None)


def load_head(file: str | Path, *, key: str | None = None) -> LinearHead:
    """Read a linear head from a file, running no code that it may hold.

    Args:
        file: a `.safetensors`, PyTorch or `.npz` file of tensors with a `weight` (C, D) and perhaps a `bias` (C,), also
            as `head.weight`, `fc.weight`, `linear.weight`, `classifier.weight`, …; without a bias it is zero.
        key: what stands before `.weight` in the file's names, as `model.classifier`; None: one of those above.

    Raises:
        NeuronPathError: no such file, one without weights, or one without exactly one such head.
    """
    path = Path(file).expanduser()
    tensors = read(path)
    prefixes = PREFIXES if key is None else (f"{key}.",)
    found = [prefix for prefix in prefixes if f"{prefix}weight" in tensors and tensors[f"{prefix}weight"].ndim == 2]
    if len(found) != 1:
        others = sorted(name.removesuffix(".weight") for name in linear_heads(tensors))
        names = ", ".join(sorted(tensors)[:4]) + (", …" if len(tensors) > 4 else "")
        found_there = f"it could be head.key={' or '.join(others)}" if others else f"its tensors are {names}"
        where = "under a name such as weight, head.weight or fc.weight" if key is None else f"under '{key}' (head.key)"
        raise NeuronPathError(
            f"Head file '{path}' holds {len(found)} linear heads {where}, expected exactly one weight (classes, "
            f"features), with its bias: {found_there}."
        )
    weight = tensors[f"{found[0]}weight"].float()
    bias = tensors.get(f"{found[0]}bias", torch.zeros(len(weight))).float()
    classes, kinds = _notes(path)
    return LinearHead(weight, bias, classes if len(classes) == len(weight) else (), **kinds)


def _check_head(head: LinearHead, width: int) -> int:
    """The number of classes of a head that can be attached to features of this width."""
    if head.weight.ndim != 2 or head.bias.shape != head.weight.shape[:1]:
        raise NeuronPathError(
            f"The head's weight is {tuple(head.weight.shape)} and its bias {tuple(head.bias.shape)}; expected "
            "(classes, features) and (classes,)."
        )
    n_classes, found = head.weight.shape
    if n_classes < (1 if head.cosine else 2):
        raise NeuronPathError(f"The head has {n_classes} class(es): expected 2 or more.")
    if found != width:
        about = ""
        if found % width == 0:
            about = (
                f" It reads {found // width} vectors of the model side by side, as DINOv2's published heads do (class "
                "token and mean of the patch tokens), which timm's models do not: fit one with head=linear_probe."
            )
        raise NeuronPathError(f"The head reads {found} features, but the model gives {width}.{about}")
    if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
        raise NeuronPathError("The head holds NaN or infinity.")
    return n_classes


def _width(model: Any) -> int:
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _linear(classifier: Any) -> nn.Linear | None:
    """The linear layer of a classifier, which some families wrap with their pooling."""
    inner = getattr(classifier, "fc", classifier)
    return inner if isinstance(inner, nn.Linear) else None


def _notes(path: Path) -> tuple[tuple[str, ...], dict[str, bool]]:
    """The class names and the kinds that `head_bytes` wrote beside the numbers, if it did."""
    if path.suffix != ".safetensors":
        return (), {}
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata() or {}
    kinds = {name: metadata.get(name) == "true" for name in KINDS}
    try:
        return tuple(str(name) for name in json.loads(metadata.get("classes", "[]"))), kinds
    except (ValueError, TypeError):
        return (), kinds  # another program's metadata
