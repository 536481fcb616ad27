"""The page of figures: its examples are run one after another, on a run made as it says but of fewer images."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import call

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    neuron-path (.*)$", PAGE, re.MULTILINE)
FEWER = {
    "hydra.run.dir=outputs/mine": ["data.limit=60", "report=false"],
    "hydra.run.dir=outputs/pruned": ["seeds=[0]", "shares=[0.5]", "latency.rounds=0"],
    "hydra.sweep.dir=outputs/sizes": ["data.limit=20"],
}


@pytest.mark.slow
def test_every_example_draws_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == len(FEWER)
    for command, (place, fewer) in zip(COMMANDS, FEWER.items(), strict=True):
        assert place in command
        code, _, err = call(*shlex.split(command), *fewer, "trainer.threads=1")
        assert (code, err) == (0, "")
    script = tmp_path / "examples.py"
    script.write_text("\n".join(EXAMPLES), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "experiments")])}
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    drawn = {file.stem for file in (tmp_path / "pictures").glob("*.png")}
    shown = set(re.findall(r"\(images/figures/(\w+)\.png\)", PAGE))
    assert drawn == shown
    assert all((ROOT / "docs" / "images" / "figures" / f"{name}.png").exists() for name in shown)


def test_every_figure_has_an_example() -> None:
    from neuron_path.report import figures

    named = [name for name in figures.__all__ if name.endswith("_figure")]
    assert [name for name in named if f"figures.{name}(" not in PAGE] == []
