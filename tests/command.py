"""Calling the command line inside the test's own process, as a user would from a shell."""

from __future__ import annotations

import copy
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from neuron_path.attribution.scorer import scorers
from neuron_path.cli import hydra_app, main
from neuron_path.config import conf_dir, register_schemas
from neuron_path.search.search import searches

RESULTS = (
    "paths.parquet",
    "effects.parquet",
    "scores.parquet",
    "parts",
    "figures",
    "report.html",
    "run.json",
    "metrics.json",
    "SHA256SUMS",
)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str
    run_dir: Path

    @property
    def results(self) -> list[str]:
        """Result files and folders that exist in the run directory."""
        return [name for name in RESULTS if (self.run_dir / name).exists()] if self.run_dir.is_dir() else []

    def is_refusal(self) -> bool:
        """Whether it failed in exactly one line and left no result."""
        one_line = self.err.count("\n") == 1 and self.err.startswith("neuron-path: error: ")
        return self.code != 0 and one_line and self.out == "" and self.results == []


_get_mode = Hydra.get_mode


def _mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Hydra composes twice, at first to learn whether the configuration makes a sweep: only experiments do."""
    return _get_mode(self, config_name, overrides) if any("experiment" in one for one in overrides) else None


_compose, _load = ConfigLoaderImpl._compose_config_from_defaults_list, ConfigRepository.load_config
_listed: dict[str, DefaultsList] = {}
_composed: dict[str, DictConfig] = {}
_loaded: dict[str, Any] = {}


def _listed_once(repo: Any, config_name: str | None, overrides_list: list[Any], **options: bool) -> DefaultsList:
    """The same choices of groups name the same files; all other overrides are settings in them."""
    settings = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
    choices = [one for one in overrides_list if not any(one is other for other in settings)]
    key = repr((repo.get_sources(), config_name, [one.input_line for one in choices], options))
    if key not in _listed:
        _listed[key] = create_defaults_list(repo, config_name, choices, **options)
    return replace(_listed[key], config_overrides=settings)


def _composed_once(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
    """The same files in the same order make the same; the command line's overrides are merged into a copy of it."""
    key = repr((repo.get_sources(), defaults))
    if key not in _composed:
        with patch.object(ConfigRepository, "load_config", _load):  # merging takes them apart
            _composed[key] = _compose(self, defaults, CachingConfigRepository(repo.delegate))
    return copy.deepcopy(_composed[key])


def _loaded_once(self: ConfigRepository, config_path: str) -> Any:
    """A file or schema as it was read before, only to be looked at."""
    key = repr((self.sources, config_path))
    if key not in _loaded:
        _loaded[key] = _load(self, config_path)
    return _loaded[key]


@cache
def _registered(*_: str) -> None:
    register_schemas()


def _registered_once() -> None:
    """The schemas stay where they are, unless there is another part with one."""
    _registered(*scorers.names(), *searches.names())


@contextmanager
def quick_hydra() -> Iterator[None]:
    """Hydra reads and merges schemas and the files of `conf/` once in a process, not for each command."""
    with (
        patch.object(hydra_app, "register_schemas", _registered_once),
        patch.object(Hydra, "get_mode", _mode),
        patch.object(Hydra, "format_config_groups", lambda *_: ""),  # no help of ours shows them
        patch.object(config_loader_impl, "create_defaults_list", _listed_once),
        patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", _composed_once),
        patch.object(ConfigRepository, "load_config", _loaded_once),
    ):
        yield


@contextmanager
def composing() -> Iterator[None]:
    """Hydra's compose on `conf/`."""
    GlobalHydra.instance().clear()
    _registered_once()
    with quick_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; logging and threads are put back as they were."""
    out, err = io.StringIO(), io.StringIO()
    handlers, level, threads = list(logging.root.handlers), logging.root.level, torch.get_num_threads()
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err), quick_hydra():
            main(arguments)
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        torch.set_num_threads(threads)
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue()


def run_in(run_dir: str | os.PathLike[str], *arguments: str, threads: bool = True) -> Outcome:
    """A command with a run directory of its own; one thread, so that numbers do not depend on the machine's load."""
    fixed = ["trainer.threads=1"] if threads else []
    return Outcome(*call(*arguments, f"hydra.run.dir={run_dir}", *fixed), Path(run_dir))


def start(said: Path, *arguments: str) -> int:
    """A command in a process of its own, which leads a session; its process id.

    A fork of the test's process has all libraries loaded: only so are there many commands in a minute. What it prints
    goes into `said` with the suffixes .out and .err.
    """
    child = os.fork()
    if child:
        return child
    code: object = 1
    try:
        os.setsid()
        torch.set_num_threads(1)
        for stream, suffix in ((1, ".out"), (2, ".err")):  # for its workers too, which know nothing of sys.stderr
            os.dup2(os.open(said.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
        with quick_hydra():
            main(arguments)
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 1)
