"""Weights & Biases without its server: offline files, read back with W&B's own tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuron_path.tracking.wandb_run import run_id
from tests.command import run_in
from tests.tracking.http import ROOT, serve

KEY = "a" * 40
SMALL = ("data.limit=3", "data.batch_size=2", "trainer.threads=1", "quadrature.n_steps=2", "baselines=[random]")
TIMES = ("wall_seconds", "images_per_second", "evaluated_images_per_second")
RESULTS = ("paths.parquet", "effects.parquet", "run.json", "metrics.json", "report.html")


def command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as of a user who has no key and no settings but these of the environment."""
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "neuron_path", *arguments, "logger=wandb"],
        env=clean_environment(home) | environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}


def track(home: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program that makes trackers, in the directory of its run."""
    begin = """
import pathlib, time
from neuron_path.tracking import make_tracker
provenance = {"model": "m", "scorer": "s", "config": {"seed": 0}}
options = {"name": "wandb", "project": "p", "entity": None, "group": None, "tags": []}
options |= {"init_timeout": 5.0, "finish_timeout": 5.0}
"""
    return subprocess.run(
        [sys.executable, "-c", begin + program],
        env=clean_environment(home) | environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )


def inspect(file: Path, home: Path) -> list[dict[str, Any]]:
    """The records of an offline run, as W&B's own tool prints them."""
    read = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        env=clean_environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in read.stdout.splitlines()]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def offline_file(run_dir: Path) -> Path:
    (file,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    return file


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """A run of someone who has no key: its directory, the home directory, what it said."""
    home, run_dir = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("runs") / "run"
    options = ("logger.tags=[one,two]", "logger.group=mine")
    with serve() as url:
        said = command(home, "run", f"hydra.run.dir={run_dir}", *SMALL, *options, WANDB_BASE_URL=url)
    return run_dir, home, said


@pytest.fixture(scope="module")
def records(ran: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> list[dict[str, Any]]:
    return inspect(offline_file(ran[0]), ran[1])


def test_without_a_key_it_says_so_in_one_line_and_goes_offline_in_the_run_directory(
    ran: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, home, said = ran
    assert said.returncode == 0
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("neuron-path: warning: Weights & Biases has no API key for http")
    assert [line.split()[0] for line in said.stdout.splitlines()] == [
        "3",
        "Removing",
        "Enhancing",
        "Paths:",
        "Report:",
    ]
    outside = [path for path in home.rglob("*") if path.is_file() and "wandb" in path.parts and path.suffix != ".log"]
    assert outside == []


def test_the_run_is_described(
    ran: tuple[Path, Path, subprocess.CompletedProcess[str]], records: list[dict[str, Any]]
) -> None:
    (described,) = of_kind(records, "run")
    provenance = json.loads((ran[0] / "run.json").read_text())
    config = described["config"]["update"]
    assert config["config"] == provenance["config"]
    assert {name: config[name] for name in ("weight_hash", "versions", "git", "baselines")} == {
        name: provenance[name] for name in ("weight_hash", "versions", "git", "baselines")
    }
    assert described["project"] == "neuron-path"
    assert described["run_group"] == "mine"
    assert described["tags"] == ["one", "two"]
    assert described["job_type"] == "run"
    assert described["run_id"] == run_id(ran[0], provenance["config"], "run")


def test_progress_was_streamed_while_it_ran(
    ran: tuple[Path, Path, subprocess.CompletedProcess[str]], records: list[dict[str, Any]]
) -> None:
    history = [item["item"] for item in of_kind(records, "history") if "images" in item["item"]]
    assert [item["images"] for item in history] == [2, 3]
    assert all(item["images_per_second"] > 0 and item["images_per_second_recent"] > 0 for item in history)
    means = json.loads((ran[0] / "metrics.json").read_text())["mean_score"]
    for scorer, mean in means.items():
        first, second = (item[f"score/{scorer}"] for item in history)
        assert history[0][f"mean_score/{scorer}"] == pytest.approx(first)
        assert history[1][f"mean_score/{scorer}"] == pytest.approx((2 * first + second) / 3)
        assert history[1][f"mean_score/{scorer}"] == pytest.approx(mean)


def test_tables_figures_and_the_store_come_at_the_end(
    ran: tuple[Path, Path, subprocess.CompletedProcess[str]], records: list[dict[str, Any]]
) -> None:
    run_dir = ran[0]
    last = of_kind(records, "history")[-1]["item"]
    assert "figures/class_distribution.path" in last
    table = json.loads((offline_file(run_dir).parent / "files" / last["tables/effects.path"]).read_text())
    assert {"scorer", "operation"} < set(table["columns"])
    assert len(table["data"]) == last["tables/effects.nrows"] > 0
    (artifact,) = (artifact for artifact in of_kind(records, "artifact") if artifact["type"] == "neuron-paths")
    contents = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert set(RESULTS) < set(contents)
    assert all(local == str(run_dir / path) for path, local in contents.items())
    assert "figures/effects.png" in contents
    summary: dict[str, Any] = {}
    for update in of_kind(records, "summary"):
        summary |= update.get("update", {})
    assert summary["wall_seconds"] == json.loads((run_dir / "metrics.json").read_text())["wall_seconds"]
    assert of_kind(records, "exit")[-1]["exit_code"] == 0


def test_results_do_not_depend_on_the_logger(
    ran: tuple[Path, Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for logger in ("none", "csv"):
        run_dir = tmp_path / logger
        assert run_in(run_dir, "run", *SMALL, f"logger={logger}", "report=false").code == 0
        for file in ("paths.parquet", "effects.parquet"):
            pd.testing.assert_frame_equal(
                pd.read_parquet(run_dir / file), pd.read_parquet(ran[0] / file), check_exact=True
            )
        here, there = (json.loads((folder / "metrics.json").read_text()) for folder in (run_dir, ran[0]))
        assert without_times(here) == without_times(there)


@pytest.mark.slow
def test_the_jobs_of_a_sweep_share_a_group(tmp_path: Path) -> None:
    sweep = tmp_path / "my-sweep"
    scorers = "scorer=activation,random"
    said = command(tmp_path / "home", "search", "-m", f"hydra.sweep.dir={sweep}", scorers, *SMALL, WANDB_MODE="offline")
    assert (said.returncode, said.stderr) == (0, "")
    jobs = [of_kind(inspect(offline_file(sweep / job), tmp_path), "run")[0] for job in ("0", "1")]
    assert [job["run_group"] for job in jobs] == ["my-sweep", "my-sweep"]
    assert [job["job_type"] for job in jobs] == ["search", "search"]
    assert len({job["run_id"] for job in jobs}) == 2


@pytest.mark.slow
def test_starting_again_in_the_same_directory_is_the_same_run(tmp_path: Path) -> None:
    config = {"seed": 0, "logger": {"mode": "offline"}}
    started = run_id(tmp_path, config, "search")
    assert run_id(tmp_path / "x" / "..", config | {"logger": {"mode": "online"}}, "search") == started
    others = [(tmp_path / "x", config, "search"), (tmp_path, config | {"seed": 1}, "search"), (tmp_path, config, "run")]
    assert len({started, *(run_id(*other) for other in others)}) == 4

    program = """
for images in (1.0, 2.0):
    tracker = make_tracker(pathlib.Path("."), provenance, options | {"mode": "offline"}, "search")
    tracker.log({"images": images})
    tracker.fail() if images == 1 else tracker.finish({}, [])
    time.sleep(1.1)  # offline runs are kept apart by their second
"""
    assert track(tmp_path, program).stderr == ""
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    read = [inspect(file, tmp_path) for file in files]
    assert [of_kind(records, "run")[0]["run_id"] for records in read] == [
        run_id(tmp_path, {"seed": 0}, "search"),
    ] * 2
    assert [of_kind(records, "exit")[-1]["exit_code"] for records in read] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9: "),
        ({"WANDB_API_KEY": KEY}, "could not start online ("),
    ],
    ids=["no network", "refused"],
)
def test_what_cannot_go_online_goes_offline(environment: dict[str, str], reason: str, tmp_path: Path) -> None:
    program = """
tracker = make_tracker(pathlib.Path("."), provenance, options | {"mode": "online"}, "search")
tracker.log({"images": 1.0})
tracker.finish({}, [])
"""
    begin = time.perf_counter()
    with serve() as url:
        said = track(tmp_path, program, **{"WANDB_BASE_URL": url} | environment)
    assert time.perf_counter() - begin < 60  # W&B by itself tries for 100 s
    assert f"UserWarning: Weights & Biases {reason}" in said.stderr
    records = inspect(offline_file(tmp_path), tmp_path)
    assert [item["item"]["images"] for item in of_kind(records, "history")] == [1.0]
    assert of_kind(records, "exit")[-1]["exit_code"] == 0


@pytest.mark.slow
def test_wandb_can_be_disabled_from_the_environment(tmp_path: Path) -> None:
    program = """
tracker = make_tracker(pathlib.Path("."), provenance, options | {"mode": "auto"}, "search")
tracker.log({"images": 1.0})
tracker.finish({}, [])
"""
    assert track(tmp_path, program, WANDB_MODE="disabled").stderr == ""
    assert not (tmp_path / "wandb").exists()
