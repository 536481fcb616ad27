"""Where training scripts put the weights, and what they save beside them: read, passed over or refused, never run."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_saver import save as save_in_shards

from neuron_path.models.heads import attach_head, load_head
from tests.models.checkpoints import WIDTH, Weights, assert_loads, load, logits, make, refusal


@dataclasses.dataclass
class Settings:
    """A user's own, which another program cannot import."""

    lr: float = 0.1


class Evil:
    """Would write a file when unpickled by an ordinary unpickler."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.made_by = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.made_by


BESIDE = {
    "argparse.Namespace": argparse.Namespace(lr=0.1, output=Path("runs"), accuracy=np.float64(0.9)),
    "numpy scalar": np.float32(0.9),
    "numpy array": np.ones(3),
    "pathlib.Path": Path("runs/1"),
    "OmegaConf": OmegaConf.create({"model": {"name": "vit"}, "lr": "${model.name}", "steps": [1, 2]}),
    "Lightning's hyper-parameters": AttributeDict(lr=0.1, root=Path("runs")),
    "dataclass": Settings(),
    "partial": functools.partial(nn.LayerNorm, eps=1e-6),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "function": nn.functional.relu,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before 1.6"])
@pytest.mark.parametrize("kind", BESIDE)
def test_objects_beside_the_weights_are_passed_over(tmp_path: Path, kind: str, zipped: bool) -> None:
    if kind == "partial" and not zipped:
        pytest.skip("the old format keeps the source of classes, which is not read")
    source = make(seed=0)
    held = {"model": source.state_dict(), "args": BESIDE[kind], "epoch": 3}
    torch.save(held, tmp_path / "v.pth", _use_new_zipfile_serialization=zipped)
    assert_loads(tmp_path / "v.pth", source)


CALLS: dict[str, Callable[[Path], Evil]] = {
    "a method": lambda target: Evil(Path.touch, target),
    "eval": lambda target: Evil(eval, f"open({str(target)!r}, 'w')"),
    "os.system": lambda target: Evil(__import__("os").system, f"touch {target}"),
    "subprocess": lambda target: Evil(__import__("subprocess").call, ["touch", str(target)]),
    "import": lambda target: Evil(__import__("importlib").import_module, "antigravity"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before 1.6"])
@pytest.mark.parametrize("kind", CALLS)
def test_a_file_that_asks_to_run_something_is_refused(tmp_path: Path, kind: str, zipped: bool) -> None:
    held = {"model": make(seed=0).state_dict(), "args": argparse.Namespace(x=CALLS[kind](tmp_path / "was_here"))}
    torch.save(held, tmp_path / "v.pth", _use_new_zipfile_serialization=zipped)
    assert "and other Python objects could run code" in refusal(tmp_path / "v.pth")
    assert not (tmp_path / "was_here").exists()


ran: list[str] = []


def a_function_of_the_user() -> None:
    """As a file may name any function of any installed package."""
    ran.append("it ran")


class Hooked:
    """Its pickled state is handed to a method of its own."""

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        ran.append("it ran")


@pytest.mark.parametrize("beside", [Evil(a_function_of_the_user), Hooked()], ids=["a function", "a state"])
def test_no_function_or_class_that_a_file_names_is_called(tmp_path: Path, beside: object) -> None:
    source = make(seed=0)
    torch.save({"model": source.state_dict(), "extra": beside}, tmp_path / "v.pth")
    assert_loads(tmp_path / "v.pth", source)
    assert ran == []


def test_a_whole_pickled_model_gives_its_weights(tmp_path: Path) -> None:
    source = make(seed=0)
    torch.save(source, tmp_path / "v.pth")
    assert_loads(tmp_path / "v.pth", source)
    torch.save({"model": source, "epoch": 3}, tmp_path / "v.pth")
    assert_loads(tmp_path / "v.pth", source)


KEYS = ["model_state_dict", "net", "network", "weights", "params", "model", "state_dict", "module", "my_vit"]


@pytest.mark.parametrize("key", KEYS)
def test_the_weights_are_found_under_any_key(tmp_path: Path, key: str) -> None:
    source = make(seed=0)
    optimizer = torch.optim.AdamW(source.parameters())
    held = {"epoch": 3, "optimizer_state_dict": optimizer.state_dict(), "scaler": {"scale": torch.ones(1)}}
    torch.save({**held, key: source.state_dict()}, tmp_path / "v.pt")
    assert_loads(tmp_path / "v.pt", source)


@pytest.mark.parametrize("key", ["ema", "ema_state_dict", "params_ema"])
def test_averaged_weights_of_other_names(tmp_path: Path, key: str) -> None:
    averaged, plain = make(seed=0), make(seed=1)
    torch.save({"model": plain.state_dict(), key: averaged.state_dict()}, tmp_path / "v.pt")
    told = rf"the averaged weights are taken \('{key}'\); model\.checkpoint_key=model takes the others"
    with pytest.warns(UserWarning, match=told):
        assert_loads(tmp_path / "v.pt", averaged)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_loads(tmp_path / "v.pt", plain, key="model")


def dino(student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """As DINO's `main_dino.py` saves a checkpoint."""

    def wrapped(model: nn.Module, before: str) -> Weights:
        body = {f"{before}backbone.{name}": tensor for name, tensor in model.state_dict().items()}
        head = {f"{before}head.mlp.0.weight": torch.ones(4, WIDTH), f"{before}head.last_layer.weight_g": torch.ones(9)}
        return body | head

    return {
        "student": wrapped(student, "module."),
        "teacher": wrapped(teacher, ""),
        "optimizer": torch.optim.AdamW(student.parameters()).state_dict(),
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.zeros(1, 64)},
    }


