"""The command line: what it prints, and one line for every foreseeable mistake."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import neuron_path
from neuron_path.attribution.scorer import scorers
from neuron_path.cli.main import COMMANDS, main
from neuron_path.pipeline.run import COMMANDS as COMMANDS_OF_RUNS
from neuron_path.stopping import RESUMABLE
from tests import pictures
from tests.command import call, run_in, start

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "neuron_path", *arguments]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def test_help_shows_the_commands_and_examples() -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert "usage: neuron-path COMMAND" in out
    assert "neuron-path run hydra.run.dir=outputs/mine data.limit=32" in out
    assert "model.pretrained=true \\\n" in out
    assert call("-h") == (code, out, err)


def test_without_a_command_it_shows_the_help_and_fails() -> None:
    assert call() == (2, call("--help")[1], "")


def test_version() -> None:
    for arguments in (("--version",), ("run", "--version")):
        assert call(*arguments) == (0, f"neuron-path {neuron_path.__version__}\n", "")


def test_an_unknown_command_is_named_with_the_nearest() -> None:
    code, out, err = call("runn")
    assert (code, out) == (2, "")
    assert err == f"neuron-path: error: No command is named 'runn'. Did you mean 'run'? Known: {', '.join(COMMANDS)}.\n"


def test_the_module_and_the_console_script_are_one(tmp_path: Path) -> None:
    for arguments in (["--version"], ["nope"], ["--help"]):
        ran = subprocess.run(
            python(*arguments), capture_output=True, text=True, check=False, cwd=tmp_path, env=environment()
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == call(*arguments)
    script = 'neuron-path = "neuron_path.cli:main"'
    assert script in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert main.__module__ == "neuron_path.cli.main"


@pytest.mark.parametrize("command", ["run", pytest.param("search", marks=pytest.mark.slow)])
def test_the_help_of_a_command_shows_groups_settings_and_examples(command: str) -> None:
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert f"\n  scorer: {', '.join(scorers.names())}\n" in out
    assert "schema" not in out
    assert "model.checkpoint=FILE.safetensors \\\n" in out
    assert "\nquadrature:\n  rule: gauss_legendre\n  n_steps: 8\n" in out
    assert "$" not in out


@pytest.mark.slow
def test_the_examples_of_the_help_compose() -> None:
    out = call("run", "--help")[1].replace("\\\n", " ")
    lines = out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) >= 5
    for line in lines:
        overrides = [override.partition(",")[0] for override in re.findall(r"[\w.]+=\S+", line)]
        assert call("run", *overrides, "--cfg", "job")[0] == 0, line


def test_the_configuration_can_be_shown() -> None:
    code, out, err = call("run", "--cfg", "job", "data.limit=7")
    assert (code, err) == (0, "")
    assert "\n  limit: 7\n" in out


def test_a_sweep_runs_every_combination(tmp_path: Path) -> None:
    overrides = ["scorer=activation,random", "data.limit=2", "trainer.threads=1", f"hydra.sweep.dir={tmp_path}"]
    code, out, err = call("search", "-m", *overrides)
    assert (code, err) == (0, "")
    assert out.count("Paths:") == 2
    for job, scorer in enumerate(("activation", "random")):
        table = neuron_path.load_paths(tmp_path / str(job))
        assert set(table["scorer"]) == {scorer}
        assert len(table) == 2


def test_a_sweep_tells_each_job_that_failed_and_runs_the_others(tmp_path: Path) -> None:
    overrides = ["target_class=99,3,foo", "data.limit=2", "trainer.threads=1", f"hydra.sweep.dir={tmp_path}"]
    code, _, err = call("search", "-m", *overrides)
    assert code == 1
    first, second = err.splitlines()
    assert first.startswith("neuron-path: error: Job 0 (")
    assert "target_class is 99" in first
    assert second.startswith("neuron-path: error: Job 2 (")
    assert not (tmp_path / "0" / "paths.parquet").exists()
    assert (tmp_path / "1" / "paths.parquet").exists()


MISTAKES = {
    # name: (overrides, words that the line must hold)
    "no such model": ("model.name=vit_nope", "No model is named 'vit_nope'"),
    "no such model, nearly": ("model=timm model.name=vit_tiny_patch16_22", "Did you mean 'vit_tiny_patch16_224'?"),
    "option of another model": ("+model.kwargs.foo=3", "cannot be made with {'foo': 3}"),
    "kwargs twice": ("+model.kwargs.name=x", "set model.name instead"),
    "kwargs without plus": ("model.kwargs={num_classes:5}", "add it as +model.kwargs.num_classes=VALUE"),
    "kwargs that do not fit": ("+model.kwargs.num_classes=5", "does not fit the model: 2 of another shape"),
    "no classifier": (
        "model=timm model.name=test_vit +model.kwargs.num_classes=0",
        "has 0 classes, only features: give it a head from a file, head=file",
    ),
    "no checkpoint": ("model=vit_b_32", "The setting 'model.checkpoint' must be given: add model.checkpoint=VALUE"),
    "no head file": ("head=file", "The setting 'head.path' must be given: add head.path=VALUE"),
    "absent head file": ("head=file head.path=none.pth", "No checkpoint file 'none.pth'"),
    "probe without a folder": (
        "model=timm model.name=test_vit head=linear_probe data=image_folder data.root={pictures}",
        "add head.root=DIR",
    ),
    "probe of no strength": ("head=linear_probe head.C=0", "head.C is 0.0; expected a number above 0"),
    "probe without steps": ("head=linear_probe head.max_iter=0", "head.max_iter is 0"),
    "probe that fits nothing": ("head=linear_probe head.held_out=1", "head.held_out is 1.0; expected a share"),
    "probe on another's digits": ("model=timm model.name=test_vit head=linear_probe", "The digits are images of shape"),
    "no data root": ("data=image_folder", "The setting 'data.root' must be given: add data.root=VALUE"),
    "target outside": ("target_class=99", "target_class is 99, which is no class of this model: expected 0 … 9"),
    "negative target": ("target_class=-1", "target_class is -1"),
    "unknown target": ("target_class=foo", "target_class is 'foo'; expected auto, label, prediction or a class index"),
    "unknown target function": ("target=logits", "No target function is named 'logits'. Did you mean 'logit'?"),
    "class for a target function": ("target=label", "No target function is named 'label'. Known: logit, margin"),
    "Swin": ("model=timm model.name=swin_tiny_patch4_window7_224", "its tokens are merged between stages"),
    "convolutions": ("model=timm model.name=resnet18", "it is a convolutional network"),
    "unknown setting": ("data.limitt=3", "There is no setting 'data.limitt'. Did you mean 'data.limit'?"),
    "setting without its group": ("limit=3", "Did you mean 'data.limit'?"),
    "unknown group": ("scorerr=activation", "There is no setting 'scorerr'. Did you mean 'scorer'?"),
    "unknown option": ("scorer=activaton", "There is no option 'activaton' of 'scorer'. Did you mean 'activation'?"),
    "unknown experiment": ("experiment=papr", "Did you mean 'paper'?"),
    "experiment with plus": ("+experiment=paper", "choose one as GROUP=OPTION, without a +"),
    "wrong type": ("data.limit=abc", "The setting 'data.limit' does not fit: 'abc' is no whole number"),
    "wrong type of list": ("baselines=random", "The setting 'baselines' does not fit"),
    "empty value": ("data.limit=", "The setting 'data.limit' does not fit"),
    "added setting": ("+data.foo=3", "There is no setting 'data.foo'. Settings of 'data': name, "),
    "added option": ("+scorer.seed=3", "There is no setting 'scorer.seed'"),
    "added at the top": ("+foo=3", "There is no setting 'foo'"),
    "added near a setting": ("+limits=3", "Did you mean 'data.limit'?"),
    "removed group": ("~model", "The setting 'model' must be given"),
    "unknown hydra setting": ("hydra.rundir=3", "Did you mean 'hydra.run'?"),
    "no value": ("data.limit", "Cannot read the override 'data.limit': expected KEY=VALUE"),
    "no key": ("=3", "string or a list"),
    "unquoted tilde": ("logger.group=~/pictures", "quotes of its own"),
    "two commands": ("search", "Cannot read the override 'search'"),
    "unknown flag": (
        "--foo",
        "Unrecognized arguments: --foo: a setting is given as KEY=VALUE, as in foo=VALUE; neuron-path run",
    ),
    "bad flag": ("--cfg foo", "invalid choice: 'foo'"),
    "sweep without flag": ("scorer=activation,random", "add -m for a sweep"),
    "list of options": ("scorer=[activation,random]", "a group takes one option"),
    "name of another scorer": ("scorer.name=random", "choose with scorer=random instead"),
    "unknown search": ("search.name=foo", "choose with search=foo instead"),
    "unknown rule": ("quadrature.rule=foo", "No quadrature rule is named 'foo'"),
    "unknown split": ("data.split=foo", "No digits split is named 'foo'"),
    "unknown class": ("data.classes=[a]", "No class is named 'a'"),
    "no classes": ("data.classes=[]", "data.classes is empty"),
    "unknown baseline": ("baselines=[foo]", "No scorer is named 'foo'"),
    "unknown operation": ("evaluation.operations=[foo]", "No operation is named 'foo'. Known: enhance, keep_only"),
    "no operation": ("evaluation.operations=[]", "There are no operations"),
    "unknown scope": ("token_scope=foo", "No token scope is named 'foo'"),
    "unknown preprocessing": ("preprocessing=papr", "Did you mean 'paper'?"),
    "unknown way with errors": ("data.on_error=foo", "(data.on_error) is named 'foo'"),
    "unknown logger": ("logger.name=foo", "No logger is named 'foo'"),
    "unknown logger mode": ("logger=wandb logger.mode=foo", "No mode of the logger is named 'foo'"),
    "no images": ("data.limit=0", "data.limit is 0; expected at least 1"),
    "no batch": ("data.batch_size=0", "data.batch_size is 0; expected at least 1"),
    "negative workers": ("data.num_workers=-1", "data.num_workers is -1; expected at least 0"),
    "no neurons": ("top_k=0", "top_k is 0; expected 1 … 192"),
    "too many neurons": ("top_k=193", "top_k is 193; expected 1 … 192"),
    "no steps": ("quadrature.n_steps=0", "n_steps is 0"),
    "no micro-batch": ("micro_batch=0", "micro_batch is 0"),
    "negative seed": ("seed=-1", "seed is -1; expected 0 … 4294967295"),
    "huge seed": ("seed=99999999999999999999", "expected 0 … 4294967295"),
    "no threads": ("trainer.threads=0", "trainer.threads is 0"),
    "no devices": ("trainer.devices=0", "The trainer cannot be made"),
    "devices in words": ("trainer.devices=two", "trainer.devices is 'two'; expected a number"),
    "nodes that nothing started": ("trainer.num_nodes=2", "nothing has started a process on each node"),
    "unknown way to resume": ("resume_mode=foo", "No way to resume (resume_mode) is named 'foo'"),
    "two directories": ("resume=elsewhere", "resume is 'elsewhere' and hydra.run.dir"),
    "unknown accelerator": ("trainer.accelerator=foo", "The trainer cannot be made"),
}

# By default one of each kind: what refuses the others is the same code.
ALIKE = {
    "no such model, nearly",
    "kwargs that do not fit",
    "probe without steps",
    "probe that fits nothing",
    "negative target",
    "class for a target function",
    "convolutions",
    "setting without its group",
    "wrong type of list",
    "added option",
    "added at the top",
    "no key",
    "bad flag",
    "unknown search",
    "unknown split",
    "unknown operation",
    "unknown scope",
    "unknown way with errors",
    "unknown logger mode",
    "no batch",
    "negative workers",
    "no neurons",
    "no micro-batch",
    "negative seed",
    "no threads",
    "unknown accelerator",
}


@pytest.mark.filterwarnings("ignore:The weights of .* are random")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in MISTAKES]
)
def test_a_mistake_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    overrides, expected = MISTAKES[name]
    if "{pictures}" in overrides:
        overrides = overrides.replace("{pictures}", str(pictures.class_folders(tmp_path / "pictures")))
    outcome = run_in(tmp_path / "run", "run", *shlex.split(overrides), threads="threads" not in overrides)
    assert outcome.is_refusal(), outcome
    assert expected in outcome.err


@pytest.mark.parametrize(
    "overrides", ["trainer.accelerator=tpu", *([] if torch.cuda.is_available() else ["trainer=gpu"])]
)
def test_a_device_that_is_not_there(overrides: str, tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "run", overrides)
    assert outcome.is_refusal(), outcome
    assert "Choose trainer=auto or trainer=cpu" in outcome.err


def checkpoint(kind: str, folder: Path) -> Path:
    """A file that is no checkpoint of the embedded model."""
    weights = neuron_path.load_model().state_dict()
    file = folder / ("weights.safetensors" if kind in ("shape", "nan", "garbage safetensors") else "weights.pth")
    if kind == "namespace":
        torch.save(argparse.Namespace(lr=0.1), file)
    elif kind == "shape":
        save_file(dict(weights, **{"head.bias": torch.zeros(5)}), file)
    elif kind == "nan":
        save_file(dict(weights, **{"norm.bias": torch.full((48,), torch.nan)}), file)
    elif kind != "missing":
        file.write_bytes(bytes(range(256)) * 4)
    return file


CHECKPOINTS = {
    "missing": "No checkpoint file '{file}': expected a .safetensors or PyTorch file of weights",
    "namespace": "Checkpoint '{file}' is no state dict",
    "shape": "Checkpoint '{file}' does not fit the model: 1 of another shape (head.bias is (5,), expected (10,))",
    "nan": "The model's weight 'norm.bias' holds NaN or infinity",
    "garbage": "Checkpoint '{file}' is refused",
    "garbage safetensors": "Checkpoint '{file}' is no safetensors file that can be read",
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_bad_checkpoint_is_one_line(kind: str, tmp_path: Path) -> None:
    file = checkpoint(kind, tmp_path)
    outcome = run_in(tmp_path / "run", "run", f"model.checkpoint={file}")
    assert outcome.is_refusal(), outcome
    assert CHECKPOINTS[kind].format(file=file) in outcome.err


def bad_folder(kind: str, folder: Path) -> Path:
    """A folder that no run can use."""
    folder.mkdir()
    if kind in ("text file", "truncated", "truncated, later"):
        pictures.flat_folder(folder)
    if kind == "text file":
        (folder / "notes.png").write_text("hello")
    elif kind.startswith("truncated"):
        pictures.truncated(folder / "broken.jpg")
    elif kind == "broken only":
        (folder / "a.png").write_text("hello")
        (folder / "b.png").write_bytes(b"")
    elif kind == "too many classes":
        pictures.class_folders(folder, classes=12)
    elif kind == "too few classes":
        pictures.class_folders(folder, classes=3)
    elif kind == "file":
        folder.rmdir()
        folder.write_text("")
    elif kind == "missing":
        folder.rmdir()
    return folder


FOLDERS = {
    "missing": ("", "No image folder '{folder}'"),
    "file": ("", "No image folder '{folder}'"),
    "empty": ("", "Folder '{folder}' is empty"),
    "text file": ("", "File 'notes.png' is no image that can be read"),
    "truncated": ("", "File 'broken.jpg' is no image that can be read (image file is truncated"),
    "broken only": ("data.on_error=skip", "None of the 2 images can be read; the first is 'a.png'"),
    "too many classes": ("target_class=label", "The data has label 11, which is outside the model's classes 0 … 9"),
    "too few classes": ("target_class=label", "The data has 3 classes and the model 10"),
}


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        *((kind, 0) for kind in FOLDERS),
        ("truncated", 2),
        *(pytest.param(kind, 2, marks=pytest.mark.slow) for kind in ("text file", "broken only")),
    ],
)
def test_a_bad_folder_is_one_line(kind: str, workers: int, tmp_path: Path) -> None:
    folder = bad_folder(kind, tmp_path / "data")
    overrides, expected = FOLDERS[kind]
    data = ["data=image_folder", f"data.root={folder}", f"data.num_workers={workers}", *shlex.split(overrides)]
    outcome = run_in(tmp_path / "run", "run", *data)
    assert outcome.is_refusal(), outcome
    assert expected.format(folder=folder) in outcome.err


def test_a_run_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        outcome = run_in(run_dir, "run", "data.limit=2")
        assert outcome.is_refusal(), outcome
        assert "choose another with hydra.run.dir=DIR" in outcome.err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_with_results_is_refused_and_left_alone(tmp_path: Path) -> None:
    assert run_in(tmp_path / "run", "search", "data.limit=2").code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    again = run_in(tmp_path / "run", "search", "data.limit=3", "scorer=random")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "already holds results (a finished paths.parquet)" in again.err
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_a_broken_picture_after_finished_batches_keeps_them(tmp_path: Path) -> None:
    pictures.flat_folder(tmp_path / "data", n=3)
    pictures.truncated(tmp_path / "data" / "x.jpg")
    folder = ["data=image_folder", f"data.root={tmp_path / 'data'}", "data.num_workers=0", "data.batch_size=2"]
    outcome = run_in(tmp_path / "run", "search", *folder)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "File 'x.jpg' is no image" in outcome.err
    assert outcome.results == ["parts", "run.json"]
    assert len(list((tmp_path / "run" / "parts").iterdir())) == 1


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_readable_line(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=1)
    data = ["data=image_folder", f"data.root={folder}", "data.num_workers=0"]
    outcome = run_in(tmp_path / "run", "search", "model=timm", "model.name=test_vit", *data)
    assert outcome.code == 0
    assert outcome.err == (
        "neuron-path: warning: The weights of 'test_vit' are random. For trained ones give model.checkpoint=FILE or "
        "model.pretrained=true on the command line (checkpoint=FILE or pretrained=True in Python).\n"
    )


def test_a_mistake_of_the_program_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS_OF_RUNS, "search", fail)
    with pytest.raises(ZeroDivisionError):
        call("search", f"hydra.run.dir={tmp_path}")


def test_a_reader_who_leaves_is_no_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def leave(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setitem(COMMANDS_OF_RUNS, "search", leave)
    assert call("search", f"hydra.run.dir={tmp_path}") == (141, "", "")


def test_the_run_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_in("here/it is", "search", "data.limit=1")
    assert outcome.code == 0
    assert outcome.out.startswith("1 image, ")
    assert f"Paths:  {tmp_path / 'here' / 'it is' / 'paths.parquet'}\n" in outcome.out


@pytest.mark.parametrize(
    ("how", "workers", "code", "word"),
    [
        (signal.SIGINT, 0, 130, "Interrupted"),
        (signal.SIGTERM, 0, RESUMABLE, "Terminated"),
        pytest.param(signal.SIGTERM, 2, RESUMABLE, "Terminated", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_says_so_and_keeps_what_is_finished(
    how: int, workers: int, code: int, word: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    options = ["data.batch_size=2", f"data.num_workers={workers}", "trainer.threads=1", f"hydra.run.dir={run_dir}"]
    child = start(tmp_path / "said", "run", *options)
    deadline = time.monotonic() + 400
    while not list(run_dir.glob("parts/part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    # To all its processes, as a batch system does.
    os.killpg(child, how) if workers else os.kill(child, how)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = ((tmp_path / f"said.{stream}").read_text() for stream in ("out", "err"))
    assert ended == code, err
    assert (out, err) == (
        "",
        f"neuron-path: error: {word}. What was finished is kept in the run directory. To continue, add "
        f"resume={run_dir} to the same command.\n",
    )
    assert list(run_dir.glob("parts/part-*.parquet"))
    assert not (run_dir / "paths.parquet").exists()
    assert json.loads((run_dir / "run.json").read_text())["scorer"] == "joint_attribution"
