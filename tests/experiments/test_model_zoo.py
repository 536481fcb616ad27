"""Models side by side: what their paths' removal does, and what models have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import model_zoo
import neuron_path
from neuron_path.data.digits import digits_indices
from neuron_path.store.reader import load_paths
from tests.command import run_in

WEIGHTS = Path(neuron_path.__file__).parent / "models/weights/digits_vit.safetensors"
SMALL = ["data.limit=10", "scorer=activation", "baselines=[]"]


def other_weights(file: Path) -> Path:
    """The embedded model's, a little changed."""
    torch.manual_seed(0)
    changed = {name: value * (1 + 0.05 * torch.randn_like(value)) for name, value in load_file(WEIGHTS).items()}
    with safe_open(WEIGHTS, "pt") as opened:
        save_file(changed, file, opened.metadata())
    return file


def test_models_are_compared_on_the_same_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = other_weights(tmp_path / "other.safetensors")
    for name, more in (("one", []), ("other", [f"model.checkpoint={weights}"])):
        outcome = run_in(tmp_path / name, "search", *SMALL, *more)
        assert (outcome.code, outcome.err) == (0, "")
    one, other = (model_zoo.study(tmp_path / name, None) for name in ("one", "other"))
    # The loss by removal in one block alone, from the public function.
    model, (images, _) = neuron_path.load_model(), neuron_path.load_digits("test")
    rows = load_paths(tmp_path / "one").sort_values("sample_id")
    places = [digits_indices("test").tolist().index(int(name.removeprefix("digits/"))) for name in rows["sample_id"]]
    paths = torch.full((10, 12), -1)
    paths[:, 7] = torch.tensor([int(path[7]) for path in rows["path"]])
    targets = torch.tensor(rows["target"].tolist())
    edited = neuron_path.intervene(model, images[places], paths).softmax(1).gather(1, targets[:, None])[:, 0]
    expected = 100 * (edited.numpy() - one.clean) / one.clean
    np.testing.assert_allclose(one.blocks[:, 7], expected, atol=1e-3)
    assert one.blocks.shape == (10, 12)
    capsys.readouterr()
    assert model_zoo.main([str(tmp_path / "one"), str(tmp_path / "other")]) == 0
    out = capsys.readouterr().out
    assert "n = 10" in out
    a, b = (np.argsort(np.argsort(values)) - 4.5 for values in (one.effects, other.effects))  # ranks, centred
    r = float(a @ b / (a @ a))
    assert f"{r:+.2f}".replace("-", "−") in out
    assert model_zoo.main([str(tmp_path / "one")]) == 2
    assert model_zoo.main([str(tmp_path / "one"), str(tmp_path / "other"), "scorer=random"]) == 1
    assert "no paths of one search by 'random'" in capsys.readouterr().err
