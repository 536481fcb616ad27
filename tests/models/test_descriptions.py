"""What a folder or file tells beside its weights: architecture, classes and pixels, as many programs write them."""

from __future__ import annotations

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn
from torchvision import transforms

from neuron_path.config import ModelConfig
from neuron_path.errors import NeuronPathError
from neuron_path.models.checkpoint import fetching
from neuron_path.models.checkpoint.huggingface import Unknown, pixels
from neuron_path.models.classes import class_names
from neuron_path.models.loading import load_model
from neuron_path.models.preprocessing import image_transform
from neuron_path.pipeline.pruning.study import architecture
from neuron_path.pruning.saved import load_pruned, save_pruned
from neuron_path.pruning.slicing import slice_model
from tests.models.checkpoints import CLASSES, DEPTH, HEADS, WIDTH, as_hugging_face, as_hugging_face_dinov2, logits, make
from tests.models.test_layouts import torchvision_vit

NAMES = ("tench", "goldfish", "shark", "ray", "cock")
CONFIG: dict[str, Any] = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "qkv_bias": True,
    "id2label": {str(place): name for place, name in enumerate(NAMES)},
}
PIXELS: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
    "size": {"height": 32, "width": 32},
}


def hugging_face(
    folder: Path, model: nn.Module, config: Any = CONFIG, settings: Any = PIXELS, kind: str = "vit"
) -> Path:
    """A folder as `save_pretrained` of model and image processor leaves it."""
    weights = as_hugging_face_dinov2(model) if kind.startswith("dinov2") else as_hugging_face(model, kind)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as caught:
        load_model(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def vit(**options: Any) -> Any:
    """As Hugging Face's, whose norms have another epsilon than timm's."""
    return make(seed=0, norm_layer=partial(nn.LayerNorm, eps=1e-12), **options)


@pytest.mark.parametrize("name", [None, "digits_vit"])
@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_hugging_face_folder_tells_everything(tmp_path: Path, name: str | None, file: str) -> None:
    source = vit()
    model = load_model(name, checkpoint=hugging_face(tmp_path, source) / file)
    assert torch.equal(logits(model), logits(source))
    assert class_names(model) == NAMES
    assert model.blocks[0].norm1.eps == 1e-12  # type: ignore[union-attr, index]
    described = image_transform(model)[1]
    assert described["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert described["std"] == pytest.approx([0.4, 0.5, 0.6])
    told = {name: described[name] for name in ("input_size", "interpolation", "crop_pct", "crop_mode")}
    assert told == {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}


def test_the_folder_goes_before_what_the_weights_do_not_show(tmp_path: Path) -> None:
    config = CONFIG | {"num_attention_heads": 4, "hidden_act": "gelu_new"}
    model: Any = load_model(checkpoint=hugging_face(tmp_path, vit(), config))
    assert model.blocks[0].attn.num_heads == 4
    torch.testing.assert_close(model.blocks[0].mlp.act(x := torch.randn(9)), nn.functional.gelu(x, approximate="tanh"))


def test_a_name_that_agrees_and_one_that_does_not(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH}
    hugging_face(tmp_path, source := vit())
    model = load_model("vit_small_patch16_224", checkpoint=tmp_path, **sizes)
    assert torch.equal(logits(model), logits(source))
    assert class_names(model) == NAMES
    told = refusal("vit_small_patch16_224", checkpoint=tmp_path)
    assert "tells another architecture than 'vit_small_patch16_224': leave out model.name" in told


def test_shards_are_told_of_by_the_same_folder(tmp_path: Path) -> None:
    source = vit()
    hugging_face(tmp_path, source)
    (tmp_path / "model.safetensors").unlink()
    weights = as_hugging_face(source)
    names = sorted(weights)
    placed = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in set(placed.values()):
        save_file({name: weights[name] for name in names if placed[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    model = load_model(checkpoint=tmp_path)
    assert torch.equal(logits(model), logits(source))
    assert class_names(model) == NAMES


@pytest.mark.parametrize("labels", [{"0": "LABEL_0", "1": "LABEL_1"}, {"0": "cat", "2": "dog"}, None, ["cat"]])
def test_numbers_and_gaps_are_no_names(tmp_path: Path, labels: Any) -> None:
    model = load_model(checkpoint=hugging_face(tmp_path, vit(num_classes=2), CONFIG | {"id2label": labels}))
    assert class_names(model) == ()
    assert model.num_classes == 2


def test_hugging_face_s_deit_with_one_head_and_with_two(tmp_path: Path) -> None:
    config = CONFIG | {"model_type": "deit"}
    source = vit(name="deit_base_distilled_patch16_224")
    model = load_model(checkpoint=hugging_face(tmp_path / "two", source, config, kind="deit"))
    assert torch.equal(logits(model), logits(source))
    one = hugging_face(tmp_path / "one", source, config, kind="deit")
    weights = as_hugging_face(source, "deit")
    kept = {name: tensor for name, tensor in weights.items() if "distillation_classifier" not in name}
    kept = {name.replace("cls_classifier", "classifier"): tensor for name, tensor in kept.items()}
    save_file(kept, one / "model.safetensors")
    tokens = source.forward_features(pictures := torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(load_model(checkpoint=one)(pictures), source.head(tokens[:, 0]), atol=1e-6, rtol=0)


def test_dinov2_is_of_the_size_of_its_pictures(tmp_path: Path) -> None:
    source = make("vit_base_patch14_reg4_dinov2", seed=0, num_classes=0)
    config = CONFIG | {"model_type": "dinov2_with_registers", "num_register_tokens": 4, "mlp_ratio": 4}
    settings = PIXELS | {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 54},
        "do_center_crop": True,
        "crop_size": {"height": 48, "width": 48},
    }
    config["layer_norm_eps"] = 1e-6
    folder = hugging_face(tmp_path, source, config, settings, kind="dinov2")
    model: Any = load_model(checkpoint=folder)
    _, described = image_transform(model)
    assert described["input_size"] == [3, 48, 48]
    assert (math.floor(48 / described["crop_pct"]), described["crop_mode"]) == (54, "center")
    # As transformers resizes it, without antialiasing.
    grid = source.pos_embed.reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)  # type: ignore[operator, union-attr]
    expected = nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(model.pos_embed, expected.permute(0, 2, 3, 1).reshape(1, 36, WIDTH), atol=1e-5, rtol=0)


def test_pictures_of_an_unknown_preparation_are_warned_of(tmp_path: Path) -> None:
    hugging_face(tmp_path, vit(), settings=PIXELS | {"do_flip_channel_order": True})
    with pytest.warns(UserWarning, match=r"but do_flip_channel_order is not known: they are prepared as for timm's"):
        load_model(checkpoint=tmp_path)


def test_a_folder_without_a_preparation_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"holds no preprocessor_config\.json, so pictures are prepared as timm does"):
        load_model(checkpoint=hugging_face(tmp_path, vit(), settings=None))


def test_a_processor_of_text_and_pictures(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path, vit(), settings=None)
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": PIXELS}))
    assert image_transform(load_model(checkpoint=folder))[1]["mean"] == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"size": 32}, {"input_size": (32, 32), "crop_pct": 1.0, "crop_mode": "squash"}),
        ({"do_normalize": False}, {"mean": (0, 0, 0), "std": (1, 1, 1)}),
        ({"do_rescale": False}, {"mean": (0.1 / 255, 0.2 / 255, 0.3 / 255)}),
        ({"rescale_factor": 1 / 127.5}, {"mean": (0.05, 0.1, 0.15), "std": (0.2, 0.25, 0.3)}),
        ({"resample": 3}, {"interpolation": "bicubic"}),
        ({"size": {"shortest_edge": 40}, "crop_size": 30}, {"crop_pct": 0.75, "crop_mode": "center"}),
        ({"size": {"shortest_edge": 28}, "crop_pct": 0.875}, {"input_size": (28, 28), "crop_pct": 0.875}),
        ({"size": 40, "crop_size": 30, "image_processor_type": "CLIPImageProcessor"}, {"crop_mode": "center"}),
    ],
)
def test_every_way_to_prepare_pictures(changed: dict[str, Any], expected: dict[str, Any]) -> None:
    found = pixels(PIXELS | changed)
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value) if name in ("mean", "std", "crop_pct") else value)


