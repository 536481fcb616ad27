"""A mistake in a process of its own: the exit code, one line on standard error, nothing on standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import pictures
from tests.bad_input.refusals import check_refusal

ROOT = Path(__file__).parents[2]

CASES = {
    # name: (arguments, exit code, words that the line must hold)
    "no such command": (["serch"], 2, "Did you mean 'search'?"),
    "no such setting": (["search", "data.limitt=3"], 1, "Did you mean 'data.limit'?"),
    "no such flag": (["run", "--fast"], 1, "Unrecognized arguments: --fast"),
    "wrong type": (["run", "seed=one"], 1, "'seed' does not fit"),
    "out of range": (["search", "top_k=193"], 1, "top_k is 193; expected 1 … 192"),
    "no such folder": (["search", "data=image_folder", "data.root={tmp}/none"], 1, "No image folder"),
    "broken picture": (["search", "data=image_folder", "data.root={tmp}/pictures"], 1, "File 'bad.png' is no image"),
    "code in a checkpoint": (["search", "model.checkpoint={tmp}/evil.pth"], 1, "is refused"),
    "nothing to compare": (["compare", "{tmp}/pictures"], 1, "pictures"),
    "no such model": (["models", "resnet18"], 1, "convolutional"),
}
# By default; the others are tried in the tests' own process.
FEW = ("no such command",)


class Evil:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, one of them broken, and a checkpoint that would run a command."""
    tmp = tmp_path_factory.mktemp("processes")
    pictures.flat_folder(tmp / "pictures", n=1)
    (tmp / "pictures" / "bad.png").write_text("hello")
    torch.save({"weights": Evil()}, tmp / "evil.pth")
    return tmp


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in CASES])
def test_a_mistake_in_a_process_of_its_own(name: str, folder: Path, tmp_path: Path) -> None:
    arguments, code, expected = CASES[name]
    command = [sys.executable, "-m", "neuron_path", *(argument.format(tmp=folder) for argument in arguments)]
    if arguments[0] in ("search", "run"):
        command.append(f"hydra.run.dir={tmp_path / 'run'}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert ran.stdout == ""
    assert expected in check_refusal(ran.returncode, ran.stderr, code)
    assert not list(tmp_path.rglob("*.parquet"))
