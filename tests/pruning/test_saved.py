"""Pruned models on disk: the same logits back, and one clear line for everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.preprocessing import image_transform, input_size
from neuron_path.pruning.description import DESCRIPTION_FILE, read_pruned
from neuron_path.pruning.ranking import hidden_widths
from neuron_path.pruning.saved import WEIGHTS_FILE, load_pruned, save_pruned
from neuron_path.pruning.slicing import slice_model
from neuron_path.store.provenance import weight_hash

SMALL: dict[str, Any] = {"img_size": 32, "num_classes": 5, "patch_size": 16, "embed_dim": 24, "depth": 2}
VIT = SMALL | {"num_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": VIT,
    "vit_small_patch16_18x2_224": VIT,  # FFNs side by side
    "deit_tiny_distilled_patch16_224": VIT,
    "vit_base_patch16_siglip_224": VIT,  # attention pooling, whose FFN is no block's
    "vit_small_patch14_reg4_dinov2": VIT,
    "eva02_tiny_patch14_224": VIT | {"scale_mlp": False},
    "beit_base_patch16_224": VIT,
    "cait_xxs24_224": VIT,
    "xcit_nano_12_p16_224": VIT,
    "tnt_s_patch16_224": {
        "img_size": 32,
        "num_classes": 5,
        "embed_dim": 24,
        "inner_dim": 8,
        "depth": 2,
        "num_heads_inner": 2,
        "num_heads_outer": 2,
    },
    "hiera_tiny_224": {"img_size": 64, "num_classes": 5, "embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1)},
}


def make(name: str = "vit_tiny_patch16_224", **changed: Any) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **(MODELS[name] | changed)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # timm's heads begin as zeros
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def prune(model: nn.Module, scope: str | None = None, *, fold: bool = True) -> nn.Module:
    """Another number of neurons in each block, with made-up means folded in."""
    widths = hidden_widths(model, scope)
    kept = [range(index % 2, max(2, width // 2 - 2 * index)) for index, width in enumerate(widths)]
    means = [torch.linspace(0, 0.5, width) for width in widths] if fold else None
    return slice_model(model, kept, means, token_scope=scope)


def logits(model: nn.Module) -> torch.Tensor:
    images = torch.randn(3, *input_size(model), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return model(images.to(next(model.parameters()).dtype))


def check_same(one: nn.Module, other: nn.Module) -> None:
    """Equal weights, and logits that differ by the rounding that places in memory decide on."""
    weights = other.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in one.state_dict().items())
    torch.testing.assert_close(logits(one), logits(other))


@pytest.mark.parametrize("name", MODELS)
def test_what_comes_back_computes_the_same(name: str, tmp_path: Path) -> None:
    small = prune(make(name))
    save_pruned(small, tmp_path / "pruned", kwargs=MODELS[name])
    again = load_pruned(tmp_path / "pruned")
    check_same(again, small)
    assert hidden_widths(again) == hidden_widths(small)
    assert type(again) is type(small)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert sorted(file.name for file in (tmp_path / "pruned").iterdir()) == [WEIGHTS_FILE, DESCRIPTION_FILE]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_type_of_the_weights_stays(dtype: torch.dtype, tmp_path: Path) -> None:
    small = prune(make().to(dtype))
    save_pruned(small, tmp_path, kwargs=VIT)
    again = load_pruned(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {dtype}
    check_same(again, small)


def test_the_embedded_model_is_saved_by_its_name(tmp_path: Path) -> None:
    model = neuron_path.load_model("digits_vit")
    small = prune(model)
    save_pruned(small, tmp_path, name="digits_vit", classes=[str(digit) for digit in range(10)])
    again = load_pruned(tmp_path)
    images, labels = neuron_path.load_digits("test")
    torch.testing.assert_close(again(images), small(images))
    assert image_transform(again)[1] == image_transform(model)[1]
    found = neuron_path.find_paths(again, images[:2], labels[:2])
    assert found.paths.shape == (2, 12)
    assert torch.equal(found.paths, neuron_path.find_paths(small, images[:2], labels[:2]).paths)


def test_blocks_of_both_scopes_may_be_pruned(tmp_path: Path) -> None:
    """CaiT's class token has blocks of its own."""
    both = prune(prune(make("cait_xxs24_224"), "patch"), "cls")
    description = save_pruned(both, tmp_path, kwargs=VIT)
    again = load_pruned(tmp_path)
    check_same(again, both)
    for scope in ("patch", "cls"):
        assert [sum(widths) for widths in description.widths[scope]] == hidden_widths(again, scope)
        assert hidden_widths(again, scope) == hidden_widths(both, scope)


