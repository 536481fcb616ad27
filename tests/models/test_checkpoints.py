"""Checkpoints as others write them: each layout is spelled out here, written, loaded back, and gives equal logits."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from tests.models.checkpoints import (
    CLASSES,
    WIDTH,
    Weights,
    as_google,
    as_hugging_face,
    as_hugging_face_dinov2,
    assert_loads,
    load,
    logits,
    make,
    refusal,
    save_npz,
)

# Google's .npz


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_google_s_npz(tmp_path: Path, prefix: str) -> None:
    source = make(seed=0)
    held = {prefix + name: array for name, array in as_google(source).items()}
    assert_loads(save_npz(tmp_path / "ViT-B_16.npz", held), source)


@pytest.mark.parametrize("size", [32, 48])
def test_google_s_npz_loads_as_timm_loads_it(tmp_path: Path, size: int) -> None:
    file = save_npz(tmp_path / "ViT-B_16.npz", as_google(make(seed=0)))
    mine, theirs = make(img_size=size), make(img_size=size)
    load(mine, file)
    theirs.load_pretrained(str(file))  # type: ignore[operator]
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in mine.state_dict().items())


def test_google_s_npz_of_other_classes(tmp_path: Path) -> None:
    told = refusal(save_npz(tmp_path / "v.npz", as_google(make(seed=0, num_classes=7))))
    assert "head.weight is (7, 24), expected (5, 24)" in told
    assert "The file has 7 classes: give num_classes=7 (+model.kwargs.num_classes=7)." in told


def test_google_s_npz_without_a_head(tmp_path: Path) -> None:
    file = save_npz(tmp_path / "v.npz", as_google(source := make(seed=0), head=False))
    assert "The file has no head: give num_classes=0 (+model.kwargs.num_classes=0)." in refusal(file)
    bare = make(num_classes=0)
    load(bare, file)
    source.reset_classifier(0)  # type: ignore[operator]
    torch.testing.assert_close(logits(bare), logits(source), atol=1e-6, rtol=0)


def test_a_model_without_a_head_takes_none(tmp_path: Path) -> None:
    load(make(num_classes=0), save_npz(tmp_path / "v.npz", as_google(make(seed=0))))


def test_google_s_npz_with_the_layer_before_the_head(tmp_path: Path) -> None:
    held = as_google(make(seed=0)) | {"pre_logits/kernel": np.zeros((24, 24)), "pre_logits/bias": np.zeros(24)}
    file = save_npz(tmp_path / "v.npz", held)
    assert "a layer that timm's models lack (pre_logits)" in refusal(file)
    load(make(num_classes=0), file)


def test_google_s_npz_of_more_blocks(tmp_path: Path) -> None:
    told = refusal(save_npz(tmp_path / "v.npz", as_google(make(seed=0))), make(depth=1))
    assert "12 unknown (blocks.1.attn.proj.bias, blocks.1.attn.proj.weight, blocks.1.attn.qkv.bias, …)" in told
    assert "The file's width and depth are 24 and 2, the model's 24 and 1." in told


def test_google_s_npz_that_lacks_an_array(tmp_path: Path) -> None:
    held = as_google(make(seed=0))
    del held["Transformer/encoderblock_1/LayerNorm_2/bias"]
    assert "1 missing (blocks.1.norm2.bias)" in refusal(save_npz(tmp_path / "v.npz", held))


def test_patches_are_not_resampled(tmp_path: Path) -> None:
    told = refusal(save_npz(tmp_path / "ViT-B_32.npz", as_google(make(seed=0))), make(patch_size=16))
    assert "The file is for patches of 8 pixels: give patch_size=8 (+model.kwargs.patch_size=8)." in told


def test_channels_are_not_summed(tmp_path: Path) -> None:
    told = refusal(save_npz(tmp_path / "v.npz", as_google(make(seed=0))), make(in_chans=1))
    assert "The file is for 3 channels: give in_chans=3 (+model.kwargs.in_chans=3)." in told


class Evil:
    """Would write a file when unpickled by an ordinary unpickler."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def test_an_npz_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    held: dict[str, Any] = {**as_google(make(seed=0)), "cls": np.array([Evil(tmp_path / "was_here")], dtype=object)}
    told = refusal(save_npz(tmp_path / "v.npz", held))
    assert "'cls' holds Python objects, which could run code" in told
    assert not (tmp_path / "was_here").exists()


