"""The README: its Python and its commands are run one after another, on small models and few images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.command import call
from tests.pictures import flat_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    neuron-path (.*?)(?: +#.*)?$", README, re.MULTILINE)
MODEL = "vit_base_patch16_224"
SMALL: dict[str, Any] = {"depth": 2, "img_size": 32, "embed_dim": 48, "num_heads": 3}
FEW = ["data.limit=12", "trainer.threads=1"]
KWARGS = [f"+model.kwargs.{name}={value}" for name, value in SMALL.items()]
THEIRS = [
    "model=timm",
    f"model.name={MODEL}",
    "model.checkpoint=mine.safetensors",
    "data=image_folder",
    "data.root=pictures",
]
# Of each command, by how it begins: what stands for its placeholders, and what makes it short.
STAND_INS = {
    "run hydra.run.dir=": ({}, FEW),
    "search model=timm": (
        {"FILE": "mine.safetensors", "DIR": "pictures"},
        ["hydra.run.dir=outputs/theirs", "trainer.threads=1", *KWARGS],
    ),
    "search trainer=ddp": ({"trainer=ddp": "trainer=ddp_cpu", "DIR": "outputs/theirs"}, [*THEIRS, *KWARGS]),
    "evaluate": ({"DIR": "outputs/mine"}, ["trainer.threads=1"]),
    "verify": ({"DIR": "outputs/mine"}, []),
    "run -m": ({}, FEW),
    "report": ({}, []),
    "compare": ({}, []),
    "analyze": ({}, []),
    "prune": (
        {"DIR": "outputs/mine"},
        ["hydra.run.dir=outputs/pruned", "seeds=[0]", "latency.rounds=0", "trainer.threads=1"],
    ),
    "models": ({}, []),
    "run --help": ({}, []),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and three pictures, in which all is run."""
    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model(MODEL, **SMALL).state_dict(), tmp_path / "mine.safetensors")
    flat_folder(tmp_path / "pictures")
    return tmp_path


@pytest.mark.slow
def test_every_command_runs(place: Path) -> None:
    assert len(COMMANDS) == len(STAND_INS)
    for command, (begin, (stand_ins, shorter)) in zip(COMMANDS, STAND_INS.items(), strict=True):
        assert command.startswith(begin)
        for name, value in stand_ins.items():
            assert name in command
            command = command.replace(name, value)  # noqa: PLW2901
        code, out, err = call(*shlex.split(command), *shorter)
        assert code == 0, (command, err)
        assert not re.search("warning|error", err, re.IGNORECASE), (command, err)  # how far it is, a slow machine says
        assert out
    for made in ("mine/report.html", "theirs/paths.parquet", "mine/effects.parquet", "pruned/pruning.csv"):
        assert (place / "outputs" / made).exists(), made


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_every_example_runs() -> None:
    assert len(EXAMPLES) == 2
    names: dict[str, object] = {}
    exec(EXAMPLES[0], names)
    options = ", ".join(f"{name}={value}" for name, value in SMALL.items())
    checkpoint = 'checkpoint="mine.safetensors"'
    assert f'"{MODEL}", {checkpoint}' in EXAMPLES[1]
    names["images"] = torch.rand(2, 3, 32, 32)
    exec(EXAMPLES[1].replace(checkpoint, f"{checkpoint}, {options}"), names)
    assert {"result", "logits", "scores", "delta"} <= names.keys()


def test_every_target_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        named = re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [name for name in named if not re.search(rf"^{name}:.*## ", makefile, re.MULTILINE)] == [], page
