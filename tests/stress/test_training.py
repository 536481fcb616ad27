"""The recipe of the embedded model makes it again."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_recipe_makes_the_shipped_model_again(tmp_path: Path) -> None:
    made = tmp_path / "digits_vit.safetensors"
    subprocess.run([sys.executable, ROOT / "experiments" / "train_digits.py", f"out={made}"], check=True, cwd=ROOT)
    with safe_open(made, "pt") as weights:
        assert float(weights.metadata()["test_accuracy"]) >= 0.97
    with resources.as_file(resources.files("neuron_path.models") / "weights" / "digits_vit.safetensors") as shipped:
        ours, theirs = load_file(made), load_file(shipped)
    # The bytes are equal on the same processor and libraries; elsewhere rounding differs, and training amplifies it.
    assert {name: weight.shape for name, weight in ours.items()} == {
        name: weight.shape for name, weight in theirs.items()
    }