def test_an_npz_of_text_is_refused(tmp_path: Path) -> None:
    assert "'a' cannot be read" in refusal(save_npz(tmp_path / "v.npz", {"a": np.array(["b"])}))


def test_an_npz_of_an_array_larger_than_any_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 60,)})
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    assert "'a' cannot be read" in refusal(tmp_path / "v.npz")


def test_one_bare_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "v.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "one bare array" in refusal(tmp_path / "v.npz")


@pytest.mark.parametrize("name", ["v.npz", "v.pth", "v.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, name: str, kept: float) -> None:
    file, source = tmp_path / name, make(seed=0)
    {
        ".npz": lambda: save_npz(file, as_google(source)),
        ".pth": lambda: torch.save(source.state_dict(), file),
        ".safetensors": lambda: save_file(source.state_dict(), file),
    }[file.suffix]()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    assert f"Checkpoint '{file}' is " in refusal(file)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    held: dict[str, Any] = {**as_google(make(seed=0))}
    np.savez_compressed(tmp_path / "v.npz", **held)
    content = bytearray((tmp_path / "v.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "v.npz").write_bytes(content)
    assert "is no .npz archive of numbers, or it is damaged" in refusal(tmp_path / "v.npz")


# MAE and training wrappers


def test_mae_s_fine_tuned_file(tmp_path: Path) -> None:
    source = make(seed=0, global_pool="avg")
    names = source.state_dict().keys()
    assert {"fc_norm.weight", "fc_norm.bias"} <= names
    assert "norm.weight" not in names
    torch.save({"model": source.state_dict()}, file := tmp_path / "mae_finetuned_vit_base.pth")
    assert_loads(file, source, global_pool="avg")
    told = refusal(file)
    assert "2 missing (norm.bias, norm.weight); 2 unknown (fc_norm.bias, fc_norm.weight)" in told
    assert "give global_pool='avg' (+model.kwargs.global_pool=avg)." in told


def test_a_token_s_file_in_a_model_that_averages(tmp_path: Path) -> None:
    torch.save(make(seed=0).state_dict(), tmp_path / "v.pth")
    assert "give global_pool='token'" in refusal(tmp_path / "v.pth", make(global_pool="avg"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "backbone."])
def test_a_wrapper_s_prefix_is_taken_off(tmp_path: Path, prefix: str) -> None:
    source = make(seed=0)
    torch.save({prefix + name: tensor for name, tensor in source.state_dict().items()}, tmp_path / "v.pt")
    assert_loads(tmp_path / "v.pt", source)


def test_a_wrapped_file_of_another_depth_is_told_by_the_model_s_names(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in make(seed=0, depth=1).state_dict().items()}
    torch.save(state, tmp_path / "v.pt")
    assert "does not fit the model: 12 missing (blocks.1.attn.proj.bias" in refusal(tmp_path / "v.pt")


def lightning(weights: Weights) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": weights,
        "loops": {},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "best.ckpt"}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "name": "vit"},
    }


def test_lightning_s_checkpoint(tmp_path: Path) -> None:
    source = make(seed=0)
    weights = {f"net.{name}": tensor for name, tensor in source.state_dict().items()}
    weights |= {"criterion.weight": torch.ones(5), "ema.decay": torch.ones(1)}
    weights |= {f"ema.net.{name}": tensor + 1 for name, tensor in source.state_dict().items()}
    torch.save(lightning(weights), tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=r"last\.ckpt' holds more than the model; left out: criterion, ema\."):
        assert_loads(tmp_path / "last.ckpt", source)


def test_several_models_in_one_file_are_refused(tmp_path: Path) -> None:
    state = make(seed=0).state_dict()
    torch.save({f"{who}.{name}": state[name] for who in ("student", "teacher") for name in state}, tmp_path / "v.pt")
    told = refusal(tmp_path / "v.pt")
    assert "holds several such models (student., teacher.): choose one with model.checkpoint_key=teacher" in told


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_and_told(tmp_path: Path, key: str) -> None:
    averaged, plain = make(seed=0), make(seed=1)
    torch.save({"state_dict": plain.state_dict(), key: averaged.state_dict()}, tmp_path / "v.pt")
    with pytest.warns(UserWarning, match=rf"the averaged weights are taken \('{key}'\)"):
        assert_loads(tmp_path / "v.pt", averaged)


# Hugging Face


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_hugging_face_s_vit(tmp_path: Path, kind: str, prefix: str) -> None:
    source = make(seed=0)
    save_file({prefix + name: t for name, t in as_hugging_face(source, kind).items()}, tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors", source)


def test_hugging_face_s_distilled_deit(tmp_path: Path) -> None:
    source = make("deit_base_distilled_patch16_224", seed=0)
    save_file(as_hugging_face(source, "deit"), tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors", source, name="deit_base_distilled_patch16_224")


def test_hugging_face_s_bare_vit(tmp_path: Path) -> None:
    source = make(seed=0, num_classes=0)
    state = as_hugging_face(make(seed=0))
    held = {name.removeprefix("vit."): tensor for name, tensor in state.items() if "classifier" not in name}
    held |= {"pooler.dense.weight": torch.ones(WIDTH, WIDTH), "pooler.dense.bias": torch.ones(WIDTH)}
    save_file(held, tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors", source, num_classes=0)


def test_hugging_face_s_dinov2_with_registers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"name": "vit_base_patch14_reg4_dinov2", "num_classes": 0}
    source = make(seed=0, **options)
    save_file(as_hugging_face_dinov2(source), tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors", source, **options)


def index(folder: Path, shards: dict[str, Weights]) -> Path:
    for file, weights in shards.items():
        save_file(weights, folder / file)
    placed = {name: file for file, weights in shards.items() for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder / "model.safetensors.index.json"


def halves(weights: Weights) -> dict[str, Weights]:
    names = sorted(weights)
    return {
        "model-00001-of-00002.safetensors": {name: weights[name] for name in names[::2]},
        "model-00002-of-00002.safetensors": {name: weights[name] for name in names[1::2]},
    }


def test_shards_and_folders(tmp_path: Path) -> None:
    source = make(seed=0)
    file = index(tmp_path, halves(as_hugging_face(source)))
    assert_loads(file, source)
    assert_loads(tmp_path, source)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "No checkpoint file" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_folder_of_hugging_face(tmp_path: Path, suffix: str) -> None:
    source = make(seed=0)
    (tmp_path / "config.json").write_text("{}")
    if suffix == "bin":
        torch.save(as_hugging_face(source), tmp_path / "pytorch_model.bin")
    else:
        save_file(as_hugging_face(source), tmp_path / "model.safetensors")
    assert_loads(tmp_path, source)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"No checkpoint file in '{tmp_path}': looked for model.safetensors, " in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert "is no index of weights" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../v.safetensors", "/v.safetensors", "model.safetensors.index.json"])
def test_an_index_reaches_no_other_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "which is no file beside it" in refusal(tmp_path)


# timm's own names, sizes and numbers


def test_timm_s_older_and_foreign_names(tmp_path: Path) -> None:
    source = make("deit3_base_patch16_224", seed=0)
    held = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): tensor for name, tensor in source.state_dict().items()}
    assert "blocks.0.gamma_1" in held
    torch.save({"model": held}, tmp_path / "deit_3_base_224_1k.pth")
    assert_loads(tmp_path / "deit_3_base_224_1k.pth", source, name="deit3_base_patch16_224")


@pytest.mark.parametrize("writer", [as_hugging_face, nn.Module.state_dict], ids=["hugging face", "timm"])
@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_position_embeddings_are_resized(
    tmp_path: Path, size: tuple[int, int], writer: Callable[[nn.Module], Weights]
) -> None:
    source, model = make(seed=0), make(img_size=size)
    save_file(writer(source), tmp_path / "v.safetensors")
    load(model, tmp_path / "v.safetensors")
    found, saved = model.state_dict(), source.state_dict()
    expected = resample_abs_pos_embed(saved["pos_embed"], [side // 8 for side in size], [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(found.pop("pos_embed"), expected, atol=1e-6, rtol=0)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in found.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_is_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    source = make(seed=0)
    torch.save({name: tensor.to(dtype) for name, tensor in source.state_dict().items()}, tmp_path / "v.pth")
    model = make()
    load(model, tmp_path / "v.pth")
    assert all(
        torch.equal(tensor, source.state_dict()[name].to(dtype).float()) for name, tensor in model.state_dict().items()
    )


def quantised(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to remove them
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def meta(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def complex_(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex64)


@pytest.mark.parametrize("convert", [quantised, complex_, Tensor.to_sparse, meta])
def test_other_kinds_of_tensors_are_refused(tmp_path: Path, convert: Callable[[Tensor], Tensor]) -> None:
    state = make(seed=0).state_dict()
    state["norm.weight"] = convert(state["norm.weight"])
    torch.save(state, tmp_path / "v.pth")
    assert "'norm.weight' is quantised, complex, sparse or without data" in refusal(tmp_path / "v.pth")


def test_whole_numbers_for_floating_point_are_refused(tmp_path: Path) -> None:
    state = make(seed=0).state_dict()
    save_file(state | {"norm.weight": torch.ones(WIDTH, dtype=torch.int8)}, tmp_path / "v.safetensors")
    assert "1 of another type (norm.weight is torch.int8, expected torch.float32)" in refusal(
        tmp_path / "v.safetensors"
    )


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ("resnet18", " (a convolutional network)"),
        ("swin_tiny_patch4_window7_224", " (a Swin transformer)"),
        ("mixer_s32_224", ""),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path: Path, other: str, kind: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(other).state_dict()
    save_file({name: torch.zeros(tensor.shape[:1]) for name, tensor in state.items()}, tmp_path / "v.safetensors")
    assert f"It looks like a checkpoint of another model{kind}: " in refusal(tmp_path / "v.safetensors")


def test_a_checkpoint_of_another_size(tmp_path: Path) -> None:
    save_file(make(seed=0).state_dict(), tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors", make(embed_dim=48, depth=3))
    assert "It looks like a checkpoint of another model: " in told
    assert "The file's width and depth are 24 and 2, the model's 48 and 3." in told


def test_google_s_npz_in_another_family(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=CLASSES)
    assert "It looks like a checkpoint of another model" in refusal(
        save_npz(tmp_path / "v.npz", as_google(make(seed=0))), model
    )


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("writer", [as_google, as_hugging_face, nn.Module.state_dict])
def test_tensors_of_absurd_shapes(tmp_path: Path, writer: Callable[[nn.Module], Any], shape: tuple[int, ...]) -> None:
    save_npz(tmp_path / "v.npz", {name: np.zeros(shape) for name in writer(make())})
    assert "does not fit the model" in refusal(tmp_path / "v.npz")


def test_openai_s_clip_goes_through_timm_s_filter(tmp_path: Path) -> None:
    source = make("vit_base_patch16_clip_224", seed=0)
    back = {
        "cls_token": "visual.class_embedding",
        "pos_embed": "visual.positional_embedding",
        "patch_embed.proj.weight": "visual.conv1.weight",
    }
    with torch.no_grad():
        source.head.bias.zero_()  # type: ignore[union-attr]
    held = {"logit_scale": torch.ones(1), "text_projection": torch.ones(2, 2)}
    for name, tensor in source.state_dict().items():
        theirs = name.replace("blocks.", "visual.transformer.resblocks.").replace("attn.qkv.", "attn.in_proj_")
        for ours, new in (
            ("norm_pre.", "visual.ln_pre."),
            ("attn.proj.", "attn.out_proj."),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            (".norm1.", ".ln_1."),
            (".norm2.", ".ln_2."),
        ):
            theirs = theirs.replace(ours, new)
        theirs = re.sub(r"^norm\.", "visual.ln_post.", back.get(theirs, theirs))
        if name == "head.weight":
            held["visual.proj"] = tensor.T.contiguous()
        elif name != "head.bias":
            held[theirs] = tensor.reshape(tensor.shape[-2:]) if name == "pos_embed" else tensor.squeeze()
    held["visual.conv1.weight"] = source.state_dict()["patch_embed.proj.weight"]
    save_file(held, tmp_path / "clip.safetensors")
    assert_loads(tmp_path / "clip.safetensors", source, name="vit_base_patch16_clip_224")