@pytest.mark.parametrize(
    "changed",
    [
        {"size": {"longest_edge": 32}},
        {"crop_size": 40},
        {"resample": 9},
        {"image_mean": "a"},
        {"image_mean": None},
        {"size": None},
        {"crop_size": {"height": 10, "width": 20}},
    ],
)
def test_other_ways_are_not_known(changed: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        pixels(PIXELS | changed)


@pytest.mark.parametrize("scaled", range(224, 300, 7))
def test_a_crop_is_cut_from_a_picture_of_the_size_told(scaled: int) -> None:
    found = pixels(PIXELS | {"size": {"shortest_edge": scaled}, "crop_size": 224})
    assert math.floor(224 / found["crop_pct"]) == scaled


def test_pictures_are_prepared_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    for processor in (
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
        transformers.DeiTImageProcessor(size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}),
        transformers.CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
    ):
        processor.save_pretrained(tmp_path)
        hugging_face(tmp_path, vit(), settings=None)
        mine = image_transform(load_model(checkpoint=tmp_path))[0](picture)
        theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
        assert (mine - theirs).abs().max() < 0.05  # its resizing rounds at other places than PIL's


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "swin"}, "its model_type is 'swin', and known are vit, "),
        (CONFIG | {"auto_map": {"AutoModel": "code.Evil"}}, "it names code of its own (auto_map), which is not run"),
        (CONFIG | {"hidden_act": "mish"}, "the activation 'mish' is not known here"),
        (CONFIG | {"hidden_size": "many"}, "a setting is missing or no number"),
        ({"architecture": "no_such_vit"}, "has no model 'no_such_vit'"),
    ],
)
def test_what_is_told_but_not_known_asks_for_a_name(tmp_path: Path, config: Any, told: str) -> None:
    (folder := hugging_face(tmp_path / "a", vit(), config)).joinpath("code.py").write_text("raise SystemExit(3)")
    found = refusal(checkpoint=folder)
    assert told in found
    assert found.endswith("give a timm model of the same architecture as model.name=NAME (name='NAME' in Python).")


