"""Sweeps on every launcher: one job that fails does not take the others along, and the table says what is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from neuron_path.store.reader import load_paths
from tests import pictures
from tests.cli.test_main import environment, python
from tests.command import call, run_in

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"],
}


@pytest.mark.parametrize(
    "launcher",
    ["none", *(pytest.param(launcher, marks=pytest.mark.slow) for launcher in LAUNCHERS)],
)
def test_a_failed_job_does_not_lose_the_others(launcher: str, tmp_path: Path) -> None:
    sweep = ["run", "-m", "scorer=activation,random", "top_k=1,500", "data.limit=3", "baselines=[]", "report=false"]
    arguments = [*sweep, f"hydra.sweep.dir={tmp_path}", "trainer.threads=1"]
    if launcher == "none":  # in this process
        code, _, err = call(*arguments)
    else:
        command = python(*arguments, *LAUNCHERS[launcher])
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        code, err = done.returncode, done.stderr
    assert code == 1, err
    assert err.splitlines() == [
        f"neuron-path: error: Job {job} (baselines=[],data.limit=3,report=False,scorer={scorer},top_k=500,"
        "trainer.threads=1): top_k is 500; expected 1 … 192, the neurons of the narrowest block."
        for job, scorer in ((1, "activation"), (3, "random"))
    ]
    for number, scorer in ((0, "activation"), (2, "random")):
        assert load_paths(tmp_path / str(number))["scorer"].tolist() == [scorer] * 3
    code, out, err = call("compare", str(tmp_path), "--reference=activation")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert all(f"{tmp_path / job}: failed: Job {job} (" in said.replace("- ", "-") for job in ("1", "3"))


@pytest.mark.slow
def test_jobs_of_joblib_decode_pictures_in_processes(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=3)
    sweep = [
        "search",
        "-m",
        "scorer=activation,random",
        "data=image_folder",
        f"data.root={folder}",
        "data.num_workers=1",
    ]
    command = python(*sweep, f"hydra.sweep.dir={tmp_path / 'sweep'}", "trainer.threads=1", *LAUNCHERS["joblib"])
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert [len(load_paths(tmp_path / "sweep" / job)) for job in ("0", "1")] == [3, 3]


@pytest.mark.slow
def test_jobs_without_directories_of_their_own_are_told_too(tmp_path: Path) -> None:
    sweep = [
        "evaluate",
        "-m",
        f"run_dir={tmp_path / 'one'},{tmp_path / 'two'}",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]
    done = subprocess.run(
        python(*sweep, *LAUNCHERS["joblib"]), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert [line.partition("(")[0] for line in done.stderr.splitlines()] == [
        f"neuron-path: error: Job {job} " for job in range(2)
    ]
    assert list((tmp_path / "sweep").rglob("*.txt")) == []


def test_a_line_of_an_earlier_try_goes_with_the_next(tmp_path: Path) -> None:
    sweep = ["search", "-m", "top_k=500", "data.limit=2", "scorer=activation", f"hydra.sweep.dir={tmp_path}"]
    assert call(*sweep)[2].count("\n") == 1
    assert "top_k is 500" in (tmp_path / "0" / "error.txt").read_text()
    assert run_in(tmp_path / "0", "search", "data.limit=2", "scorer=activation").code == 0
    assert not (tmp_path / "0" / "error.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "multirun.yaml"]
