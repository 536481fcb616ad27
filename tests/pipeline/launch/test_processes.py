"""Several processes share a search: each image once, the same rows as one, and one's death ends all with its cause."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neuron_path.config import Config, TrainerConfig
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.launch.processes import Processes, check_surroundings, find_processes
from neuron_path.stopping import RESUMABLE
from neuron_path.store.layout import list_parts
from tests import pictures
from tests.cli.test_main import environment, python
from tests.command import call, run_in
from tests.tables import same_run

TWO = ["trainer=ddp_cpu", "trainer.devices=2"]
OPERATIONS = "evaluation.operations=[remove,mean_ablation,resample_ablation]"
STAGES = ["data.limit=7", "baselines=[]", "report=false", "evidence=true", OPERATIONS]
OPTIONS = [*STAGES, "data.batch_size=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, all images at once."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    assert run_in(run_dir, "run", *STAGES).code == 0
    return run_dir


@pytest.mark.slow
def test_two_processes_find_what_one_finds(alone: Path, tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "run", *OPTIONS, *TWO)
    assert (outcome.code, outcome.err) == (0, "")
    same_run(tmp_path / "run", alone)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["processes"], metrics["threads"], metrics["images"]) == (2, 1, 7)
    assert "parts" not in outcome.results
    evaluate = ["evaluate", f"run_dir={tmp_path / 'run'}", OPERATIONS, "trainer.threads=1", *TWO]
    assert call(*evaluate)[0] == 0
    same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_in_a_worker_is_one_line(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=3)
    pictures.truncated(folder / "x.jpg")
    data = ["data=image_folder", f"data.root={folder}", "data.num_workers=0", "data.batch_size=1", "scorer=activation"]
    outcome = run_in(tmp_path / "run", "search", *data, *TWO)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1), outcome.err
    assert outcome.err.startswith("neuron-path: error: File 'x.jpg' is no image that can be read")


@pytest.mark.slow
def test_what_may_be_skipped_is_counted_over_all_processes(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=4)
    for name in ("u", "v", "w", "x"):
        pictures.truncated(folder / f"{name}.jpg")
    data = ["data=image_folder", f"data.root={folder}", "data.num_workers=0", "data.batch_size=1", "scorer=activation"]
    skip = [*data, "data.on_error=skip", *TWO]
    outcome = run_in(tmp_path / "run", "search", *skip, "data.max_skipped=3")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1), outcome.err
    assert outcome.err.startswith("neuron-path: error: 4 images cannot be read, more than data.max_skipped=3; one of")
    outcome = run_in(tmp_path / "run", "search", *skip, "data.max_skipped=4")
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "4 images, 4 skipped, all found before")


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started, by rank."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ranks = {}
    for child in map(int, children):
        held = dict(
            entry.split("=", 1) for entry in Path(f"/proc/{child}/environ").read_text().split("\0") if "=" in entry
        )
        if "LOCAL_RANK" in held:
            ranks[int(held["LOCAL_RANK"])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(run_dir: Path) -> subprocess.Popen[str]:
    """A search by two processes that has stored something."""
    command = python("search", "data.batch_size=2", f"hydra.run.dir={run_dir}", "trainer.threads=1", *TWO)
    search = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment())
    wait_until(lambda: list_parts(run_dir).parts or search.poll() is not None)
    return search


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("worker", marks=pytest.mark.slow),
        pytest.param("all by SIGTERM", marks=pytest.mark.slow),
        pytest.param("parent", marks=pytest.mark.slow),
    ],
)
def test_what_ends_one_process_ends_all(victim: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    search = started(run_dir)
    workers = workers_of(search.pid)
    assert len(workers) == 2
    if victim == "worker":
        os.kill(workers[1], signal.SIGKILL)
    else:
        search.send_signal(signal.SIGTERM if victim == "all by SIGTERM" else signal.SIGKILL)
    out, err = search.communicate(timeout=400)
    wait_until(lambda: not any(map(is_alive, workers)), 10)
    assert out == ""
    if victim == "worker":
        assert search.returncode == 1
        assert err.startswith("neuron-path: error: Process 2 of 2 was killed by SIGKILL")
    elif victim == "all by SIGTERM":
        assert search.returncode == RESUMABLE
        assert err.startswith("neuron-path: error: Terminated. What was finished is kept in the run directory.")
    else:
        assert search.returncode == -signal.SIGKILL
    assert err.count("\n") == (0 if victim == "parent" else 1), err
    assert list_parts(run_dir).parts
    assert not (run_dir / "paths.parquet").exists()


@pytest.mark.slow
def test_processes_that_torchrun_starts_share_one_directory(alone: Path, tmp_path: Path) -> None:
    """With the variables that torchrun sets, each process has the whole command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    command = python("run", *OPTIONS, *TWO, f"hydra.run.dir={tmp_path / 'run'}", "trainer.threads=1")
    searches = [
        subprocess.Popen(
            command, stdout=-1, stderr=-1, text=True, env=environment(**common, RANK=str(rank), LOCAL_RANK=str(rank))
        )
        for rank in range(2)
    ]
    (out, err), (other_out, other_err) = (search.communicate(timeout=400) for search in searches)
    assert [search.returncode for search in searches] == [0, 0], err + other_err
    assert (err, other_out, other_err) == ("", "", "")
    assert out.startswith("7 images, ")
    same_run(tmp_path / "run", alone)


