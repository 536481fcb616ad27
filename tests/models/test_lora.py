"""Adapters of PEFT: put into the weights of the model that they were trained on, or one line that says how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from neuron_path.models.classes import class_names
from neuron_path.models.loading import load_model
from tests.models.checkpoints import CLASSES, WIDTH, Weights, logits
from tests.models.test_descriptions import NAMES, hugging_face, refusal, vit

QUERY = "vit.encoder.layer.0.attention.attention.query"
FC1 = "vit.encoder.layer.1.intermediate.dense"
# As a model of transformers 5 calls these layers in memory, and so does an adapter of it.
IN_MEMORY = {QUERY: "vit.layers.0.attention.q_proj", FC1: "vit.layers.1.mlp.fc1"}


def adapter(folder: Path, base: Path | None, parts: Weights, **options: Any) -> Path:
    """A folder as PEFT's `save_pretrained` leaves it."""
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": value for name, value in parts.items()}, folder / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": None if base is None else str(base), "lora_alpha": 6}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 2, "use_dora": False} | options))
    return folder


def low_rank(rows: int, rank: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, WIDTH, generator=generator), torch.randn(rows, rank, generator=generator)


@pytest.mark.parametrize("named", [{QUERY: QUERY, FC1: FC1}, IN_MEMORY], ids=["in files", "in memory"])
@pytest.mark.parametrize("file", ["", "adapter_model.safetensors"])
def test_an_adapter_is_put_into_its_base(tmp_path: Path, named: dict[str, str], file: str) -> None:
    source = vit()
    base = hugging_face(tmp_path / "base", source)
    (a, b), (c, d) = low_rank(WIDTH, 2), low_rank(4 * WIDTH, 3, seed=1)
    head = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(2))
    shift = torch.linspace(-1, 1, 4 * WIDTH)
    parts = {
        f"{named[QUERY]}.lora_A.weight": a,
        f"{named[QUERY]}.lora_B.weight": b,
        f"{named[FC1]}.lora_A.weight": c,
        f"{named[FC1]}.lora_B.weight": d,
        f"{named[FC1]}.base_layer.bias": shift,  # trained by bias="lora_only"
        "classifier.weight": head,  # trained whole by modules_to_save
    }
    folder = adapter(tmp_path / "adapter", base, parts, rank_pattern={"fc1": 3})
    model = load_model(checkpoint=folder / file)
    with torch.no_grad():
        source.blocks[0].attn.qkv.weight[:WIDTH] += 6 / 2 * b @ a
        source.blocks[1].mlp.fc1.weight += 6 / 3 * d @ c
        source.blocks[1].mlp.fc1.bias.copy_(shift)
        source.head.weight.copy_(head)
    torch.testing.assert_close(logits(model), logits(source), atol=1e-5, rtol=1e-5)
    assert class_names(model) == NAMES


def test_a_rank_stabilised_adapter_counts_by_the_root_of_its_rank(tmp_path: Path) -> None:
    source = vit()
    base = hugging_face(tmp_path / "base", source)
    a, b = low_rank(WIDTH, 4)
    parts = {f"{QUERY}.lora_A.weight": a, f"{QUERY}.lora_B.weight": b}
    model = load_model(checkpoint=adapter(tmp_path / "adapter", base, parts, use_rslora=True))
    with torch.no_grad():
        source.blocks[0].attn.qkv.weight[:WIDTH] += 6 / 2 * b @ a
    torch.testing.assert_close(logits(model), logits(source), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"base_model_name_or_path": "google/vit-base"},
            "its base_model_name_or_path is 'google/vit-base', which is no",
        ),
        ({"base_model_name_or_path": None}, "its base_model_name_or_path is 'None', which is no folder here"),
        ({"peft_type": "IA3"}, "its peft_type is 'IA3', and only LORA is known"),
        ({"use_dora": True}, "use_dora is not known"),
        ({"alpha_pattern": {"query": 3}}, "alpha_pattern is not known"),
        ({"lora_alpha": "x"}, "its adapter_config.json cannot be read"),
    ],
)
def test_what_is_not_put_into_a_base_says_how_to_merge_it(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    base = hugging_face(tmp_path / "base", vit())
    a, b = low_rank(WIDTH, 2)
    parts = {f"{QUERY}.lora_A.weight": a, f"{QUERY}.lora_B.weight": b}
    told = refusal(checkpoint=adapter(tmp_path / "adapter", base, parts, **options))
    assert f"is an adapter that cannot be put into its base: {why}" in told
    assert "merge it where you trained, peft_model.merge_and_unload().save_pretrained('merged'), and give" in told


@pytest.mark.parametrize(
    "parts",
    [
        {"vit.encoder.layer.7.attention.attention.query.lora_A.weight": torch.ones(2, WIDTH)},
        {f"{QUERY}.lora_A.weight": torch.ones(2, WIDTH)},
        {f"{QUERY}.lora_A.weight": torch.ones(2, WIDTH), f"{QUERY}.lora_B.weight": torch.ones(WIDTH, 3)},
        {f"{QUERY}.lora_A.weight": torch.ones(0, WIDTH), f"{QUERY}.lora_B.weight": torch.ones(WIDTH, 0)},
    ],
)
def test_an_adapter_of_another_base(tmp_path: Path, parts: Weights) -> None:
    base = hugging_face(tmp_path / "base", vit())
    assert "does not fit its base; merge it" in refusal(checkpoint=adapter(tmp_path / "adapter", base, parts))


def test_an_adapter_of_itself(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", tmp_path / "a", {f"{QUERY}.lora_A.weight": torch.ones(2, WIDTH)})
    assert f"its base '{folder}' is an adapter too; merge it" in refusal(checkpoint=folder)


def test_an_adapter_without_parts(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", hugging_face(tmp_path / "base", vit()), {"x": torch.ones(2)})
    assert "it holds no ….lora_A.weight" in refusal(checkpoint=folder)
