"""What is published: the archive of sources and the wheel, installed as users install it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OTHERS = ("3.11", "3.12", "3.13")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints, without the tests' own packages on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sources, and the wheel that is built from them."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    return folder


@pytest.mark.slow
def test_the_index_would_take_it(dist: Path) -> None:
    assert run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *dist.iterdir()).count("PASSED") == 2


@pytest.mark.slow
def test_the_sources_can_be_tested(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    tracked = set(run("git", "ls-files").splitlines())
    assert tracked <= names
    assert not any(name.startswith((".venv", "build/", "outputs/")) for name in names)


@pytest.mark.slow
def test_the_wheel_runs_the_demo_in_a_fresh_environment(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    fresh, empty = tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", fresh)
    run(sys.executable, "-m", "pip", "--python", fresh / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    here = Path(run(fresh / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # The dependencies are those of the tests: five gigabytes, which are not fetched again.
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    found = run(fresh / "bin" / "python", "-c", "import neuron_path; print(neuron_path.__file__)", cwd=empty)
    assert Path(found.strip()).is_relative_to(here)
    run(fresh / "bin" / "neuron-path", "run", "hydra.run.dir=demo", "data.limit=40", "trainer.threads=1", cwd=empty)
    assert {file.name for file in empty.iterdir()} == {"demo"}
    assert (empty / "demo" / "report.html").stat().st_size > 10_000
    assert json.loads((empty / "demo" / "run.json").read_text())["git"]["commit"] is None


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHERS)
def test_its_dependencies_are_there_for_other_pythons(version: str, dist: Path, tmp_path: Path) -> None:
    """pip finds versions of all that the wheel needs which go together; it fetches none of them."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {version} here")
    (wheel,) = dist.glob("*.whl")
    run(python, "-m", "venv", tmp_path / "other")
    install = [tmp_path / "other" / "bin" / "python", "-m", "pip", "install", "--quiet", "--dry-run"]
    run(*install, "--constraint", "constraints.txt", "--report", tmp_path / "report.json", wheel)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["environment"]["python_version"] == version
    assert len(report["install"]) > len(PROJECT["dependencies"])


def test_the_lowest_versions_that_are_tried_are_those_that_are_promised() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): {Version(bound.version) for bound in pin.specifier} for pin in tried}
    for wanted in map(Requirement, PROJECT["dependencies"]):
        assert [bound.operator for bound in wanted.specifier] == [">="]
        assert versions[canonicalize_name(wanted.name)] == {Version(bound.version) for bound in wanted.specifier}


def test_every_python_that_is_named_is_tried() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f"python: {json.dumps(named)}" in workflow
    assert named == list(OTHERS)


def test_continuous_integration_elsewhere_runs_the_same() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "- run: .ci/run\n" in workflow
    assert "- run: .ci/wheel python ${{ matrix.constraints }}\n" in workflow
    tried = set(re.findall(r"constraints: \[?([\w.-]+)", workflow))
    assert tried == {file.name for file in ROOT.glob("constraints*.txt")}
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40} # v[\d.]+", used) for used in re.findall(r"uses: (.*)", workflow))
