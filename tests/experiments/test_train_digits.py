"""The digits recipe runs and repeats itself; the shipped weights are as good as their card says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.stats import binomtest
from timm.models import VisionTransformer

from experiments.train_digits import BACKGROUND, TrainDigits, jitter, train
from neuron_path.data.digits import load_digits, preprocessing

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "neuron_path/models/weights/digits_vit.safetensors"
CARD = WEIGHTS.with_suffix(".md")
QUICK = ["epochs=1", "batches_per_epoch=3"]


def configure(*overrides: str) -> TrainDigits:
    with initialize_config_dir(str(ROOT / "experiments"), version_base="1.3"):
        settings = OmegaConf.to_object(compose("train_digits", list(overrides)))
    assert isinstance(settings, TrainDigits)
    return settings


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as weights:
        return weights.metadata()


def rebuild(path: Path) -> VisionTransformer:
    model = VisionTransformer(**json.loads(metadata(path)["architecture"]))
    model.load_state_dict(load_file(path))
    return model.eval()


def hits(model: VisionTransformer, split: str) -> int:
    images, labels = load_digits(split)
    with torch.inference_mode():
        return int((model(images).argmax(1) == labels).sum())


@pytest.fixture
def _process_state() -> Iterator[None]:
    """Put back what a run sets for the whole process: threads, determinism, the random states."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch, isolate_rng():
        patch.setenv("PL_GLOBAL_SEED", "0")  # Lightning writes it; on leaving it is as before
        yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


# Lightning 2.6 asks torch's pytree in a way that torch 2.14 calls deprecated; it is theirs to change.
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.:FutureWarning")
@pytest.mark.usefixtures("_process_state")
def test_recipe_writes_described_weights_and_repeats_itself(tmp_path):
    one, again, other = (tmp_path / name for name in ("one.safetensors", "again.safetensors", "other.safetensors"))
    measures = train(configure(*QUICK, f"out={one}"))
    train(configure(*QUICK, f"out={again}"))
    train(configure(*QUICK, f"out={other}", "seed=1", "report_test=false"))
    assert one.read_bytes() == again.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (one, again, other))

    said = metadata(one)
    assert set(said) == {"architecture", "preprocessing", "recipe", "val_accuracy", "test_accuracy"}
    assert json.loads(said["preprocessing"]) == preprocessing("train")
    assert json.loads(said["recipe"])["epochs"] == 1
    for split in ("val", "test"):
        assert float(said[f"{split}_accuracy"]) == measures[f"{split}_accuracy"] == hits(rebuild(one), split) / 360

    assert "test_accuracy" not in metadata(other)
    assert not torch.equal(load_file(one)["head.weight"], load_file(other)["head.weight"])


def test_typo_in_the_settings_fails():
    with pytest.raises(ConfigCompositionException, match="epoch"):
        configure("epoch=1")


def test_jitter_leaves_the_unchosen_alone_and_keeps_the_border_blank():
    images, _ = load_digits("val")
    assert torch.equal(jitter(images, configure("augmented=0")), images)
    still = configure("augmented=1", "rotation=0", "scale=0", "shift=0")
    torch.testing.assert_close(jitter(images, still), images, atol=1e-5, rtol=0)
    blank = torch.full((4, 1, 8, 8), BACKGROUND)
    assert torch.equal(jitter(blank, configure("augmented=1", "shift=8")), blank)


def test_shipped_weights_reach_what_the_card_and_the_metadata_state():
    said, card, found = metadata(WEIGHTS), CARD.read_text(encoding="utf-8"), hits(rebuild(WEIGHTS), "test")
    interval = binomtest(found, 360).proportion_ci(0.95, method="wilson")
    assert found / 360 >= 0.97
    assert float(said["test_accuracy"]) == found / 360
    assert float(said["val_accuracy"]) == hits(rebuild(WEIGHTS), "val") / 360
    row = rf"test \| {found} / 360 \| {found / 3.6:.2f} % \| {interval.low:.2%}–{interval.high:.2%}".replace("%", " ?%")
    assert re.search(row, card)
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in card


def test_shipped_weights_are_small_float32_and_of_this_recipe():
    assert WEIGHTS.stat().st_size < 2e6
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float32}
    recipe = json.loads(metadata(WEIGHTS)["recipe"])
    now = configure()
    assert {name: getattr(now, name) for name in recipe if name != "betas"} == {
        name: value for name, value in recipe.items() if name != "betas"
    }
    assert list(now.betas) == recipe["betas"]
