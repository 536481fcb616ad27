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
KINDS = ("cosine", "of_output", "of_patches")  # fields of `LinearHead`
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
        of_patches: it reads every patch token, as a segmentation's 1 × 1 convolution does; a class's logit for an image
            is its mean over the patches, or over masks of them.
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"]
    classes: tuple[str, ...] = ()
    cosine: bool = False
    of_output: bool = False
    of_patches: bool = False


class CosineLinear(nn.Linear):
    """A linear layer of features that are scaled to length 1."""

    def forward(self, input: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """The logits."""
        return super().forward(F.normalize(input, dim=-1))


class PatchLinear(nn.Linear):
    """A linear layer of every patch token, and the mean over patches, or over each of K masks, of what it gives.

    Args:
        width, n_classes: D and C.
        n_prefix: how many tokens come before the patches.
        masks: (K, P) weights of the patches; None: all alike.
    """

    def __init__(self, width: int, n_classes: int, n_prefix: int, masks: Float[Tensor, "K P"] | None = None) -> None:
        super().__init__(width, n_classes)
        self.n_prefix = n_prefix
        self.masks: Tensor | None
        self.register_buffer("masks", masks)
        self.out_features = n_classes * (1 if masks is None else len(masks))

    def forward(self, input: Float[Tensor, "B T D"]) -> Float[Tensor, "B KC"]:
        """The mean logits, class c over mask k at k · C + c."""
        patches = input[:, self.n_prefix :]
        if self.masks is None:
            return super().forward(patches.mean(1))
        if patches.shape[1] != self.masks.shape[1]:
            raise NeuronPathError(
                f"The masks have {self.masks.shape[1]} patches, but this model cuts an image into {patches.shape[1]}: "
                "attach the head again with masks of (masks, rows, columns) of patches."
            )
        # Linear, so the mean goes before the layer.
        return super().forward(self.masks / self.masks.sum(1, keepdim=True) @ patches).flatten(1)


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


def attach_head(model: nn.Module, head: LinearHead, masks: Tensor | None = None) -> nn.Module:
    """Make a head the classifier of a model, in place of the one it has or behind it, and return the model.

    The pooling stays, but before a head of patches, which reads the tokens themselves. The new classifier is frozen, on
    the model's device and of its dtype; the names of the classes are the head's. Of other libraries' models the last
    linear layer, by its usual name (`classifier`, `heads.head`, `head`, `fc`), is exchanged. Where there is none, as in
    open_clip's towers, a head of the output comes behind the whole model, in a new module.

    Args:
        model: changed in place.
        head: the head.
        masks: of a head of patches: K masks (K, rows, columns) of the grid of patches, booleans or weights. The model
            then has K · C outputs, of class c over mask k the one at k · C + c. None: one over all patches.

    Raises:
        NeuronPathError: a model that no linear head fits, features of another width, numbers that are not finite, or
            masks that are empty, or of a head that reads no patches.

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
    if masks is not None and not head.of_patches:
        raise NeuronPathError(
            "masks are for a head that reads patches: make it one, dataclasses.replace(head, of_patches=True), or "
            "leave them out."
        )
    if head.of_patches:
        return _attach_to_patches(model, head, masks)
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
        cosine: as of `LinearHead`.
        of_output: whether it stands behind a linear layer.
        n_before: outputs of that layer; 0 without one.
        of_patches: as of `LinearHead`.
    """

    cosine: bool
    of_output: bool
    n_before: int
    of_patches: bool = False


def head_of(model: nn.Module) -> AttachedHead | None:
    """What `attach_head` has given a timm model beside a linear classifier; None: nothing."""
    timm_model: Any = model
    classifier = timm_model.get_classifier() if hasattr(model, "get_classifier") else None
    if isinstance(classifier, _Behind):
        old, made = classifier
        return AttachedHead(isinstance(made, CosineLinear), True, int(getattr(old, "out_features", 0)))
    if isinstance(classifier, PatchLinear):
        return AttachedHead(False, False, 0, of_patches=True)
    return AttachedHead(True, False, 0) if isinstance(classifier, CosineLinear) else None


def count_masks(model: nn.Module) -> int:
    """K: over how many masks a head of patches reads; 1 of any other."""
    timm_model: Any = model
    classifier = timm_model.get_classifier() if hasattr(model, "get_classifier") else None
    return len(classifier.masks) if isinstance(classifier, PatchLinear) and classifier.masks is not None else 1


class _Behind(nn.Sequential):
    """A model's own last layer and the head that reads what it gives."""


def _attach_as_is(model: nn.Module, head: LinearHead) -> nn.Module:
    """To a model of timm, in its classifier's place, or behind it; a head that stands there gives way."""
    timm_model: Any = model
    classifier = timm_model.get_classifier()
    name = next((name for name, module in model.named_modules() if module is classifier), None)
    own = classifier[0] if isinstance(classifier, _Behind) else classifier
    if name is None or not isinstance(own, nn.Linear | nn.Identity):
        raise NeuronPathError(
            f"The classifier of this {type(model).__name__} is a {type(own).__name__}; expected a linear layer, or "
            "none: load it with num_classes=0."
        )
    return _exchange(model, name, own, _width(model), head)


def _attach_to_patches(model: nn.Module, head: LinearHead, masks: Tensor | None) -> nn.Module:
    """To a model of timm whose classifier gets every token, normalised, where it does not pool them."""
    timm_model: Any = model
    if not all(hasattr(model, part) for part in ("reset_classifier", "fc_norm", "num_prefix_tokens")):
        raise NeuronPathError(
            f"A head of patches does not fit a {type(model).__name__}: put both into a module of your own, whose "
            "forward is `return self.head(self.backbone(images).last_hidden_state[:, 1:].mean(1))`, where one class "
            "token comes before the patches."
        )
    if head.cosine or head.of_output:
        raise NeuronPathError("A head of patches is a linear layer: leave out cosine and of_output, or of_patches.")
    width, weights = _width(model), _patch_weights(masks)
    made = PatchLinear(width, _check_head(head, width), timm_model.num_prefix_tokens, weights)
    timm_model.reset_classifier(made.out_features, "")
    timm_model.head = _filled(made, model, head)
    return name_classes(model, head.classes if weights is None or len(weights) == 1 else ())


def _patch_weights(masks: Tensor | None) -> Float[Tensor, "K P"] | None:
    """Masks as weights of patches, row by row.

    Raises:
        NeuronPathError: another shape, a mask without a patch, or weights that are none.
    """
    if masks is None:
        return None
    weights = torch.as_tensor(masks).float()
    if weights.ndim != 3 or not len(weights):
        raise NeuronPathError(
            f"masks have shape {tuple(weights.shape)}; expected (masks, rows, columns) of patches: one alone is "
            "mask[None]."
        )
    weights = weights.flatten(1)
    if not (weights.isfinite().all() and (weights >= 0).all()):
        raise NeuronPathError(
            "masks hold NaN, infinity or numbers below 0; expected booleans, or weights of 0 or more."
        )
    empty = (weights.sum(1) == 0).nonzero()
    if len(empty):
        raise NeuronPathError(f"Mask {int(empty[0])} holds no patch: leave it out.")
    return weights


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
    return _exchange(model, name, place, found.shape[1], head)


def _exchange(model: nn.Module, name: str, own: nn.Module, width: int, head: LinearHead) -> nn.Module:
    """Put a head where the model's own last layer is, `name`, or behind it if it is a linear one whose output the head
    reads; `width` is that of the features."""
    is_behind = head.of_output and isinstance(own, nn.Linear) and not isinstance(own, CosineLinear)
    made = _layer(model, head, own.out_features if is_behind and isinstance(own, nn.Linear) else width)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, _Behind(own, made) if is_behind else made)
    changed: Any = model
    changed.num_classes = len(head.weight)
    return name_classes(model, head.classes)


