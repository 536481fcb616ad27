"""Overrides as people type them: paths without quotes, settings with dashes, options in the place of names."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import neuron_path
from neuron_path.cli.overrides import PATHS, as_overrides
from neuron_path.config import PruneConfig, _check_model_name, conf_dir, placed
from neuron_path.errors import NeuronPathError
from tests import pictures
from tests.bad_input.refusals import check_refusal
from tests.command import call, run_in

QUICK = ("quadrature.n_steps=1", "data.num_workers=0", "trainer=cpu")
DOCS = Path(__file__).parents[2] / "docs"


def read(argument: str, *others: str) -> Any:
    """What Hydra makes of an argument."""
    return OverridesParser.create().parse_override(as_overrides([argument, *others])[0])


PATHS_AS_TYPED = (
    "epoch=3-step=100.ckpt",
    "my pictures",
    "a,b",
    "v[1]",
    "{x}",
    "(1)",
    "it's",
    'say "x"',
    "back\\slash\\",
    "007",
    "1e3",
    "true",
    "Zoë/日本",
    "DIR/train-*.tar",
    "a:b",
    " x ",
    "#1",
    "100%",
)


@pytest.mark.parametrize("key", PATHS)
def test_a_path_needs_no_quotes(key: str) -> None:
    for path in PATHS_AS_TYPED:
        for plus in ("", "+", "++"):
            override = read(f"{plus}{key}={path}")
            assert (override.key_or_group, override.value(), type(override.value())) == (key, path, str)


def test_any_path_reaches_the_configuration() -> None:
    @settings(max_examples=50, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.text(st.characters(exclude_characters="\0~$", exclude_categories=["Cs"]), min_size=1, max_size=20))
    def check(path: str) -> None:
        if path.lower() != "null" and not (len(path) > 1 and path[0] == path[-1] and path[0] in "'\""):
            assert read(f"data.root={path}").value() == path

    check()


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read("data.root=~/my pictures").value() == "/home/me/my pictures"
    assert read("hydra.run.dir=~/runs").value() == "/home/me/runs"


def test_hydra_s_own_grammar_is_kept() -> None:
    kept = ["data.root=null", "data.root='a b'", 'data.root="a b"', "hydra.run.dir=${paths.output_dir}/x", "data.root="]
    kept += [
        "data.classes=[a,b]",
        "data.limit=10",
        "model.name=a=b",
        "~logger",
        "+model.kwargs.depth=3",
        "-m",
        "--help",
    ]
    kept += ["--cfg=job", "--config-dir=DIR", "--multirun", "scorer=random,activation", "group@data.root=x"]
    assert as_overrides(kept) == kept


def test_a_sweep_over_paths_is_split_at_its_commas(tmp_path: Path) -> None:
    swept = read("model.checkpoint=epoch=3.ckpt,epoch=5 b.ckpt", "-m")
    assert swept.is_sweep_override()
    assert [str(value) for value in swept.sweep_string_iterator()] == ["'epoch=3.ckpt'", "'epoch=5 b.ckpt'"]
    assert read("data.root=choice(a,b)", "--multirun").is_sweep_override()
    both = tmp_path / "a,b"
    both.mkdir()
    assert read(f"data.root={both}", "-m").value() == str(both)


def test_settings_with_dashes_are_settings() -> None:
    given = ["--scorer=random", "--data.root=a b", "--data.limit=None", "--data.classes=['a', 'b']"]
    assert as_overrides(given) == ["scorer=random", "data.root='a b'", "data.limit=null", "data.classes=['a', 'b']"]


def test_what_follows_no_setting_is_refused_by_its_name(tmp_path: Path) -> None:
    code, _, err = call("search", "--scorerr=random", f"hydra.run.dir={tmp_path / 'run'}")
    assert "There is no setting 'scorerr'. Did you mean 'scorer'?" in check_refusal(code, err)
    code, _, err = call("search", "data=image_folder", "--data.root", "my pictures")
    assert "a setting is given as KEY=VALUE, as in 'data.root=my pictures';" in check_refusal(code, err)


def odd_names(folder: Path) -> tuple[Path, Path]:
    """Pictures and a checkpoint with names that Hydra's grammar does not take."""
    root = pictures.flat_folder(folder / "my data, [v1] = (3)", n=2)
    weights = resources.files("neuron_path.models") / "weights" / "digits_vit.safetensors"
    with resources.as_file(weights) as file:
        return root, Path(shutil.copy(file, folder / "epoch=3-step=100.safetensors"))