def test_dino_s_student_and_teacher(tmp_path: Path) -> None:
    student, teacher = make(seed=0, num_classes=0), make(seed=1, num_classes=0)
    torch.save(dino(student, teacher), tmp_path / "checkpoint.pth")
    told = refusal(tmp_path / "checkpoint.pth")
    assert "holds several models (student, teacher): choose one with model.checkpoint_key=teacher" in told
    for key, source in (("student", student), ("teacher", teacher)):
        with pytest.warns(UserWarning, match=r"left out: (module|head)\."):
            assert_loads(tmp_path / "checkpoint.pth", source, key=key, num_classes=0)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    torch.save({"model": make(seed=0).state_dict(), "epoch": 3}, tmp_path / "v.pth")
    told = refusal(tmp_path / "v.pth", key="teacher")
    assert "has no weights under 'teacher' (checkpoint_key): it holds the keys epoch, model." in told


def test_a_key_in_the_names_or_in_depth(tmp_path: Path) -> None:
    one, two = make(seed=0), make(seed=1)
    flat = {
        f"{who}.{name}": t for who, of in (("student", one), ("teacher", two)) for name, t in of.state_dict().items()
    }
    torch.save({"state_dict": flat}, tmp_path / "v.pt")
    assert_loads(tmp_path / "v.pt", one, key="student")
    torch.save({"models": {"a": one.state_dict(), "b": two.state_dict()}}, tmp_path / "v.pt")
    assert_loads(tmp_path / "v.pt", two, key="models.b")


@pytest.mark.parametrize("beside", [torch.tensor(3), 3, "text", None, argparse.Namespace(a=1)])
def test_what_lies_among_the_weights(tmp_path: Path, beside: Any) -> None:
    source = make(seed=0)
    torch.save({**source.state_dict(), "epoch": beside}, tmp_path / "v.pth")
    if isinstance(beside, Tensor):
        with pytest.warns(UserWarning, match=r"left out: epoch\."):
            assert_loads(tmp_path / "v.pth", source)
    else:
        assert_loads(tmp_path / "v.pth", source)


def test_mae_s_pretrained_file(tmp_path: Path) -> None:
    source = make(seed=0, num_classes=0)
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_embed.weight": torch.ones(8, WIDTH)}
    held = {"model": {**source.state_dict(), **decoder}, "args": argparse.Namespace(model="mae_vit_base_patch16")}
    torch.save(held, tmp_path / "mae.pth")
    with pytest.warns(UserWarning, match=r"left out: decoder_embed\."):
        assert_loads(tmp_path / "mae.pth", source, num_classes=0)
    assert "The file has no head: give num_classes=0" in refusal(tmp_path / "mae.pth")