def test_with_a_name_an_unknown_folder_still_tells_classes_and_pixels(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path, vit(), CONFIG | {"auto_map": {"AutoModel": "code.Evil"}})
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    model = load_model("vit_base_patch16_224", checkpoint=folder, num_classes=CLASSES, **sizes)
    assert class_names(model) == NAMES
    assert image_transform(model)[1]["mean"] == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"a"'])
def test_a_broken_config(tmp_path: Path, text: str) -> None:
    hugging_face(tmp_path, vit())
    (tmp_path / "config.json").write_text(text)
    assert f"'{tmp_path / 'config.json'}' " in refusal(checkpoint=tmp_path)


@pytest.mark.parametrize("kind", ["transformers", "timm"])
def test_a_told_model_is_pruned_saved_and_read_again(tmp_path: Path, kind: str) -> None:
    if kind == "timm":
        timm_folder(tmp_path / "whole", global_pool="avg", init_values=0.1)
    else:
        hugging_face(tmp_path / "whole", vit(), CONFIG | {"hidden_act": "gelu_new"})
    model = load_model(checkpoint=tmp_path / "whole")
    small = slice_model(model, [range(9)] * DEPTH)
    save_pruned(small, tmp_path / "small")
    again = load_pruned(tmp_path / "small")
    assert torch.equal(logits(again), logits(small))
    name, arguments = architecture(ModelConfig(name="digits_vit", checkpoint=str(tmp_path / "whole")), model)
    assert torch.equal(logits(load_model(name, checkpoint=tmp_path / "whole", **arguments)), logits(model))
    assert json.loads(json.dumps(arguments))["num_classes"] == CLASSES


