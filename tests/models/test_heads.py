"""Linear heads: exact logits in every family, files in every spelling, and a probe that re-derives scikit-learn's."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.classes import class_names
from neuron_path.models.heads import LinearHead, attach_head, features, fit_linear_head, head_bytes, load_head
from neuron_path.models.session import Session

SMALL: dict[str, Any] = {"img_size": 32, "num_classes": 0}
VIT: dict[str, Any] = {**SMALL, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": VIT,
    "vit_base_patch16_siglip_224": VIT,  # attention pooling
    "vit_base_patch16_siglip_gap_224": VIT,
    "eva02_tiny_patch14_224": {**VIT, "patch_size": 8},
    "beit_base_patch16_224": VIT,
    "cait_xxs24_224": {**VIT, "depth": 2},
    "xcit_nano_12_p16_224": VIT,
    "tnt_s_patch16_224": {
        **SMALL,
        "embed_dim": 24,
        "inner_dim": 8,
        "depth": 2,
        "num_heads_inner": 2,
        "num_heads_outer": 2,
    },
    "samvit_base_patch16": {**VIT, "global_attn_indexes": (), "neck_chans": 16},
    "hiera_tiny_224": {**SMALL, "img_size": 64, "embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1)},
}


def linear_head(width: int, n_classes: int = 5, seed: int = 0) -> LinearHead:
    generator = torch.Generator().manual_seed(seed)
    return LinearHead(torch.randn(n_classes, width, generator=generator), torch.randn(n_classes, generator=generator))


@pytest.fixture
def model() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **VIT).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_logits_are_features_times_weight_plus_bias(name: str, dtype: torch.dtype) -> None:
    model: Any = timm.create_model(name, **FAMILIES[name]).eval().to(dtype)
    size = FAMILIES[name]["img_size"]
    images = torch.randn(2, 3, size, size, dtype=dtype)
    x = features(model, images)
    head = linear_head(x.shape[1])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert attach_head(model, head) is model
    with torch.no_grad():
        logits = model(images)
    expected = x @ head.weight.to(dtype).T + head.bias.to(dtype)
    assert logits.dtype == dtype
    assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert model.num_classes == 5
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    classifier = model.get_classifier()
    assert not classifier.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_a_classifier_is_replaced() -> None:
    model: Any = timm.create_model("test_vit", num_classes=7).eval()
    attach_head(model, linear_head(64))
    assert model(torch.zeros(1, 3, 160, 160)).shape == (1, 5)


def test_a_probe_is_scikit_learn_s_regression_folded_into_one_map() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    x = (rng.normal(size=(90, 6)) + 2 * np.eye(3, 6)[labels]) * [1, 10, 0.1, 1, 1, 1] + 5
    x[:, 5] = 3  # constant
    head, converged = fit_linear_head(x.astype(np.float32), labels, C=0.3)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000)).fit(x.astype(np.float32), labels)
    logits = torch.tensor(x, dtype=torch.float32) @ head.weight.T + head.bias
    assert converged
    assert np.allclose(logits.softmax(1).numpy(), theirs.predict_proba(x), atol=1e-4)


def test_a_probe_of_two_classes_has_two_rows() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = (rng.normal(size=(40, 4)) + labels[:, None]).astype(np.float32)
    head, _ = fit_linear_head(x, labels)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, labels)
    logits = torch.from_numpy(x) @ head.weight.T + head.bias
    assert head.weight.shape == (2, 4)
    assert np.allclose(logits.softmax(1).numpy(), theirs.predict_proba(x), atol=1e-5)


def test_too_few_steps_are_told() -> None:
    rng = np.random.default_rng(0)
    assert not fit_linear_head(rng.normal(size=(50, 9)).astype(np.float32), np.arange(50) % 3, max_iter=1)[1]


SPELLINGS = ["", "head.", "fc.", "linear.", "classifier.", "head.fc.", "module.linear."]


@pytest.mark.parametrize("prefix", SPELLINGS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_every_spelling_is_read(prefix: str, suffix: str, tmp_path: Path) -> None:
    head, file = linear_head(8), tmp_path / f"head{suffix}"
    tensors = {f"{prefix}weight": head.weight, f"{prefix}bias": head.bias}
    if suffix == ".pth":
        torch.save({"state_dict": tensors}, file)
    else:
        save_file(tensors, file)
    found = load_head(file)
    assert torch.equal(found.weight, head.weight)
    assert torch.equal(found.bias, head.bias)
    assert found.classes == ()


def test_a_head_without_a_bias_has_a_bias_of_zero(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(3, 4, dtype=torch.float16)}, tmp_path / "head.safetensors")
    found = load_head(tmp_path / "head.safetensors")
    assert found.bias.tolist() == [0, 0, 0]
    assert found.weight.dtype == torch.float32


def test_a_whole_checkpoint_gives_its_head(tmp_path: Path) -> None:
    whole = timm.create_model("test_vit", num_classes=7)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    assert torch.equal(load_head(tmp_path / "model.safetensors").weight, whole.state_dict()["head.weight"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    head = LinearHead(torch.randn(2, 3), torch.randn(2), ("cat", "Hündin"))
    (tmp_path / "head.safetensors").write_bytes(head_bytes(head))
    found = load_head(tmp_path / "head.safetensors")
    assert torch.equal(found.weight, head.weight)
    assert torch.equal(found.bias, head.bias)
    assert found.classes == ("cat", "Hündin")


def held(kind: str) -> Any:
    """What a file that is no linear head holds."""
    return {
        "objects": {"weight": argparse.Namespace()},
        "list": [torch.ones(2, 2)],
        "two": {"head.weight": torch.ones(2, 2), "fc.weight": torch.ones(2, 2)},
        "none": {"blocks.0.weight": torch.ones(2, 2)},
        "convolution": {"weight": torch.ones(2, 2, 3, 3)},
    }[kind]


def test_a_head_under_another_name(tmp_path: Path) -> None:
    tensors = {"model.classifier.weight": torch.ones(3, 4), "model.aux.fc.weight": torch.zeros(2, 4)}
    save_file(tensors, tmp_path / "v.safetensors")
    with pytest.raises(NeuronPathError, match=r"it could be head\.key=model\.aux\.fc or model\.classifier \(key="):
        load_head(tmp_path / "v.safetensors")
    with pytest.raises(NeuronPathError, match=r"0 linear heads under 'classifier' \(head\.key\)"):
        load_head(tmp_path / "v.safetensors", key="classifier")
    assert load_head(tmp_path / "v.safetensors", key="model.classifier").weight.tolist() == [[1.0] * 4] * 3


REFUSALS = {
    "objects": "is no state dict: expected a mapping of names to tensors, found the keys weight",
    "list": "is no state dict",
    "two": "with its bias: it could be head.key=fc or head",
    "none": "holds 0 linear heads",
    "convolution": "holds 0 linear heads",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    torch.save(held(kind), tmp_path / "head.pth")
    with pytest.raises(NeuronPathError) as caught:
        load_head(tmp_path / "head.pth")
    assert REFUSALS[kind] in str(caught.value)


@pytest.mark.parametrize("name", ["head.safetensors", "head.pth"])
def test_garbage_and_absence_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match="No checkpoint file"):
        load_head(tmp_path / name)
    (tmp_path / name).write_bytes(bytes(range(256)))
    with pytest.raises(NeuronPathError, match="Checkpoint"):
        load_head(tmp_path / name)


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape)


MISFITS = {
    "another width": (LinearHead(ones(5, 20), ones(5)), "reads 20 features, but the model gives 24"),
    "DINOv2's": (LinearHead(ones(5, 48), ones(5)), "reads 2 vectors of the model side by side, as DINOv2's"),
    "one class": (LinearHead(ones(1, 24), ones(1)), "has 1 class(es): expected 2 or more"),
    "another bias": (LinearHead(ones(5, 24), ones(4)), "its bias (4,); expected (classes, features) and (classes,)"),
    "NaN": (LinearHead(ones(5, 24) * torch.nan, ones(5)), "NaN or infinity"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_head_that_does_not_fit_is_refused_and_the_model_left(kind: str, model: nn.Module) -> None:
    head, expected = MISFITS[kind]
    with pytest.raises(NeuronPathError) as caught:
        attach_head(model, head)
    assert expected in str(caught.value)
    assert model.num_classes == 0


@pytest.mark.parametrize("place", ["classifier", "heads", "fc"])
def test_a_head_of_another_library_s_model_is_exchanged(place: str) -> None:
    """Here of one with a tower inside; the real ones are tested where they are made."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model("vit_tiny_patch16_224", **VIT)
            setattr(
                self, place, nn.Sequential(OrderedDict(head=nn.Linear(24, 3))) if place == "heads" else nn.Identity()
            )

        def forward(self, images: Tensor) -> Tensor:
            return getattr(self, place)(self.backbone(images))

    model = Net().eval()
    images = torch.randn(2, 3, 32, 32)
    head = LinearHead(torch.randn(5, 24), torch.randn(5), tuple("abcde"))
    expected = model.backbone(images) @ head.weight.T + head.bias
    torch.testing.assert_close(features(model, images), model.backbone(images))
    torch.testing.assert_close(attach_head(model, head)(images), expected)
    assert class_names(model) == tuple("abcde")