OUTSIDE = {
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "test",
}
SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "search",
    "SLURM_NODELIST": "node1",
}


@pytest.fixture(params=[OUTSIDE, SLURM], ids=["torchrun", "SLURM"])
def outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Two processes that were started outside, of which this is the second."""
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    return request.param


def config(**trainer: Any) -> Config:
    return Config(trainer=TrainerConfig(**{"accelerator": "cpu", **trainer}), head=None)


def test_one_process_is_the_default() -> None:
    assert find_processes(config()) == Processes(1, False, 0, 1)


def test_workers_are_as_many_as_devices_and_no_more_than_images() -> None:
    processes = find_processes(config(devices=4))
    assert processes == Processes(4, False, 0, 4)
    assert [processes.at_most(n).count for n in (9, 4, 3, 1, 0)] == [4, 4, 3, 1, 1]
    assert Processes(3, False, 0, [0, 2, 3]).at_most(2).devices == [0, 2]


def test_processes_started_outside_know_their_rank(outside: Mapping[str, str]) -> None:
    assert find_processes(config(devices=2)) == Processes(2, True, 1, 2)
    assert not find_processes(config(devices=2)).is_first


def test_what_processes_started_outside_cannot_do_is_one_line(outside: Mapping[str, str]) -> None:
    check_surroundings(is_sweep=False, is_placed=True)
    with pytest.raises(NeuronPathError, match="would make the whole sweep: leave out -m"):
        check_surroundings(is_sweep=True, is_placed=True)
    with pytest.raises(NeuronPathError, match=r"by its own clock: add hydra\.run\.dir=DIR"):
        check_surroundings(is_sweep=False, is_placed=False)
    with pytest.raises(NeuronPathError, match=r"2 processes were started, but trainer\.devices=3 .* makes 3"):
        find_processes(config(devices=3))


@pytest.mark.parametrize(
    ("absent", "told"), [("STEP_ID", "put srun before"), ("NTASKS_PER_NODE", "--ntasks-per-node=2")]
)
def test_tasks_of_slurm_that_cannot_meet_are_one_line(absent: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(f"SLURM_{absent}")
    with pytest.raises(NeuronPathError, match=told):
        find_processes(config(devices=2))


def test_a_count_of_tasks_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SLURM | {"SLURM_NTASKS": "x"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NeuronPathError, match="SLURM_NTASKS is 'x' in the environment"):
        find_processes(config(devices=2))


def test_one_task_of_slurm_may_start_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).items():
        monkeypatch.setenv(name, value)
    assert find_processes(config(devices=3)) == Processes(3, False, 0, 3)
    assert find_processes(config()) == Processes(1, False, 0, 1)
    check_surroundings(is_sweep=True, is_placed=False)
