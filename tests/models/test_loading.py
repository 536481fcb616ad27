"""Loading models: frozen, from files of tensors only, and every mistake told in one line."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models import loading
from neuron_path.models.loading import load_model
from neuron_path.models.session import Session

NAME = "test_vit"  # timm's smallest: 1 MB


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Those of a random `test_vit` of 10 classes."""
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=10).state_dict()


def load(checkpoint: Path, **options: Any) -> torch.nn.Module:
    return load_model(NAME, checkpoint=checkpoint, num_classes=10, **options)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as caught:
        load_model(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def is_loaded(model: torch.nn.Module, weights: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[name], weights[name]) for name in own)


def test_the_embedded_model_is_frozen_and_in_eval_mode() -> None:
    model = load_model()
    assert isinstance(model, VisionTransformer)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert len(model.blocks) == 12


def test_every_load_is_a_model_of_its_own() -> None:
    one, two = load_model(), load_model()
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert not torch.equal(next(one.parameters()), next(two.parameters()))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_pytorch_file_of_tensors_is_loaded(tmp_path: Path, weights: dict[str, Tensor], wrapper: str | None) -> None:
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3}, tmp_path / "weights.pth")
    model = load(tmp_path / "weights.pth")
    assert is_loaded(model, weights)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_safetensors_file_is_loaded(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    assert is_loaded(load(tmp_path / "weights.safetensors"), weights)


def test_another_checkpoint_for_the_embedded_model(tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in load_model().state_dict().items()}
    save_file(other, tmp_path / "other.safetensors")
    assert is_loaded(load_model(checkpoint=tmp_path / "other.safetensors"), other)


def test_random_weights_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=f"The weights of '{NAME}' are random"):
        load_model(NAME)


def test_no_such_model() -> None:
    assert "No model is named 'vit_tiny_patch16_22'. Did you mean 'vit_tiny_patch16_224'?" in refusal(
        "vit_tiny_patch16_22"
    )
    assert "Did you mean 'digits_vit'?" in refusal("digit_vit")


def test_no_such_file(tmp_path: Path) -> None:
    assert f"No checkpoint file '{tmp_path / 'x.pth'}'" in refusal(NAME, checkpoint=tmp_path / "x.pth")
    assert f"No checkpoint file in '{tmp_path}'" in refusal(NAME, checkpoint=tmp_path)