def test_relative_paths_of_any_name_hold_wherever_hydra_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, checkpoint = odd_names(tmp_path)
    (tmp_path / "l,1.csv").write_text("0.png,7\n1.png,3\n")
    monkeypatch.chdir(tmp_path)
    data = ["data=image_folder", f"data.root={root.name}", "data.labels=l,1.csv"]
    options = [*data, f"model.checkpoint={checkpoint.name}", "hydra.job.chdir=true"]
    outcome = run_in("my run = 1", "search", *QUICK, *options)
    assert (outcome.code, outcome.err) == (0, "")
    made = neuron_path.load_paths(tmp_path / "my run = 1")
    assert made["label"].tolist() == [7, 3]
    kept = made.attrs["provenance"]["config"]
    assert (kept["data"]["root"], kept["model"]["checkpoint"]) == (str(root), str(checkpoint))
    code, _, err = call("search", *QUICK, *options, "resume=my run = 1", "trainer.threads=1")
    assert (code, err) == (0, "")


def test_paths_of_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/a", "VAL", "test", "train"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir("/")
    given = PruneConfig(run_dir="runs/a", evaluate_on="VAL")
    found = placed(given, str(tmp_path))
    assert (found.run_dir, found.evaluate_on) == (str(tmp_path / "runs/a"), str(tmp_path / "VAL"))
    assert placed(PruneConfig(evaluate_on="test"), str(tmp_path)).evaluate_on == "test"  # a split
    assert Path.cwd() == Path("/")


@pytest.mark.parametrize("option", sorted(file.stem for file in (conf_dir() / "model").glob("*.yaml")))
def test_an_option_in_the_place_of_a_name_is_told(option: str) -> None:
    if option in ("digits_vit", "pruned"):  # which are names too
        _check_model_name(option)
        return
    with pytest.raises(NeuronPathError, match=f"no model but an option of 'model': choose with model={option} instead"):
        _check_model_name(option)


def test_the_command_tells_it_too(tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "search", "model=timm", "model.name=vit_b_16")
    assert "choose with model=vit_b_16 instead" in check_refusal(outcome.code, outcome.err)


def test_a_name_in_the_place_of_an_option_is_told(tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "search", "model=vit_tiny_patch16_224")
    line = check_refusal(outcome.code, outcome.err)
    assert "A model of timm is model=timm model.name=vit_tiny_patch16_224." in line


@pytest.mark.slow
def test_the_sweep_of_the_docs_runs_as_weights_and_biases_calls_it(tmp_path: Path) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    text = (DOCS / "how-to" / "cluster.md").read_text(encoding="utf-8")
    sweep = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    chosen = {
        key: {"value": held.get("value", held.get("values", [None])[0])} for key, held in sweep["parameters"].items()
    }
    filled = create_sweep_command_args({"args": chosen | {"data.limit": {"value": 2}}})
    command: list[str] = []
    for part in create_sweep_command(sweep["command"]):
        command += filled["args"] if part == "${args}" else [part.replace("${program}", sweep["program"])]
    assert command[:3] == ["python", "-m", "neuron_path"]
    assert "--scorer=joint_attribution" in command
    outcome = run_in(tmp_path / "run", *command[3:], "logger.mode=disabled")
    assert (outcome.code, outcome.err) == (0, "")
    made = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (made["config"]["quadrature"]["n_steps"], made["config"]["data"]["limit"]) == (4, 2)