def test_a_bias_that_folding_made_comes_back(tmp_path: Path) -> None:
    kwargs = VIT | {"proj_bias": False}
    small: Any = prune(make(proj_bias=False))
    assert small.blocks[0].mlp.fc2.bias is not None
    save_pruned(small, tmp_path, kwargs=kwargs)
    check_same(load_pruned(tmp_path), small)
    save_pruned(prune(make(proj_bias=False), fold=False), tmp_path, kwargs=kwargs)
    again: Any = load_pruned(tmp_path)
    assert again.blocks[0].mlp.fc2.bias is None


def test_an_unpruned_model_can_be_saved_too(tmp_path: Path) -> None:
    model = make()
    save_pruned(model, tmp_path, kwargs=VIT)
    check_same(load_pruned(tmp_path), model)


def test_preprocessing_that_the_model_does_not_know_is_saved_with_it(tmp_path: Path) -> None:
    kwargs: dict[str, Any] = {**VIT, "in_chans": 1}
    grey = timm.create_model("vit_tiny_patch16_224", **kwargs).eval()
    with pytest.raises(NeuronPathError, match=r"3 value\(s\) of mean, but the model takes 1"):
        save_pruned(grey, tmp_path, kwargs=kwargs)
    own = {"mean": [0.5], "std": [0.25], "crop_pct": None}
    save_pruned(grey, tmp_path, kwargs=kwargs, preprocessing=own)
    again: Any = load_pruned(tmp_path)
    assert image_transform(again)[1] == image_transform(grey, own)[1]


def test_the_description_says_what_was_saved(tmp_path: Path) -> None:
    small: Any = prune(make())
    small.pretrained_cfg = dict(small.pretrained_cfg) | {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.75}
    classes = ["a", "b", "c", "d", "é"]
    written = save_pruned(small, tmp_path, kwargs=VIT, classes=classes, provenance={"keep": 0.5, "seed": 3})
    read = read_pruned(tmp_path)
    assert read == written
    assert (read.name, read.kwargs, read.classes) == ("vit_tiny_patch16_224", VIT, classes)
    assert read.widths == {"patch": [[48], [45]], "cls": [[48], [45]]}
    assert read.preprocessing["mean"] == [0.1, 0.2, 0.3]
    assert (read.provenance["keep"], read.provenance["seed"]) == (0.5, 3)
    assert read.provenance["versions"]["timm"] == timm.__version__
    tensors = {name: tensor.numpy() for name, tensor in load_file(tmp_path / WEIGHTS_FILE).items()}
    assert read.provenance["weight_hash"] == weight_hash(tensors.items())
    again: Any = load_pruned(tmp_path)
    assert image_transform(again)[1] == image_transform(small)[1]
    assert again.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)


def test_saving_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    small = prune(make()).train()
    before = {key: value.clone() for key, value in small.state_dict().items()}
    save_pruned(small, tmp_path, kwargs=VIT)
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())
    assert all(module.training for module in small.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "do not fit the architecture"),
        ({"kwargs": VIT | {"num_heads": 3}}, "computes other logits from the same weights"),
        ({"kwargs": VIT | {"depth": 1}}, "do not fit the architecture"),
        ({"kwargs": VIT | {"embed_dim": 8}}, "do not fit the architecture"),
        ({"kwargs": VIT | {"mlp_ratio": 1}}, "do not fit the architecture"),
        ({"kwargs": VIT | {"no_such": 1}}, "cannot be made with"),
        ({"kwargs": VIT | {"act_layer": nn.ReLU}}, "'kwargs.act_layer' has type"),
        ({"kwargs": VIT | {"pretrained": True}}, "argument(s) pretrained would fetch"),
        ({"kwargs": VIT, "name": "hf-hub:a/b"}, "name 'hf-hub:a/b' would fetch"),
        ({"kwargs": VIT, "name": "vit_tinny_patch16_224"}, "No model is named 'vit_tinny_patch16_224'. Did you mean"),
        (
            {"kwargs": VIT, "classes": ["a", "b"]},
            "There are 2 class names for a model of 5 classes: give one for each, or leave them out.",
        ),
        ({"kwargs": VIT, "provenance": {"model": nn.ReLU()}}, "which JSON cannot hold"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError) as error:
        save_pruned(prune(make()), tmp_path, **options)
    one_line(error)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_say_its_name_needs_one(tmp_path: Path) -> None:
    small: Any = prune(make())
    del small.pretrained_cfg
    with pytest.raises(NeuronPathError, match="does not say which architecture it is"):
        save_pruned(small, tmp_path, kwargs=VIT)


