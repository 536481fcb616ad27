"""`neuron-path models`: its table, its page about one model, and its mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from neuron_path.cli import models
from neuron_path.estimate import Estimate, estimate
from neuron_path.models.catalogue import supported_models
from tests.command import call, run_in


def test_a_pipe_gets_tab_separated_rows() -> None:
    code, out, err = call("models", "deit_*_distilled_*")
    assert (code, err) == (0, "")
    found = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in found] == supported_models("deit_*_distilled_*")
    assert found[0][1:] == ["deit", "12", "3072", "cls", "87.3 M"]


def test_a_pattern_without_a_sign_is_a_part_of_the_name() -> None:
    names = [line.split("\t")[0] for line in call("models", "tiny_distilled")[1].splitlines()]
    assert names == ["deit_tiny_distilled_patch16_224"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_a_table_that_fits(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminal(**options: object) -> Console:
        return Console(width=width, force_terminal=True, color_system=None, stderr=bool(options.get("stderr")))

    monkeypatch.setattr(models, "Console", terminal)
    models.show(["vit*gigantic*"])
    out = capsys.readouterr().out
    for words in ("model", "blocks", "FFN width", "scope", "parameters", "\nvision_transformer", "1.84 G"):
        assert words in out
    assert "  vit_gigantic_patch14_clip_quickgelu_224 " in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    assert re.search(r"\n\d+ models\. neuron-path models NAME explains one\.\n", out)


def test_one_model_is_explained() -> None:
    code, out, err = call("models", "vit_tiny_patch16_224")
    assert (code, err) == (0, "")
    for words in (
        "9,216: 768 in each of 12 blocks; input of blocks.N.mlp.fc2 (N = 0 … 11)",
        "cls, since the head reads the class token; also token_scope=patch",
        "197 where the first block begins, 1 of them in scope",
        "5.7 M",
        "3 × 224 × 224",
        "bicubic, crop_mode center, crop_pct 0.9, mean 0.5, std 0.5",
        "weights 23 MB, a pass of 8 sequences",
        "or up to three times that: an estimate from 212 billion operations",
        "neuron-path search model=timm model.name=vit_tiny_patch16_224 model.pretrained=true \\\n",
    ):
        assert words in out


def test_a_model_without_classes_is_told_to_take_a_head() -> None:
    out = call("models", "vit_small_patch14_dinov2")[1]
    assert "none: give it a head" in out
    assert "head=linear_probe head.root=LABELLED_DIR" in out


def test_the_command_that_it_tells_composes(tmp_path: Path) -> None:
    out = call("models", "vit_small_patch14_dinov2")[1]
    command = out.partition("Run it:\n")[2].replace("\\\n", " ").split()
    assert command[:2] == ["neuron-path", "search"]
    outcome = run_in(tmp_path / "run", "search", "--cfg", "job", *command[2:])
    assert (outcome.code, outcome.err) == (0, "")
    assert "pretrained: true" in outcome.out


MISTAKES = {
    "unsupported": ("swin_tiny_patch4_window7_224", "tokens are merged between stages"),
    "unsupported, many": ("resnet*", "models that match 'resnet*' is supported. Models of timm's family 'resnet'"),
    "slip": ("vit_bse_patch16_224", "Did you mean 'vit_base_patch16_224'?"),
    "nothing like it": ("zzz", "No supported model matches 'zzz'."),
    "no such tag": ("vit_base_patch16_224.nope", "Invalid pretrained tag"),
    "an option": ("--all", "takes one pattern or name, not '--all'"),
    "two": ("vit deit", "takes one pattern or name, not 'vit deit'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str) -> None:
    arguments, words = MISTAKES[mistake]
    code, out, err = call("models", *arguments.split())
    assert (code, out) == (1, "")
    assert err.startswith("neuron-path: error: ")
    assert err.count("\n") == 1
    assert words in err


def test_help_shows_examples() -> None:
    code, out, err = call("models", "--help")
    assert (code, err) == (0, "")
    assert "usage: neuron-path models [PATTERN | NAME]" in out
    assert "  models     list the supported models" in call("--help")[1]


@pytest.mark.parametrize(
    "name", ["cait_xxs24_224", "xcit_nano_12_p16_224", "tnt_s_legacy_patch16_224", "hiera_tiny_224", "convit_tiny"]
)
def test_an_estimate_of_an_uncommon_model(name: str) -> None:
    assert 0.1 < estimate(name, 0.05).seconds < 1000


def test_an_estimate_grows_with_depth_and_adds_up() -> None:
    small, large = estimate("vit_tiny_patch16_224", 0.05), estimate("vit_small_patch16_224", 0.05)
    assert isinstance(small, Estimate)
    assert small.weights == pytest.approx(5.7e6 * 4, rel=0.01)
    # Multiplications and additions of T = 197 tokens of width D = 192: 24 T D² in layers, 4 T² D in attention. The last
    # block is run at the class token only, where keys and values of all tokens remain: 4 T D².
    whole, last = 24 * 197 * 192**2 + 4 * 197**2 * 192, 4 * 197 * 192**2
    assert small.flops == pytest.approx(8 * (whole * (33 + 1.7 * 55) + last * (3 + 1.7 * 11)), rel=0.01)
    assert large.flops == pytest.approx(4 * small.flops, rel=0.2)
    assert small.seconds > 0.9 * small.flops / small.throughput
    assert large.activations / large.micro_batch > small.activations / small.micro_batch
