"""What made the numbers: the same for the same run, and never in the way of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.jsonable import dump_json
from neuron_path.store.provenance import collect_provenance, git_state, weight_hash

CONFIG: dict[str, Any] = {"seed": 7, "model": {"name": "digits_vit"}, "data": {"classes": [1, 2]}}


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_everything_is_kept_and_json() -> None:
    provenance = collect_provenance(CONFIG, model="digits_vit", preprocessing={"mean": np.array([0.5])})
    assert json.loads(dump_json(provenance)) == provenance
    assert provenance["config"] == CONFIG
    assert provenance["seed"] == 7
    assert provenance["preprocessing"] == {"mean": [0.5]}
    assert set(provenance["versions"]) == {"python", "torch", "timm", "lightning", "numpy", "neuron_path"}
    assert provenance["versions"]["numpy"] == np.__version__


def test_only_the_environment_differs_between_equal_runs() -> None:
    one, two = (collect_provenance(CONFIG, model="digits_vit") for _ in range(2))
    one.pop("environment")
    two.pop("environment")
    assert one == two


def test_git_state_follows_the_checkout_that_tracks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "code.py"
    file.write_text("a = 1\n")
    assert git_state(file) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "--quiet")
    assert git_state(file) == {"commit": None, "dirty": None}
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "Add code")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "output.txt").touch()
    assert git_state(file) == {"commit": commit, "dirty": False}
    file.write_text("a = 2\n")
    assert git_state(file) == {"commit": commit, "dirty": True}
    # An installed copy inside a checkout is not that checkout's code.
    assert git_state(tmp_path / "output.txt") == {"commit": None, "dirty": None}
    monkeypatch.setenv("PATH", "")
    assert git_state(file) == {"commit": None, "dirty": None}


def test_weight_hash_sees_every_change() -> None:
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), dtype=np.float32)}
    changes = [
        weights | {"a": weights["a"].reshape(3, 2)},
        weights | {"a": weights["a"].view(np.int32)},
        weights | {"a": weights["a"] + np.float32(1e-6)},
        weights | {"c": np.zeros(0, dtype=np.float32)},
        {"a": weights["a"], "c": weights["b"]},
    ]
    digests = {weight_hash(change.items()) for change in [weights, *changes]}
    assert len(digests) == 6
    transposed = {"a": np.asfortranarray(weights["a"]), "b": weights["b"]}
    assert weight_hash(reversed(transposed.items())) == weight_hash(weights.items())


def test_doubled_names_are_refused() -> None:
    with pytest.raises(NeuronPathError, match="named 'a'"):
        weight_hash([("a", np.zeros(1)), ("a", np.ones(1))])


def test_the_store_and_the_evaluation_need_no_torch() -> None:
    code = (
        "import sys\n"
        "import neuron_path.store.reader, neuron_path.store.writer, neuron_path.store.provenance\n"
        "import neuron_path.evaluation.summary\n"
        "print(sorted({'torch', 'hydra', 'omegaconf', 'lightning', 'wandb'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout == "[]\n"
