"""The tutorials: every cell and command runs, and says what the page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import neuron_path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorials" / "digits.ipynb"
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


PAGE = ROOT / "docs" / "tutorials" / "your-own-model.md"
FILE = re.compile(r"^`(\w+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    ((?:python|neuron-path) .*)$", re.MULTILINE)


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
