"""An option has the same default in Python as on the command line, wherever both have it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra import compose
from omegaconf import DictConfig, OmegaConf

import neuron_path
from neuron_path.attribution.quadrature import RULES, Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.attribution.target import Target
from neuron_path.classes import runs
from neuron_path.classes.analysis import analyze_classes
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.data.huggingface import HuggingFaceDataset
from neuron_path.data.shards import ShardDataset
from neuron_path.evaluation import contrasts
from neuron_path.evaluation.comparison import compare
from neuron_path.interventions.operations import factor_of
from neuron_path.lightning.fine_tuning import Recipe
from neuron_path.models.heads import fit_linear_head
from neuron_path.pruning.cost import measure_latency
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings
from tests.command import composing


@pytest.fixture(autouse=True)
def composer() -> Iterator[None]:
    """Hydra's compose on `conf/`."""
    with composing():
        yield


def in_python(made: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function or class."""
    parameters = inspect.signature(made).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def on_the_command_line(group: str, *overrides: str, config: str = "config") -> dict[str, Any]:
    """The settings of a group, or with an empty name those of no group."""
    node = compose(config, list(overrides))
    chosen = OmegaConf.select(node, group) if group else node
    assert isinstance(chosen, DictConfig)
    return {str(name): chosen[name] for name in chosen if not OmegaConf.is_missing(chosen, name)}


@pytest.mark.parametrize(("name", "made"), list(scorers))
def test_of_scorers(name: str, made: type) -> None:
    assert on_the_command_line("scorer", f"scorer={name}") == in_python(made) | {"name": name}


@pytest.mark.parametrize(("name", "made"), list(searches))
def test_of_searches(name: str, made: type) -> None:
    assert on_the_command_line("search", f"search={name}") == in_python(made) | {"name": name}


@pytest.mark.parametrize("rule", RULES)
def test_of_quadratures(rule: str) -> None:
    own = on_the_command_line("quadrature", f"quadrature={rule}")
    python = dataclasses.asdict(Quadrature(rule))
    assert own == {name: python[name] for name in own}
    assert own.keys() == python.keys() or rule != "adaptive"


SAME = {
    # what: (its defaults in Python, those on the command line, the options that both have)
    "a search": (
        neuron_path.find_paths,
        ("",),
        {
            "target",
            "contrast_class",
            "token_scope",
            "top_k",
            "per_block",
            "micro_batch",
            "memory_budget",
            "precision",
            "compile",
        },
    ),
    "settings of a search": (
        SearchSettings,
        ("",),
        {"top_k", "per_block", "micro_batch", "memory_budget", "precision", "compile"},
    ),
    "a target": (Target, ("",), {"contrast_class"}),
    "scores": (neuron_path.score_paths, ("",), {"target", "token_scope"}),
    "interventions": (neuron_path.intervene, ("evaluation",), {"tokens"}),
    "a model": (neuron_path.load_model, ("model",), {"checkpoint", "pretrained"}),
    "a fitted head": (fit_linear_head, ("head", "head=linear_probe"), {"C", "max_iter"}),
    "fine-tuning": (
        Recipe,
        ("fine_tune", "run_dir=x"),
        {"epochs", "learning_rate", "batch_size", "weight_decay", "label_smoothing", "shift", "clip"},
    ),
    "latency": (measure_latency, ("latency", "run_dir=x"), {"batch_sizes", "rounds", "seconds"}),
    "a folder": (ImageFolderDataset, ("data", "data=image_folder", "data.root=x"), {"limit"}),
    "shards": (ShardDataset, ("data", "data=webdataset", "data.root=x"), {"limit"}),
    "a data set of Hugging Face": (HuggingFaceDataset, ("data", "data=huggingface", "data.root=x"), {"limit"}),
}


@pytest.mark.parametrize("what", SAME)
def test_of(what: str) -> None:
    made, (group, *overrides), names = SAME[what]
    config = "prune" if group in ("fine_tune", "latency") else "config"
    python, own = in_python(made), on_the_command_line(group, *overrides, config=config)
    assert names <= python.keys() & own.keys()
    assert {name: _plain(python[name]) for name in names} == {name: _plain(own[name]) for name in names}


def test_of_the_parts_of_a_search() -> None:
    python, own = in_python(neuron_path.find_paths), compose("config")
    assert (python["scorer"], python["search"], python["quadrature"]) == (
        own.scorer.name,
        own.search.name,
        own.quadrature.rule,
    )


def test_of_the_factor_of_enhancing() -> None:
    assert compose("config").evaluation.factor == factor_of("enhance")


@pytest.mark.parametrize(("made", "settings"), [(compare, contrasts.Settings), (analyze_classes, runs.Settings)])
def test_of_commands_without_a_configuration(made: Callable[..., Any], settings: type) -> None:
    python, own = in_python(made), in_python(settings)
    assert python == {name: own[name] for name in python}


def _plain(value: Any) -> Any:
    return tuple(value) if OmegaConf.is_list(value) else value