def test_a_hook_that_changes_the_logits_is_found(tmp_path: Path) -> None:
    small = prune(make())
    small.register_forward_hook(lambda *call: call[2] + 1)
    with pytest.raises(NeuronPathError, match="computes other logits from the same weights"):
        save_pruned(small, tmp_path, kwargs=VIT)


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NeuronPathError, match="Cannot write"):
        save_pruned(prune(make()), tmp_path / "file", kwargs=VIT)


def described(**changed: Any) -> Callable[[Path], None]:
    """Change the description; a value of None takes the key out."""

    def change(directory: Path) -> None:
        file = directory / DESCRIPTION_FILE
        held = json.loads(file.read_text()) | changed
        file.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))

    return change


def other_weights(directory: Path) -> None:
    file = directory / WEIGHTS_FILE
    tensors = load_file(file)
    tensors["norm.weight"] += 1
    save_file(tensors, file)


def torn(name: str) -> Callable[[Path], None]:
    def tear(directory: Path) -> None:
        file = directory / name
        file.write_bytes(file.read_bytes()[:-40])

    return tear


def pickled(directory: Path) -> None:
    torch.save({"a": torch.zeros(1)}, directory / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda directory: (directory / DESCRIPTION_FILE).unlink(), "holds no pruned.json"),
        (lambda directory: (directory / WEIGHTS_FILE).unlink(), "model.safetensors': No such file"),
        (torn(DESCRIPTION_FILE), "Cannot read"),
        (torn(WEIGHTS_FILE), "is not the file that pruned.json describes"),
        (other_weights, "is not the file that pruned.json describes"),
        (pickled, "is not the file that pruned.json describes"),
        (described(format="other"), "holds a pruned.json of another program"),
        (described(version=3), "has version 3 of its format, but this neuron-path reads 2"),
        (described(widths=None), "is damaged: widths missing or of another kind"),
        (described(widths={"patch": [24, 24]}), "is damaged: widths missing"),
        (described(name=3, classes="abc"), "is damaged: name, classes missing"),
        (described(dtype="int8"), "is damaged: dtype missing"),
        (described(widths={"patch": [[48], [45], [1]]}), "do not fit the architecture"),
        (described(widths={"patch": [[48], [4500]]}), "do not fit the architecture"),
        (described(widths={"patch": [[48], [44]]}), "does not fit the model"),
        (described(name="no_such_vit"), "No model is named 'no_such_vit'"),
        (described(name="hf-hub:some/model"), "would fetch or read other weights"),
        (described(kwargs=VIT | {"pretrained": True}), "would fetch or read other weights"),
        (described(kwargs=VIT | {"checkpoint_path": "x.pth"}), "would fetch or read other weights"),
        (described(kwargs=VIT | {"depth": "many"}), "cannot be made with"),
    ],
)
def test_spoilt_directories_are_one_clear_line(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save_pruned(prune(make()), tmp_path, kwargs=VIT)
    spoil(tmp_path)
    with pytest.raises(NeuronPathError) as error:
        load_pruned(tmp_path)
    one_line(error)
    assert message in str(error.value)


def test_there_must_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match="There is no directory"):
        load_pruned(tmp_path / "none")


def test_weights_of_another_model_of_the_right_hash_do_not_fit(tmp_path: Path) -> None:
    save_pruned(prune(make()), tmp_path, kwargs=VIT)
    save_file({"a": torch.zeros(3)}, tmp_path / WEIGHTS_FILE)
    described(weights_sha256=hashlib.sha256((tmp_path / WEIGHTS_FILE).read_bytes()).hexdigest())(tmp_path)
    with pytest.raises(NeuronPathError, match="does not fit the model") as error:
        load_pruned(tmp_path)
    one_line(error)


def test_saving_twice_replaces(tmp_path: Path) -> None:
    save_pruned(prune(make()), tmp_path, kwargs=VIT)
    other = slice_model(make(), [np.arange(7), np.arange(3)])
    save_pruned(other, tmp_path, kwargs=VIT)
    assert hidden_widths(load_pruned(tmp_path)) == [7, 3]


def one_line(error: pytest.ExceptionInfo[NeuronPathError]) -> None:
    assert "\n" not in str(error.value)
