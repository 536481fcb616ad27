"""The tutorial: every cell runs, and says what the stored notebook shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

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
