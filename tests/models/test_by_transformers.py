"""Folders of Hugging Face whose models timm lacks, which transformers makes: told by the folder, run as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint import by_transformers
from neuron_path.models.classes import class_names
from neuron_path.models.heads import LinearHead, features
from neuron_path.models.preprocessing import image_transform
from neuron_path.store.reader import load_paths
from tests.command import run_in
from tests.models.test_descriptions import PIXELS, refusal

transformers: Any = pytest.importorskip("transformers")

NAMES = ("ray", "cock", "shark")
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TWO = {"vision_config": SIZES, "text_config": TEXT | {"bos_token_id": 0, "eos_token_id": 1}}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "Beit": SIZES | {"use_relative_position_bias": True},
    "Data2VecVision": SIZES,
    "Dinov2": SIZES | {"mlp_ratio": 2},
    "Dinov2WithRegisters": SIZES | {"mlp_ratio": 2, "num_register_tokens": 2},
    "IJepa": SIZES,
    "CLIP": TWO,
    "MetaClip2": TWO,
    "Siglip": TWO,
}


def folder_of(path: Path, name: str, options: dict[str, Any], settings: dict[str, Any] | None = None) -> nn.Module:
    """A folder as `save_pretrained` of a random model and its image processor leaves it, and the model."""
    family = name.partition("For")[0].partition("Model")[0].partition("Vision")[0]
    family = "Data2VecVision" if family == "Data2Vec" else family
    kind = getattr(transformers, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")
        model = kind(kind.config_class(**options) if kind.config_class is not config else config(**options))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    prepared = PIXELS | {"size": {"height": 8, "width": 8}}
    (path / "preprocessor_config.json").write_text(json.dumps(prepared if settings is None else settings))
    return model.eval().requires_grad_(False)


def classifier(path: Path, family: str = "Beit", **more: Any) -> Any:
    labels: dict[str, Any] = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
    return folder_of(path, f"{family}ForImageClassification", CLASSIFIERS[family] | labels | more)


def change(path: Path, **settings: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | settings))


def pictures(size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_folder_tells_model_classes_and_pixels(tmp_path: Path, family: str) -> None:
    source = classifier(tmp_path, family)
    model: Any = neuron_path.load_model(checkpoint=tmp_path)
    assert torch.equal(model(pictures()).logits, source(pictures()).logits)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert class_names(model) == NAMES
    described = image_transform(model)[1]
    assert described["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert described["input_size"] == [3, 8, 8]
    assert neuron_path.find_paths(model, pictures(), n_steps=2).paths.shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "options", "width"),
    [
        ("BeitModel", SIZES, 16),
        ("Dinov2Model", SIZES | {"mlp_ratio": 2}, None),
        ("CLIPModel", TWO | {"projection_dim": 12}, 12),
        ("CLIPVisionModel", SIZES, 16),
        ("CLIPVisionModelWithProjection", SIZES | {"projection_dim": 12}, 12),
        ("SiglipModel", TWO, 16),
        ("SiglipVisionModel", SIZES, 16),
    ],
)
def test_a_folder_without_a_classifier_gives_features(
    tmp_path: Path, name: str, options: dict[str, Any], width: int | None
) -> None:
    if "projection_dim" in options and "vision_config" in options:
        options = options | {"vision_config": SIZES | {"projection_dim": 12}}
    source: Any = folder_of(tmp_path, name, options)
    model: Any = neuron_path.load_model(checkpoint=tmp_path)
    assert model.num_classes == 0
    if width is None:  # through timm, which has the architecture
        assert type(model).__module__.startswith("timm.")
        return
    found = features(model, pictures())
    assert found.shape == (2, width)
    if name in ("CLIPModel", "SiglipModel"):
        expected = source.get_image_features(pictures())
        expected = getattr(expected, "pooler_output", expected)
    else:
        output = source(pictures())
        expected = output.image_embeds if "Projection" in name else output.pooler_output
    torch.testing.assert_close(found, expected)
    head = LinearHead(torch.randn(3, width), torch.randn(3), NAMES)
    again = neuron_path.attach_head(model, head)
    assert class_names(again) == NAMES
    logits = again(pictures())
    torch.testing.assert_close(getattr(logits, "logits", logits), found @ head.weight.T + head.bias)
    assert neuron_path.find_paths(again, pictures(), n_steps=2).paths.shape == (2, 2)


def test_pickled_weights_in_half_precision(tmp_path: Path) -> None:
    source = classifier(tmp_path)
    weights = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    change(tmp_path, dtype="float16", torch_dtype="float16")
    model: Any = neuron_path.load_model(checkpoint=tmp_path)
    assert next(model.parameters()).dtype == torch.float32
    torch.testing.assert_close(model(pictures()).logits, source.half().float()(pictures()).logits)


def test_dinov2_takes_pictures_of_its_processor_s_size(tmp_path: Path) -> None:
    source = classifier(tmp_path, "Dinov2")
    settings = PIXELS | {
        "size": {"shortest_edge": 18},
        "crop_size": {"height": 16, "width": 16},
        "do_center_crop": True,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    model: Any = neuron_path.load_model(checkpoint=tmp_path)
    assert image_transform(model)[1]["input_size"] == [3, 16, 16]
    assert torch.equal(model(pictures(16)).logits, source(pictures(16)).logits)
    assert neuron_path.find_paths(model, pictures(16), n_steps=2).paths.shape == (2, 2)


def test_classes_may_be_left_out_and_nothing_else_changed(tmp_path: Path) -> None:
    classifier(tmp_path)
    assert features(neuron_path.load_model(checkpoint=tmp_path, num_classes=0), pictures()).shape == (2, 16)
    told = refusal(checkpoint=tmp_path, img_size=16)
    assert "tells its model and its 3 classes, and timm's options do not change it: give none (model.kwargs)" in told
    assert "tells its model" in refusal(checkpoint=tmp_path, num_classes=7)


@pytest.mark.parametrize(
    ("change_weights", "told"),
    [
        (lambda held: held.pop("beit.encoder.layer.1.layernorm_after.weight"), r"1 missing \(beit\.\S*layernorm_after"),
        (lambda held: held.update({"extra.weight": torch.ones(2)}), r"1 unknown \(extra\.weight\)\."),
        (lambda held: held.update({"beit.embeddings.cls_token": torch.ones(1, 1, 5)}), r"does not fit the Beit"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change_weights: Any, told: str) -> None:
    classifier(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    change_weights(held)
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(NeuronPathError, match=told) as caught:
        neuron_path.load_model(checkpoint=tmp_path)
    assert "\n" not in str(caught.value)


def test_settings_that_make_no_model(tmp_path: Path) -> None:
    classifier(tmp_path)
    change(tmp_path, hidden_size=15)
    assert "does not fit the BeitForImageClassification of its config.json" in refusal(checkpoint=tmp_path)


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal(checkpoint=tmp_path).endswith("is not installed: pip install transformers.")


def test_a_transformers_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier(tmp_path)
    monkeypatch.setattr(by_transformers, "CLASSES", {"beit": "NoSuch"})
    assert "lacks (NoSuchForImageClassification): install a newer one" in refusal(checkpoint=tmp_path)


def test_hostile_settings_reach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another implementation of attention, which would be fetched, nor quantisation, nor code of its own."""
    source = classifier(tmp_path / "a")
    hostile = {"attn_implementation": "evil/kernel", "quantization_config": {"quant_method": "hqq"}}
    hostile |= {f"_{name}": value for name, value in hostile.items()} | {"dtype": "no such", "architectures": ["Evil"]}
    change(tmp_path / "a", **hostile, _name_or_path="evil/model", num_labels=9)
    (tmp_path / "a" / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}')
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it looks for a network"))
    model: Any = neuron_path.load_model(checkpoint=tmp_path / "a")
    assert torch.equal(model(pictures()).logits, source(pictures()).logits)
    classifier(tmp_path / "b")
    change(tmp_path / "b", auto_map={"AutoModelForImageClassification": "code.Evil"})
    (tmp_path / "b" / "code.py").write_text("raise SystemExit(3)")
    assert "code.py" not in refusal(checkpoint=tmp_path / "b")


def test_a_run_by_the_command(tmp_path: Path) -> None:
    """Folders of pictures whose order is not that of the classes: labels and predictions are the model's own."""
    source = classifier(tmp_path / "model")
    for number, name in enumerate(sorted(NAMES)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        noise = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(tmp_path / "pictures" / name / "a.png")
    settings = (f"model.checkpoint={tmp_path / 'model'}", "data=image_folder", f"data.root={tmp_path / 'pictures'}")
    ran = run_in(tmp_path / "run", "search", *settings, "trainer=cpu", "data.num_workers=0", "quadrature.n_steps=2")
    assert ran.code == 0, ran.err
    table: Any = load_paths(ran.run_dir)
    transform = image_transform(neuron_path.load_model(checkpoint=tmp_path / "model"))[0]
    for row in table.itertuples():
        name = str(row.sample_id).partition("/")[0]
        assert NAMES[row.label] == name
        pixels = transform(Image.open(tmp_path / "pictures" / str(row.sample_id)))
        assert row.prediction == int(source(pixels[None]).logits.argmax())