# timm's folders


def timm_folder(folder: Path, **options: Any) -> Any:
    """As timm's `save_for_hf` writes it, or a push to the hub."""
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    source: Any = timm.create_model("vit_base_patch16_224", **sizes, num_classes=CLASSES, **options).eval()
    source.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.75}
    save_for_hf(source, str(folder), {"label_names": list(NAMES)}, safe_serialization=True)
    return source


@pytest.mark.parametrize("name", [None, "vit_base_patch16_224"])
def test_a_timm_folder_tells_everything(tmp_path: Path, name: str | None) -> None:
    source = timm_folder(tmp_path, global_pool="avg")
    model = load_model(name, checkpoint=tmp_path)
    assert torch.equal(logits(model), logits(source))
    assert class_names(model) == NAMES
    described = image_transform(model)[1]
    assert (described["mean"], described["crop_pct"]) == ([0.1, 0.2, 0.3], 0.75)


def test_a_timm_folder_with_descriptions_of_its_classes(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"label_descriptions": {name: f"a {name}" for name in NAMES}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert class_names(load_model(checkpoint=tmp_path)) == tuple(f"a {name}" for name in NAMES)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "model_args holds 'checkpoint_path', which loads other"),
        ({"model_args": []}, "is no description by timm"),
        ({"model_args": [1]}, "is no description by timm"),
        ({"pretrained_cfg": "a"}, "is no description by timm"),
        ({"model_args": {"block_fn": "os.system"}}, ""),
    ],
)
def test_a_hostile_timm_folder(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    timm_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    assert told in refusal(checkpoint=tmp_path)


# Files of training scripts, which tell by their arguments


def saved(file: Path, model: nn.Module, arguments: dict[str, Any]) -> Path:
    torch.save({"model": model.state_dict(), "epoch": 3, "args": argparse.Namespace(**arguments)}, file)
    return file


def test_timm_s_own_training_tells_the_model(tmp_path: Path) -> None:
    arguments = {"model": "test_vit", "num_classes": 7, "img_size": 96, "gp": "avg", "mean": [0.1, 0.2, 0.3]}
    source = timm.create_model("test_vit", num_classes=7, img_size=96, global_pool="avg").eval()
    file = tmp_path / "last.pth.tar"
    held = {
        "arch": "test_vit",
        "state_dict": source.state_dict(),
        "args": argparse.Namespace(**arguments, crop_pct=None),
    }
    torch.save({**held, "metric": np.float64(0.9), "version": 2}, file)
    for name in (None, "test_vit"):
        model = load_model(name, checkpoint=file)
        assert torch.equal(logits(model, 96), logits(source, 96))
        assert image_transform(model)[1]["mean"] == [0.1, 0.2, 0.3]


def test_arguments_do_not_go_before_a_name(tmp_path: Path) -> None:
    source = make(seed=0)
    file = saved(tmp_path / "v.pth", source, {"model": "test_vit", "num_classes": 7})
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    model = load_model("vit_base_patch16_224", checkpoint=file, num_classes=CLASSES, **sizes)
    assert torch.equal(logits(model), logits(source))


def test_mae_s_fine_tuning_tells_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def create(name: str, **options: Any) -> nn.Module:
        made.append((name, {key: options[key] for key in ("num_classes", "img_size", "global_pool")}))
        return model

    source, model = make(seed=0, global_pool="avg"), make(global_pool="avg")
    monkeypatch.setattr("neuron_path.models.loading.timm.create_model", create)
    arguments = {"model": "vit_base_patch16", "nb_classes": CLASSES, "input_size": 224, "global_pool": True}
    load_model(checkpoint=saved(tmp_path / "v.pth", source, arguments))
    assert made == [("vit_base_patch16_224.mae", {"num_classes": CLASSES, "img_size": 224, "global_pool": "avg"})]
    assert torch.equal(logits(model), logits(source))
    assert image_transform(model)[1]["mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_a_file_of_torchvision_tells_the_model(tmp_path: Path) -> None:
    source = torchvision_vit(hidden_dim=768, num_heads=12, mlp_dim=3072, num_layers=1)
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    model = load_model(checkpoint=tmp_path / "vit.pth")
    torch.testing.assert_close(logits(model), logits(source), atol=1e-4, rtol=1e-4)


def test_a_file_of_torchvision_of_another_size_asks_for_its_heads_alone(tmp_path: Path) -> None:
    source = torchvision_vit(mlp_dim=3 * WIDTH)
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    for name in (None, "vit_base_patch16_224"):
        told = refusal(name, checkpoint=tmp_path / "vit.pth")
        assert (
            "tells its architecture but for num_heads, which is in no file of weights: give +model.kwargs.num_he"
            in told
        )
        model = load_model(name, checkpoint=tmp_path / "vit.pth", num_heads=HEADS)
        torch.testing.assert_close(logits(model), logits(source), atol=1e-4, rtol=1e-4)


def test_a_file_of_torchvision_s_training_tells_how_pictures_are_prepared(tmp_path: Path) -> None:
    """As its `references/classification/train.py` saves a checkpoint, and prepares pictures to validate on."""
    arguments = argparse.Namespace(
        model="vit_b_16", val_resize_size=45, val_crop_size=32, train_crop_size=28, interpolation="bicubic"
    )
    held = {"model": torchvision_vit().state_dict(), "optimizer": {}, "epoch": 3, "args": arguments, "scaler": None}
    torch.save(held, tmp_path / "checkpoint.pth")
    model = load_model(checkpoint=tmp_path / "checkpoint.pth", num_heads=HEADS)
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    preset = transforms.Compose(
        [
            transforms.Resize(45, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    picture = Image.fromarray(noise)
    torch.testing.assert_close(image_transform(model)[0](picture), preset(picture))


# The hub


def test_a_repository_of_the_hub_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    source = vit()
    hugging_face(tmp_path, source)
    monkeypatch.setattr(fetching.huggingface_hub, "snapshot_download", download)
    model = load_model("google/vit-base-patch16-224")
    assert torch.equal(logits(model), logits(source))
    assert asked == [("google/vit-base-patch16-224", ["*.json", "model*.safetensors"])]
    assert not any(pattern.endswith(".py") for _, patterns in asked for pattern in patterns)


def test_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("offline\nand more")

    monkeypatch.setattr(fetching.huggingface_hub, "snapshot_download", fail)
    told = refusal("facebook/dinov2-base")
    assert "Could not fetch 'facebook/dinov2-base' from the Hugging Face hub (offline.). Check the name and the" in told
    assert "give its folder as model.checkpoint=DIR" in told


def test_a_folder_as_a_name_says_where_it_belongs(tmp_path: Path) -> None:
    assert f"is no model's name but a file or folder: give it as model.checkpoint={tmp_path} " in refusal(str(tmp_path))


# Weights for other classes


def test_a_head_that_timm_made_anew_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[int, Any] = {n_classes: make(num_classes=n_classes) for n_classes in (7, 1000)}
    for model in models.values():
        model.pretrained_cfg["num_classes"] = 1000

    def create(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        return models[num_classes]

    monkeypatch.setattr("neuron_path.models.loading.timm.create_model", create)
    told = r"The head of 'vit_base_patch16_224' is random: its weights are for 1000 classes, and num_classes is 7\."
    with pytest.warns(UserWarning, match=told):
        load_model("vit_base_patch16_224", pretrained=True, num_classes=7)
    load_model("vit_base_patch16_224", pretrained=True, num_classes=1000)
