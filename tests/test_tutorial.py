"""The tutorials: every cell and command runs, and says what the page says."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nbformat
import pytest
import timm
import torch
from PIL import Image

import neuron_path
from tests.command import call
from tests.pictures import save

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOK = TUTORIALS / "digits.ipynb"
RUN = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", coalesce_streams=True).execute()
nbformat.write(notebook, sys.argv[2])
"""


def cells(file: Path) -> list[Any]:
    return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]


def said(cell: Any) -> list[str]:
    """What a cell prints or returns, figures by what they are."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [text for text in texts if not text.startswith("<Figure")]


def drawn(cell: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.slow
def test_the_notebook_runs_and_says_the_same(tmp_path: Path) -> None:
    # In a process of its own: a kernel's sockets and loops are none of the other tests' business.
    command = [sys.executable, "-c", RUN, str(NOTEBOOK), str(tmp_path / "executed.ipynb")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    stored, executed = cells(NOTEBOOK), cells(tmp_path / "executed.ipynb")
    for before, after in zip(stored, executed, strict=True):
        assert said(after) == said(before), before.source
        assert drawn(after) == drawn(before), before.source
    assert sum(map(drawn, stored)) == 5
    assert all(cell.outputs or "import" in cell.source for cell in stored)


PAGE = TUTORIALS / "your-own-model.md"
FILE = re.compile(r"^`(\w+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    ((?:python|neuron-path) .*(?:(?<=\\)\n.*)*)$", re.MULTILINE)
OUTPUT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_models_of_every_library_are_run_as_they_were_trained(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("open_clip")
    text = PAGE.read_text(encoding="utf-8")
    for name, script in FILE.findall(text):
        (tmp_path / name).write_text(script, encoding="utf-8")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    said: dict[str, str] = {}
    for command in COMMAND.findall(text):
        arguments = [sys.executable if word == "python" else word for word in shlex.split(command)]
        ran = subprocess.run(
            arguments, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (command, ran.stderr)
        said[command] = ran.stdout
    trained = {
        name: float(said[f"python with_{name}.py"].partition("accuracy ")[2].split()[0])
        for name in ("transformers", "timm", "torchvision", "open_clip")
    }
    assert min(trained.values()) > 0.5  # of ten classes: so that labels in another order would be seen
    for name in ("transformers", "timm", "torchvision"):
        table: Any = neuron_path.load_paths(tmp_path / f"run_{name}")
        table = table[table.scorer == "joint_attribution"]
        assert len(table) == 180
        assert (table.label == table.prediction).mean() == pytest.approx(trained[name], abs=1e-4)
        assert f"{name}: accuracy {trained[name]:.4f} on 180 pictures" in said["python compare.py"]
        told = json.loads((tmp_path / f"run_{name}" / "run.json").read_text())
        assert told["preprocessing"]["input_size"] == [3, 32, 32]
        assert [told["classes"][label] for label in table.label] == [one.split("/")[0] for one in table.sample_id]


def follow(page: str, stand_ins: Mapping[str, str], shorter: Mapping[str, list[str]]) -> dict[str, str]:
    """What each command of a page prints, in the working directory, one after another.

    Args:
        page: of the tutorials.
        stand_ins: what stands in scripts and commands for what a test lacks; each must occur.
        shorter: of each command of `neuron-path`, by what it begins with, the settings that make it short.
    """
    text = (TUTORIALS / page).read_text(encoding="utf-8")
    for one, other in stand_ins.items():
        assert one in text
        text = text.replace(one, other)
    scripts = dict(FILE.findall(text))
    said: dict[str, str] = {}
    for command in COMMAND.findall(text):
        name, *arguments = shlex.split(command.replace("\\\n", " "))
        if name == "python":
            out = io.StringIO()
            with redirect_stdout(out):
                exec(compile(scripts.pop(arguments[0]), arguments[0], "exec"), {})
            said[command] = out.getvalue()
        else:
            [more] = [more for begin, more in shorter.items() if " ".join(arguments).startswith(begin)]
            code, said[command], err = call(*arguments, *more)
            assert code == 0, (command, err)
    assert scripts == {}  # each is run
    return said


STEP = re.compile(r"^    ((?:python|neuron-path|torchrun|until) .*(?:(?<=\\)\n.*)*)$", re.MULTILINE)


@pytest.mark.slow
def test_a_search_goes_to_a_cluster(tmp_path: Path) -> None:
    """As typed into a shell: several processes, torchrun's, those that submitit starts, and W&B's files."""
    text = (TUTORIALS / "cluster.md").read_text(encoding="utf-8")
    for name, script in FILE.findall(text):
        (tmp_path / name).write_text(script, encoding="utf-8")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    said: dict[str, str] = {}
    for command in STEP.findall(text):
        ran = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (command, ran.stderr)
        said[command] = ran.stdout
    assert [said[f"python {name}.py"] for name in ("same_paths", "gather")] == OUTPUT.findall(text)
    one, *others = (
        neuron_path.load_paths(tmp_path / "outputs" / name)["path"].map(list).tolist()
        for name in ("one", "two", "torchrun")
    )
    assert others == [one, one]
    effects = tmp_path / "outputs" / "two" / "effects.parquet"
    assert effects.exists()
    assert list((tmp_path / "outputs" / "watched").rglob("run-*.wandb"))


@pytest.mark.slow
def test_a_model_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shorter = {
        "search": ["data.limit=20", "trainer.threads=1"],
        "prune": ["seeds=[0]", "trainer.threads=1"],
        "run": ["data.limit=2", "baselines=[]", "report=false", "trainer.threads=1"],
    }
    _, pruned, read, used, _ = follow("pruning.md", {"[0.2,0.3,0.5,0.7]": "[0.5]"}, shorter).values()
    page, about = ((TUTORIALS / name).read_text(encoding="utf-8") for name in ("pruning.md", "../pruning.md"))
    costs, tables, table, python = OUTPUT.findall(page)
    assert [*headers(costs), *headers(tables)] == headers(pruned)
    assert table.split()[:7] == read.split()[:7]
    for costs_of in (costs, pruned):  # these do not depend on the images
        assert "| 2,304 | 1,152 | −50 % |" in re.sub(" +", " ", costs_of)
        assert "| 340,954 | 229,210 | −33 % |" in re.sub(" +", " ", costs_of)
    for parameters in ("original: 340,954 parameters, accuracy 0.992\n", "pruned: 229,210 parameters, accuracy 0."):
        assert parameters in python
        assert parameters in used
    accuracies = re.findall(r" \d[\d.]+ \[[\d., ]+\]", tables)
    assert len(accuracies) == 4 * 5
    assert [one for one in accuracies if f"{one} |" not in about] == []  # both pages tell of the same study


def headers(text: str) -> list[str]:
    """The names of the columns of each table."""
    return [re.sub(" +", " ", names) for names in re.findall(r"^(\|.*)\n\|:-", text, re.MULTILINE)]


@pytest.mark.slow
def test_a_pretrained_model_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small: dict[str, Any] = {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 3}
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0, **small)
    torch.save(model.state_dict(), "tiny.pt")
    for place, (name, colour) in enumerate({"apple": "red", "leek": "green", "milk": "white"}.items()):
        for number, split in enumerate(["train"] * 6 + ["test"] * 3):
            file = save(Path("photos", split, name, f"{number}.png"), 10 * place + number, (80, 60))
            with Image.open(file) as noise:
                Image.blend(noise, Image.new("RGB", noise.size, colour), 0.7).save(file)
    kwargs = " ".join(f"+model.kwargs.{name}={value}" for name, value in small.items())
    stand_ins = {
        "model.pretrained=true": "model.checkpoint=tiny.pt",
        "+model.kwargs.img_size=224": kwargs,
        "pretrained=True, num_classes=0, img_size=224": f"checkpoint='tiny.pt', num_classes=0, **{small}",
    }
    quick = ["trainer.threads=1", "data.num_workers=0"]
    said = follow("real-model.md", stand_ins, {"models": [], "run": quick, "evaluate": ["trainer.threads=1"]})
    card, joint, effect, compared, again, mapped = said.values()
    assert "classes       none" in card
    assert "tokens        1370" in card
    for name, console in (("joint", joint), ("effect", effect)):
        assert re.search("^Head: .* accuracy .* held-out images", console, re.MULTILINE)
        [by_console] = re.findall(r"Removing the path changes the target probability by −([\d.]+) %", console)
        assert f"{name}: -{by_console} % on 9 photographs" in compared
    assert all(operation in again for operation in ("remove", "mean ablation", "resample ablation"))
    assert re.fullmatch(r"apple/6\.png: effect -?\d+\.\d\d, on a blank picture -?\d+\.\d\d\n", mapped)
    assert Path("heat_map.png").read_bytes().startswith(b"\x89PNG")
    assert Path("outputs/joint/report.html").exists()
    assert Path("outputs/joint/evidence.parquet").exists()
