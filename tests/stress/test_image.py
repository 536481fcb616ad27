"""The container image is built, and the demo runs in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def has_engine() -> bool:
    """Whether `.ci/image` finds what it builds with."""
    docker = shutil.which("docker")
    if docker is not None and subprocess.run([docker, "info"], check=False, capture_output=True).returncode == 0:
        return True
    return shutil.which("buildah") is not None


@pytest.mark.slow  # minutes, and gigabytes of packages
def test_the_image_runs_the_demo() -> None:
    if not has_engine():
        pytest.skip("neither a docker engine nor buildah is here")
    script = Path(__file__).parents[2] / ".ci" / "image"
    done = subprocess.run([script, "cpu"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("\nThe images work.\n")
