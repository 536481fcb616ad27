"""The container image: its file is clean, names no index, and its steps do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from neuron_path.report.run_page.page import REPORT_FILE
from neuron_path.store.layout import EFFECTS_FILE, PATHS_FILE, RUN_FILE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
Step = tuple[str, str]


def stages() -> dict[str, list[Step]]:
    """Stage → its instructions, each with its arguments."""
    found: dict[str, list[Step]] = {}
    lines = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    own: list[Step] = []
    for line in filter(None, map(str.strip, lines)):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            own = found.setdefault(name, list(found.get(base, [])))
        own.append((word, " ".join(rest.split())))
    return found


STAGES = stages()
RUNTIMES = ("cpu", "cuda")


def arguments(stage: str, word: str) -> list[str]:
    return [rest for name, rest in STAGES[stage] if name == word]


@pytest.mark.skipif(shutil.which("hadolint", path=Path(sys.executable).parent) is None, reason="hadolint is missing")
def test_hadolint_has_nothing_to_say() -> None:
    hadolint = str(shutil.which("hadolint", path=Path(sys.executable).parent))
    ran = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_base_and_index_are_build_arguments_and_no_index_is_named() -> None:
    assert TEXT.count("ARG BASE_IMAGE=python:3.11-slim\n") == 1
    bases = re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)
    assert set(bases) - set(STAGES) == {"${BASE_IMAGE}"}
    assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} <= set(arguments("packages", "ARG"))
    assert "://" not in TEXT
    assert "--index" not in TEXT


@pytest.mark.parametrize("target", RUNTIMES)
def test_an_image_is_run_by_no_root_and_holds_the_environment_alone(target: str) -> None:
    assert arguments(target, "USER")[-1] == "1000:1000"
    assert arguments(target, "ENTRYPOINT") == ['["neuron-path"]']
    assert arguments(target, "WORKDIR")[-1] == "/workspace"
    assert arguments(target, "COPY") == ["--from=project /opt/venv /opt/venv"]
    assert not any("pip" in run for run in arguments(target, "RUN"))
    assert not any("PIP" in name for name in arguments(target, "ARG"))
    assert ("NVIDIA_VISIBLE_DEVICES=all" in " ".join(arguments(target, "ENV"))) == (target == "cuda")
    assert list(STAGES)[-1] == "cpu"


def test_no_key_is_baked_in_and_none_is_kept_out() -> None:
    assert "WANDB" not in TEXT


def test_packages_come_before_the_code_and_by_the_constraints() -> None:
    packages, project = arguments("packages", "RUN"), arguments("project", "RUN")
    assert packages == project[:-1]
    assert not any("neuron_path" in copied for copied in arguments("packages", "COPY"))
    given = arguments("packages", "ENV")[-1]
    assert "PIP_CONSTRAINT=/build/constraints.txt" in given
    assert "PIP_BUILD_CONSTRAINT=/build/constraints.txt" in given
    assert arguments("packages", "WORKDIR") == ["/build"]
    assert "--no-deps" in project[-1]
    assert all("--no-cache-dir" in run for run in project if "install" in run)


def copied() -> list[str]:
    return [name for rest in arguments("project", "COPY") for name in rest.split()[:-1]]


def test_what_is_copied_reaches_the_build_and_nothing_else_does() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert sorted(allowed) == sorted(copied())
    assert any(fnmatch("neuron_path/data/__pycache__", rule) for rule in rules if rule.startswith("**"))
    for name in copied():
        assert (ROOT / name).exists()


def test_the_steps_run_in_a_shell(tmp_path: Path) -> None:
    """Every RUN of the project's stages, for real, but that pip and venv only note what they are asked for."""
    log, tools, build = tmp_path / "log", tmp_path / "tools", tmp_path / "build"
    tools.mkdir()
    build.mkdir()
    shim = tools / "python"
    shim.write_text(f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >> {log}; else exec {sys.executable} "$@"; fi\n')
    shim.chmod(0o755)
    for word, rest in STAGES["project"]:
        if word == "COPY":
            for name in rest.split()[:-1]:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, build / name)
        elif word == "RUN":
            path = f"{tools}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(["/bin/sh", "-ec", rest], cwd=build, check=True, env={**os.environ, "PATH": path})
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (build / "requirements.txt").read_text().splitlines() == project["dependencies"]
    into = "-m pip --python /opt/venv/bin/python install --no-cache-dir"
    assert log.read_text().splitlines() == [
        "-m venv --without-pip /opt/venv",
        f"{into} -r requirements.txt",
        f"{into} --no-deps .",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "build --target cpu --tag neuron-path:cpu ."),
        (["TARGET=cuda"], "build --target cuda --tag neuron-path:cuda ."),
        (
            ["BASE_IMAGE=mine:1", "PIP_EXTRA_INDEX_URL=file:///wheels"],
            "build --target cpu --tag neuron-path:cpu --build-arg BASE_IMAGE=mine:1 "
            "--build-arg PIP_EXTRA_INDEX_URL=file:///wheels .",
        ),
    ],
)
def test_make_image_builds_it(given: list[str], expected: str, tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\necho "$@"\n')
    engine.chmod(0o755)
    lacking = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "BASE_"))}
    command = ["make", "--silent", "image", f"ENGINE={engine}", *given]
    ran = subprocess.run(command, cwd=ROOT, env=lacking, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == expected


def test_the_demo_in_an_image_is_expected_to_write_what_a_run_writes() -> None:
    (expected,) = re.findall(r'"\$target"/\{(.*?)\}', (ROOT / ".ci" / "image").read_text(encoding="utf-8"))
    assert set(expected.split(",")) <= {PATHS_FILE, EFFECTS_FILE, RUN_FILE, REPORT_FILE}