def test_models_that_no_linear_head_fits_are_refused() -> None:
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", **VIT)
    unpooled = timm.create_model("vit_tiny_patch16_224", **VIT, global_pool="")
    for model, expected in (
        (distilled, "distilled"),
        (unpooled, "does not pool"),
        (nn.ReLU(), "has no linear layer named"),
    ):
        with pytest.raises(NeuronPathError, match=expected):
            attach_head(model, linear_head(24))


class Cosine(nn.Module):
    """A head of a user's own."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(24, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return 8 * self.last(nn.functional.normalize(x))


HEADS = {
    "own": Cosine(7),
    "linear": nn.Linear(24, 7),
    "MLP": nn.Sequential(nn.Linear(24, 9), nn.GELU(), nn.Dropout(), nn.Linear(9, 7)),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("n_classes", [0, 5])
def test_a_head_that_is_set_in_python_counts(kind: str, n_classes: int) -> None:
    options: dict[str, Any] = VIT | {"num_classes": n_classes}
    model: Any = timm.create_model("vit_tiny_patch16_224", **options).eval()
    model.head = HEADS[kind].eval()
    images = torch.randn(1, 3, 32, 32)
    paths = neuron_path.find_paths(model, images, [6])
    assert (paths.targets.tolist(), paths.paths.shape) == ([6], (1, 2))
    session = Session(model)
    assert session.adapter.n_classes == 7
    h = session.adapter.embed(images)
    for index in range(2):
        h = session.adapter.run(index, h)
    torch.testing.assert_close(session.adapter.head(h), model(images), atol=1e-6, rtol=0)