WRAPPED = {
    "torch.compile of a block": lambda name: name.replace("blocks.1.", "blocks.1._orig_mod."),
    "FSDP": lambda name: "_fsdp_wrapped_module." + name.replace(".attn.", "._fsdp_wrapped_module.attn."),
    "checkpointing": lambda name: name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."),
    "all": lambda name: "module._orig_mod._fsdp_wrapped_module." + name,
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_in_the_midst_of_names(tmp_path: Path, kind: str) -> None:
    source = make(seed=0)
    save_file({WRAPPED[kind](name): tensor for name, tensor in source.state_dict().items()}, tmp_path / "v.safetensors")
    assert_loads(tmp_path / "v.safetensors", source)


def test_lora_beside_the_weights_says_how_to_merge(tmp_path: Path) -> None:
    held = dict(make(seed=0).state_dict())
    held["blocks.0.attn.qkv.lora_A.default.weight"] = torch.ones(2, WIDTH)
    save_file(held, tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "holds the parts of LoRA apart (blocks.0.attn.qkv.lora_A.default.weight)" in told
    assert "merge them where you trained, model = peft_model.merge_and_unload()" in told


@pytest.mark.parametrize("file", ["", "__0_0.distcp"])
def test_shards_of_a_distributed_checkpoint_say_how_to_join_them(tmp_path: Path, file: str) -> None:
    source = make(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one process alone
        save_in_shards(source.state_dict(), checkpoint_id=tmp_path / "step")
    told = refusal(tmp_path / "step" / file)
    assert "is in shards of torch.distributed.checkpoint (.distcp), as FSDP saves it" in told
    advice = re.search(r"python -c \"(.*)\", and give that", told)
    assert advice is not None
    exec(advice[1].replace("'model.pt'", f"'{tmp_path / 'model.pt'}'"))  # what it says, word for word
    assert_loads(tmp_path / "model.pt", source)


def test_a_trainer_s_folder_names_the_one_inside(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-500").mkdir()
    save_file(make(seed=0).state_dict(), tmp_path / "checkpoint-500" / "model.safetensors")
    assert "There is one in checkpoint-500, a folder inside." in refusal(tmp_path)


def test_the_chunks_of_dinov2_s_training(tmp_path: Path) -> None:
    source = make(seed=0, num_classes=0)
    named = {re.sub(r"^blocks\.", "blocks.0.", name): value for name, value in source.state_dict().items()}
    held = {"teacher": {f"backbone.{name}": value for name, value in named.items()}}
    held["teacher"]["dino_head.mlp.0.weight"] = torch.ones(3, WIDTH)
    torch.save(held, tmp_path / "teacher_checkpoint.pth")
    with pytest.warns(UserWarning, match=r"left out: dino_head\."):
        assert_loads(tmp_path / "teacher_checkpoint.pth", source, num_classes=0)


def test_weights_of_numpy(tmp_path: Path) -> None:
    torch.save({name: value.numpy() for name, value in make(seed=0).state_dict().items()}, tmp_path / "v.pt")
    assert re.search(r"…, of numpy\.\S+ and not of tensors\.$", refusal(tmp_path / "v.pt"))


@pytest.mark.parametrize(("name", "program"), [("v.onnx", "ONNX"), ("flax_model.msgpack", "Flax"), ("v.h5", "Keras")])
def test_files_of_other_programs(tmp_path: Path, name: str, program: str) -> None:
    (tmp_path / name).write_bytes(b"\x08\x07")
    assert f"is a file of {program}, which is not read: save the weights in PyTorch" in refusal(tmp_path / name)


def test_an_archive_of_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v.pt", "w") as archive:  # as torch.jit.save, which is deprecated, writes it
        archive.writestr("v/data.pkl", b"\x80\x02c__torch__.timm.models.vision_transformer\nVisionTransformer\nq\x00.")
        archive.writestr("v/constants.pkl", b"\x80\x02).")
        archive.writestr("v/version", b"3\n")
    told = refusal(tmp_path / "v.pt")
    assert told.endswith(f"It is a TorchScript archive: save torch.jit.load('{tmp_path / 'v.pt'}').state_dict().")


def test_a_folder_whose_file_has_another_name_tells_it(tmp_path: Path) -> None:
    save_file(make(seed=0).state_dict(), tmp_path / "open_clip_model.safetensors")
    assert refusal(tmp_path).endswith("Give the file itself, one of open_clip_model.safetensors.")


def test_quantised_weights_are_to_be_dequantised(tmp_path: Path) -> None:
    save_file({name: value.to(torch.int8) for name, value in make().state_dict().items()}, tmp_path / "v.safetensors")
    assert "its weights are quantised: dequantise them where that was done" in refusal(tmp_path / "v.safetensors")


# Heads


@pytest.mark.parametrize(
    "head",
    [
        {"head.0.weight": torch.ones(WIDTH), "head.1.weight": torch.ones(5, WIDTH)},
        {"head.0.running_mean": torch.ones(WIDTH), "head.1.weight": torch.ones(5, WIDTH)},
        {"mlp_head.0.weight": torch.ones(WIDTH), "mlp_head.1.weight": torch.ones(5, WIDTH)},
        {"head_a.weight": torch.ones(5, WIDTH), "head_b.weight": torch.ones(7, WIDTH)},
    ],
    ids=lambda head: next(iter(head)),
)
def test_heads_of_other_kinds_are_told_and_left_out_of_features(tmp_path: Path, head: Weights) -> None:
    source = make(seed=0, num_classes=0)
    save_file(source.state_dict() | head, tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "The file's head is no linear layer under a usual name" in told
    assert f"({', '.join(sorted(head))}): give num_classes=0 (+model.kwargs.num_classes=0)" in told
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is left out
        assert_loads(tmp_path / "v.safetensors", source, num_classes=0)


def test_a_linear_head_under_an_unusual_name_is_taken_by_its_key(tmp_path: Path) -> None:
    source = make(seed=0)
    save_file(parted(source, "", "mlp_head."), tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "If 'mlp_head' is the classifier, give num_classes=0 (+model.kwargs.num_classes=0) and head=file" in told
    assert f"head.path={tmp_path / 'v.safetensors'} head.key=mlp_head." in told
    model = make(num_classes=0)
    with pytest.warns(UserWarning, match=r"left out: mlp_head\."):
        load(model, tmp_path / "v.safetensors")
    attach_head(model, load_head(tmp_path / "v.safetensors", key="mlp_head"))
    torch.testing.assert_close(logits(model), logits(source), atol=1e-6, rtol=0)


def parted(model: nn.Module, body: str, head: str) -> Weights:
    return {
        head + name.removeprefix("head.") if name.startswith("head.") else body + name: tensor
        for name, tensor in model.state_dict().items()
    }


HEADS = ["model.classifier.", "fc.", "model.classifier.1.", "classifier.", "linear.", "model.head.fc."]


@pytest.mark.parametrize("body", ["model.backbone.", ""])
@pytest.mark.parametrize("head", HEADS)
def test_a_linear_head_beside_the_backbone_is_found(tmp_path: Path, body: str, head: str) -> None:
    source = make(seed=0)
    save_file(parted(source, body, head), tmp_path / "v.safetensors")
    with pytest.warns(UserWarning, match=rf"the classifier is taken from '{head[:-1]}'"):
        assert_loads(tmp_path / "v.safetensors", source)


def test_a_head_of_other_classes_beside_the_backbone(tmp_path: Path) -> None:
    save_file(parted(make(seed=0, num_classes=7), "net.", "fc."), tmp_path / "v.safetensors")
    assert "The file has 7 classes: give num_classes=7" in refusal(tmp_path / "v.safetensors")


def test_two_heads_beside_the_backbone_are_named(tmp_path: Path) -> None:
    held = parted(source := make(seed=0), "model.backbone.", "model.classifier.")
    held["model.aux.fc.weight"] = torch.ones(3, WIDTH)
    save_file(held, tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "there is model.aux.fc, model.classifier: give num_classes=0 (+model.kwargs.num_classes=0) and " in told
    assert f"head=file head.path={tmp_path / 'v.safetensors'} head.key=model.aux.fc." in told
    assert load_head(tmp_path / "v.safetensors", key="model.classifier").weight.shape == (5, WIDTH)
    source.reset_classifier(0)  # type: ignore[operator]
    with pytest.warns(UserWarning, match=r"left out: model\."):
        assert_loads(tmp_path / "v.safetensors", source, num_classes=0)


@pytest.mark.parametrize("body", ["model.backbone.", ""])
def test_an_mlp_head_is_told(tmp_path: Path, body: str) -> None:
    held = parted(source := make(seed=0, num_classes=0), body, "")
    held |= {"head.0.weight": torch.ones(9, WIDTH), "head.3.weight": torch.ones(5, 9), "head.3.bias": torch.ones(5)}
    save_file(held, tmp_path / "v.safetensors")
    told = refusal(tmp_path / "v.safetensors")
    assert "The file's head is an MLP (head.0.weight, head.3.weight), and its activation is in no file" in told
    model = make(num_classes=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is left out
        load(model, tmp_path / "v.safetensors")
    torch.testing.assert_close(logits(model), logits(source), atol=1e-6, rtol=0)


def test_a_model_without_a_head_leaves_out_any(tmp_path: Path) -> None:
    source = make(seed=0)
    save_file(parted(source, "", "fc."), tmp_path / "v.safetensors")
    source.reset_classifier(0)  # type: ignore[operator]
    with pytest.warns(UserWarning, match=r"left out: fc\."):
        assert_loads(tmp_path / "v.safetensors", source, num_classes=0)