def test_what_does_not_fit_is_listed(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    changed = dict(weights, **{"head.weight": torch.zeros(5, 64), "extra": torch.zeros(1)})
    del changed["norm.bias"], changed["norm.weight"]
    save_file(changed, tmp_path / "other.safetensors")
    told = refusal(NAME, checkpoint=tmp_path / "other.safetensors", num_classes=10)
    assert "does not fit the model" in told
    assert "2 missing (norm.bias, norm.weight)" in told
    assert "1 unknown (extra)" in told
    assert "1 of another shape (head.weight is (5, 64), expected (10, 64))" in told


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    told = refusal(NAME, checkpoint=tmp_path / "other.safetensors")
    assert "missing (blocks.0.attn.proj.bias, " in told
    assert ", …)" in told
    assert len(told) < 500


class Evil:
    """Would write a file when unpickled by an ordinary unpickler."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def held(kind: str, weights: dict[str, Tensor], target: Path) -> Any:
    if kind == "beside weights":
        return {"model": weights, "args": argparse.Namespace(lr=Evil(target))}
    return Evil(target)


@pytest.mark.parametrize("kind", ["evil", "beside weights"])
@pytest.mark.parametrize("suffix", ["pth", "bin"])
def test_what_would_run_code_is_refused(tmp_path: Path, weights: dict[str, Tensor], kind: str, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    torch.save(held(kind, weights, tmp_path / "was_here"), file)
    told = refusal(NAME, checkpoint=file)
    assert f"Checkpoint '{file}' is refused" in told
    assert "safetensors" in told
    assert not (tmp_path / "was_here").exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(Evil(tmp_path / "was_here")))
    assert "is refused" in refusal(NAME, checkpoint=file)
    assert not (tmp_path / "was_here").exists()


GARBAGE = {"empty": b"", "text": b"hello world\n", "noise": bytes(range(256)) * 8, "zip": b"PK\x03\x04" + bytes(60)}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_garbage_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(GARBAGE[kind])
    assert f"Checkpoint '{file}' is " in refusal(NAME, checkpoint=file)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({}, "an empty mapping"),
        ([torch.zeros(1)], "a value of type list"),
        ({"epoch": 1, "args": {"lr": 0.1}}, "the keys args, epoch"),
        (torch.zeros(2), "a value of type Tensor"),
        (3, "a value of type int"),
        (argparse.Namespace(lr=0.1), "an object (argparse.Namespace)"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any, found: str) -> None:
    torch.save(value, tmp_path / "weights.pth")
    assert f"is no state dict: expected a mapping of names to tensors, found {found}." in refusal(
        NAME, checkpoint=tmp_path / "weights.pth"
    )


@pytest.mark.parametrize("name", [NAME, "digits_vit"])
def test_an_option_that_the_model_does_not_take(name: str) -> None:
    told = refusal(name, colour="red")
    assert f"The model '{name}' cannot be made with {{'colour': 'red'}}" in told


@pytest.mark.parametrize("error", [OSError("offline\nand more"), RuntimeError("no tag")])
def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        logging.getLogger("huggingface_hub").warning("Retrying")
        raise error

    monkeypatch.setattr(loading.timm, "create_model", fail)
    told = refusal(NAME, pretrained=True)
    assert f"Could not fetch the pretrained weights of '{NAME}'" in told
    assert str(error).splitlines()[0] in told


def test_a_model_of_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("offline\nand more")

    monkeypatch.setattr(loading.timm, "create_model", fail)
    assert "Could not fetch the configuration of 'hf-hub:a/b' (offline.). " in refusal("hf-hub:a/b")
    assert "Could not fetch the pretrained weights of 'hf-hub:a/b'" in refusal("hf-hub:a/b", pretrained=True)


def test_a_lost_network_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        logging.getLogger("huggingface_hub").warning("Retrying")
        logging.getLogger("timm.models").info("Loading")
        raise OSError("offline")

    monkeypatch.setattr(loading.timm, "create_model", fail)
    refusal(NAME, pretrained=True)
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    damaged = dict(weights, **{"norm.bias": torch.full_like(weights["norm.bias"], torch.nan)})
    save_file(damaged, tmp_path / "weights.safetensors")
    with pytest.raises(NeuronPathError, match=r"The model's weight 'norm\.bias' holds NaN"):
        Session(load(tmp_path / "weights.safetensors"))


def test_it_is_the_package_s_load_model() -> None:
    assert neuron_path.load_model is load_model


def test_weights_for_other_classes_say_how_to_load_them(tmp_path: Path) -> None:
    state = neuron_path.load_model().state_dict()
    state |= {"head.weight": state["head.weight"][:7].clone(), "head.bias": state["head.bias"][:7].clone()}
    save_file(state, tmp_path / "seven.safetensors")
    with pytest.raises(NeuronPathError, match=r"The file has 7 classes: give num_classes=7 \(\+model\.kwargs"):
        neuron_path.load_model(checkpoint=tmp_path / "seven.safetensors")
    assert neuron_path.load_model(checkpoint=tmp_path / "seven.safetensors", num_classes=7).num_classes == 7


def test_a_name_of_torchvision_is_told_in_timm_s_words() -> None:
    assert "'vit_b_16' is torchvision's name of a model, which is 'vit_base_patch16_224' in timm" in refusal("vit_b_16")


def test_weights_of_an_unusual_size_without_a_name_say_what_to_give(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "img_size": 32}
    source = timm.create_model("vit_base_patch16_224", num_classes=5, **sizes)
    save_file(source.state_dict(), tmp_path / "v.safetensors")
    given = dict(re.findall(r"\+model\.kwargs\.(\w+)=(\w+)", refusal(checkpoint=tmp_path / "v.safetensors")))
    assert given == {"embed_dim": "24", "depth": "2", "num_heads": "N", "patch_size": "8", "img_size": "SIZE"}
    told: dict[str, Any] = {
        name: sizes[name] if value in ("N", "SIZE") else int(value) for name, value in given.items()
    }
    load_model("vit_base_patch16_224", checkpoint=tmp_path / "v.safetensors", num_classes=5, **told)
