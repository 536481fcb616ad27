"""The installed package: its configuration comes with it, and works from any directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, made from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("neuron_path", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "README.md").write_text("NeuronPath\n")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_configuration_is_in_the_wheel(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {file.relative_to(folder).as_posix() for file in folder.rglob("*.yaml")}

    assert files(installed / "neuron_path" / "conf") == files(ROOT / "conf")
    assert (installed / "neuron_path" / "py.typed").exists()
    for page in ("report/run_page", "app/templates", "app/static"):
        made, kept = (
            {file.name: file.read_bytes() for kind in ("jinja", "css", "js") for file in folder.rglob(f"*.{kind}")}
            for folder in (installed / "neuron_path" / page, ROOT / "neuron_path" / page)
        )
        assert made == kept != {}
    assert (installed / "neuron_path" / "models" / "weights" / "digits_vit.safetensors").exists()


@pytest.mark.slow
def test_it_composes_and_runs_from_another_directory(installed: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "neuron_path", "search", "experiment=paper", "data.limit=1", "hydra.run.dir=here"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    made = json.loads((tmp_path / "here" / "run.json").read_text())
    assert made["quadrature"] == "riemann_left"
    assert made["git"]["commit"] is None
    assert (tmp_path / "here" / "paths.parquet").exists()
