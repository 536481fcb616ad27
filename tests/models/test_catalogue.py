"""Which models are supported, what each is said to be like, and that the page about them is up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import families
from neuron_path.models.catalogue import MARKERS, blueprint, describe, family_table, outline, rewrite, supported_models

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def rows(table: str) -> dict[str, list[str]]:
    """The cells of each family's row."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_list_holds_the_well_known_and_none_that_merges_its_tokens() -> None:
    names = neuron_path.supported_models()
    known = {
        "vit_base_patch16_224",
        "vit_large_patch14_dinov2",
        "vit_base_patch16_clip_224",
        "vit_base_patch16_siglip_224",
        "vit_base_r50_s16_224",
        "deit3_base_patch16_224",
        "deit_base_distilled_patch16_224",
        "vitamin_base_224",
    }
    assert known <= set(names)
    assert len(names) == len(set(names))
    assert not any(re.match("swin|resnet|mixer|convnext|pvt|maxvit", name) for name in names)
    assert not any("." in name or name.endswith("_enc") for name in names)


def test_a_glob_must_match_the_whole_name() -> None:
    assert supported_models("deit_base_distilled*") == [
        "deit_base_distilled_patch16_224",
        "deit_base_distilled_patch16_384",
    ]
    assert supported_models("distilled") == supported_models("resnet*") == []


def test_what_a_card_says() -> None:
    card = describe("vit_base_patch16_224")
    assert (card.n_blocks, set(card.widths), card.n_neurons) == (12, {3072}, 36864)
    assert (card.n_tokens, card.n_in_scope, card.n_parameters) == (197, 1, 86567656)
    assert (card.family, card.scope, card.scopes) == ("vision_transformer", "cls", ("cls", "patch"))
    assert card.reads == "the class token"
    assert card.neurons == "input of blocks.N.mlp.fc2 (N = 0 … 11)"
    assert (card.image_size, card.n_classes, card.has_weights) == ((3, 224, 224), 1000, True)
    assert card.preprocessing["mean"] == [0.5, 0.5, 0.5]


def test_a_tag_says_how_pictures_are_prepared() -> None:
    plain, tagged = describe("vit_base_patch16_clip_224"), describe("vit_base_patch16_clip_224.openai_ft_in1k")
    assert (plain.preprocessing["crop_pct"], tagged.preprocessing["crop_pct"]) == (0.95, 0.9)
    assert plain.widths == tagged.widths


def test_a_model_without_classes_is_told_from_one_with() -> None:
    card = describe("vit_small_patch14_dinov2")
    assert card.n_classes == 0
    assert card.n_parameters == sum(p.numel() for p in timm.create_model("vit_small_patch14_dinov2").parameters())


@pytest.mark.parametrize(
    ("name", "neurons", "reads"),
    [
        ("vitamin_small_224", "input of blocks.N.mlp.w2 (N = 0 … 13)", "the mean of the patch tokens"),
        ("deit_tiny_distilled_patch16_224", None, "the class token and the distillation token"),
        ("vit_small_patch16_18x2_224", "input of blocks.N.ffns.0.mlp.fc2 (N = 0 … 17), input of b", "the class token"),
        ("vit_dpwee_patch16_reg1_gap_256", "part of the input of blocks.N.out_proj (N = 0 … 15)", None),
        ("test_vit3", None, "tokens pooled by attention"),
    ],
)
def test_where_neurons_are_and_what_heads_read(name: str, neurons: str | None, reads: str | None) -> None:
    card = describe(name)
    assert card.neurons.startswith(neurons or "input of ")
    assert reads in (None, card.reads)


@pytest.mark.filterwarnings("ignore:The weights of")
def test_a_card_is_the_model_itself() -> None:
    card, model = describe("test_vit"), neuron_path.load_model("test_vit", num_classes=1000)
    second = [part for name, part in model.named_modules() if re.fullmatch(r"blocks\.\d+\.mlp\.fc2", name)]
    assert [part.in_features for part in second if isinstance(part, nn.Linear)] == list(card.widths)
    assert sum(p.numel() for p in model.parameters()) == card.n_parameters


def test_the_embedded_model_has_a_card() -> None:
    card = describe("digits_vit")
    assert (card.n_blocks, card.n_tokens, card.image_size, card.n_classes) == (12, 17, (1, 8, 8), 10)


def test_blueprints_take_no_memory_and_leave_nothing_switched() -> None:
    model = blueprint("vit_giant_patch14_dinov2")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    made = nn.Linear(2, 2)
    assert made.weight.device.type == "cpu"
    assert made.weight.abs().max() > 0
    assert torch.zeros(2).fill_(1).sum() == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_base_patch16_22", "No model is named 'vit_base_patch16_22'. Did you mean 'vit_base_patch16_224'?"),
        ("swin_tiny_patch4_window7_224", "its tokens are merged between stages"),
        ("resnet18", "convolutional"),
        ("vit_base_patch16_224.nope", "Invalid pretrained tag (nope)"),
    ],
)
def test_what_has_no_card_is_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(NeuronPathError) as caught:
        describe(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_page_is_up_to_date() -> None:
    """In all but the counts by family, which need every model to be made: see the slow test."""
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition(MARKERS[0])[2].partition(MARKERS[1])[0]
    found = rows(table)
    assert all(int(count) > 0 for count, *_ in found.values())
    if f"timm {timm.__version__}: {len(supported_models())} models." not in table:
        assert f"timm {timm.__version__}:" not in table, "run python -m neuron_path.models.catalogue docs/models.md"
        pytest.skip("the page was made with another timm")
    assert sum(int(count) for count, *_ in found.values()) == len(supported_models())
    assert list(found) == families.names()
    fresh = rows(family_table(example.strip("`") for *_, example in found.values()))
    for family, (_, scopes, *rest) in found.items():
        assert fresh[family][1] in scopes.split(" or ")
        assert fresh[family][2:] == rest


def test_only_what_is_between_the_markers_is_written() -> None:
    page = f"above\n{MARKERS[0]}\nold\n{MARKERS[1]}\nbelow\n"
    assert rewrite(page, "new") == f"above\n{MARKERS[0]}\n\nnew\n\n{MARKERS[1]}\nbelow\n"


@pytest.mark.slow
def test_every_model_in_the_list_is_supported_and_the_page_counts_them() -> None:
    table = family_table(supported_models())
    if timm.__version__ in PAGE.read_text(encoding="utf-8"):
        assert table in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_supported_model_is_missing_from_the_list() -> None:
    listed = set(supported_models())
    for name in timm.list_models():
        if name not in listed:
            with pytest.raises(NeuronPathError):
                outline(name)