def _layer(model: nn.Module, head: LinearHead, width: int) -> nn.Linear:
    """The head as a frozen layer of so many features, where the model is and of its dtype."""
    return _filled((CosineLinear if head.cosine else nn.Linear)(width, _check_head(head, width)), model, head)


def _filled(made: nn.Linear, model: nn.Module, head: LinearHead) -> nn.Linear:
    """A layer with the head's numbers, frozen, where the model is and of its dtype."""
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


def load_head(file: str | Path, *, key: str | None = None, of_patches: bool = False) -> LinearHead:
    """Read a linear head from a file, running no code that it may hold.

    Args:
        file: a `.safetensors`, PyTorch or `.npz` file of tensors with a `weight` (C, D) and perhaps a `bias` (C,), also
            as `head.weight`, `fc.weight`, `linear.weight`, `classifier.weight`, …; without a bias it is zero. One of
            shape (C, D, 1, 1) is of patches.
        key: what stands before `.weight` in the file's names, as `model.classifier`; None: one of those above.
        of_patches: whether it reads every patch token, where its shape does not tell; see `LinearHead`.

    Raises:
        NeuronPathError: no such file, one without weights, one without exactly one such head, or one behind a norm.
    """
    path = Path(file).expanduser()
    tensors = read(path)
    prefixes = PREFIXES if key is None else (f"{key}.",)
    found = [prefix for prefix in prefixes if f"{prefix}weight" in tensors and _is_head(tensors[f"{prefix}weight"])]
    if len(found) != 1:
        others = sorted(name.removesuffix(".weight") for name in linear_heads(tensors))
        names = ", ".join(sorted(tensors)[:4]) + (", …" if len(tensors) > 4 else "")
        found_there = (
            f"it could be head.key={' or '.join(others)} (key='{others[0]}' in Python)"
            if others
            else f"its tensors are {names}"
        )
        where = "under a name such as weight, head.weight or fc.weight" if key is None else f"under '{key}' (head.key)"
        raise NeuronPathError(
            f"Head file '{path}' holds {len(found)} linear heads {where}, expected exactly one weight (classes, "
            f"features), with its bias: {found_there}."
        )
    weight = tensors[f"{found[0]}weight"].float()
    if weight.ndim == 4:
        of_patches = True
        if norm := next((name for name in tensors if name.endswith("running_mean")), None):
            raise NeuronPathError(
                f"Head file '{path}' has a norm beside the layer, '{norm}', which a linear head has no place for: fold "
                "it into weight and bias, and save these with neuron_path.save_head."
            )
    bias = tensors.get(f"{found[0]}bias", torch.zeros(len(weight))).float()
    classes, kinds = _notes(path)
    kinds["of_patches"] = kinds.get("of_patches", False) or of_patches
    return LinearHead(weight.flatten(1), bias, classes if len(classes) == len(weight) else (), **kinds)


def _is_head(weight: Tensor) -> bool:
    """Whether this is the weight of a linear layer, or of a 1 × 1 convolution."""
    return weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2:] == (1, 1))


def _check_head(head: LinearHead, width: int) -> int:
    """The number of classes of a head that can be attached to features of this width."""
    if head.weight.ndim != 2 or head.bias.shape != head.weight.shape[:1]:
        raise NeuronPathError(
            f"The head's weight is {tuple(head.weight.shape)} and its bias {tuple(head.bias.shape)}; expected "
            "(classes, features) and (classes,)."
        )
    n_classes, found = head.weight.shape
    if n_classes < (1 if head.cosine or head.of_patches else 2):
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
