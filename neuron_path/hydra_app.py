"""Hydra at the edge: composes the configuration, hands it to the pipeline, and says its errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from neuron_path.config import Config, conf_dir, register_schemas
from neuron_path.errors import NeuronPathError, nearest
from neuron_path.pipeline import run

_GROUPS = ("experiment", "hydra")


def launch(command: str, overrides: Sequence[str]) -> None:
    """Run a command under Hydra with command-line overrides."""
    register_schemas()
    task = {"run": run.run, "search": run.search}[command]

    failures: list[NeuronPathError] = []

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    def app(composed: DictConfig) -> None:
        config, plain = read_config(composed)
        job = HydraConfig.get()
        try:
            task(config, plain, Path(job.runtime.output_dir))
        except NeuronPathError as error:
            if job.mode == RunMode.MULTIRUN:
                raise  # Hydra notes which job failed and goes on with the others
            failures.append(error)  # past Hydra, which would print the overrides above the one line

    before = sys.argv
    sys.argv = [f"neuron-path {command}", *overrides]
    try:
        app()
    finally:
        sys.argv = before
    for error in failures:
        raise error


def read_config(composed: DictConfig) -> tuple[Config, dict[str, Any]]:
    """The typed configuration and the same as plain mappings.

    Raises:
        NeuronPathError: keys added with `+` that no code reads.
    """
    known = [field.name for field in fields(Config)]
    for key in composed:
        if str(key) not in known:
            raise NeuronPathError(_unknown_key(str(key), known))
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    return config, {str(name): value for name, value in plain.items()}


def explain(error: Exception) -> str | None:
    """One line for an error of the configuration or of the run directory; None for anything unforeseen."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        return _explain_value(cause)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        return f"Cannot read the override '{error.override}': expected KEY=VALUE, as in data.limit=10."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"{_first(error)}."
    if isinstance(error, OSError):
        return f"Cannot write the run directory ({error}): choose another with hydra.run.dir=DIR."
    return None


def _explain_value(cause: OmegaConfBaseException) -> str:
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.key is not None:
        siblings = [str(name) for name in cause.parent_node] if isinstance(cause.parent_node, DictConfig) else []
        top_level = str(cause.full_key) == str(cause.key)
        return _unknown_key(str(cause.full_key), siblings + list(_GROUPS if top_level else ()))
    if isinstance(cause, MissingMandatoryValue | InterpolationKeyError):
        return f"The setting '{cause.full_key}' must be given: add {cause.full_key}=VALUE."
    if isinstance(cause, ValidationError):
        return f"The setting '{cause.full_key}' does not fit: {_first(cause)}."
    return f"{_first(cause)}."


def _unknown_key(full_key: str, siblings: Sequence[str]) -> str:
    parent, _, key = full_key.rpartition(".")
    where = f" of '{parent}'" if parent else ""
    return f"There is no setting '{full_key}'.{nearest(key, siblings)} Settings{where}: {', '.join(siblings)}."


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(name) for name in error.options or ()]
    if not group or not options:
        return f"{_first(error)}."
    return f"There is no option '{option}' of '{group}'.{nearest(option, options)} Options: {', '.join(options)}."


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
