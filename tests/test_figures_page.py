"""The page of figures: its examples are run one after another, on a run made as it says but of fewer images."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import run_in

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMAND = re.search(r"^    neuron-path run hydra\.run\.dir=outputs/mine (.*)$", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_every_example_draws_its_figure(tmp_path: Path) -> None:
    assert COMMAND is not None
    overrides = [word.strip("'") for word in COMMAND[1].split()]
    made = run_in(tmp_path / "outputs" / "mine", "run", "data.limit=60", "report=false", *overrides)
    assert (made.code, made.err) == (0, "")
    script = tmp_path / "examples.py"
    script.write_text("\n".join(EXAMPLES), encoding="utf-8")
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    drawn = {file.stem for file in (tmp_path / "pictures").glob("*.png")}
    shown = set(re.findall(r"\(images/figures/(\w+)\.png\)", PAGE))
    assert drawn == shown
    assert all((ROOT / "docs" / "images" / "figures" / f"{name}.png").exists() for name in shown)


def test_every_figure_has_an_example() -> None:
    from neuron_path.report import figures

    named = [name for name in figures.__all__ if name.endswith("_figure")]
    assert [name for name in named if f"figures.{name}(" not in PAGE] == []
