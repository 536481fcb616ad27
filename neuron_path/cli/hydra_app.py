"""Hydra at the edge: composes the configuration, hands it to the pipeline, and says its errors in one line.

The pipeline is imported when there is something to do: help and mistakes in the settings need not wait for it.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from neuron_path.cli import sweep_failures
from neuron_path.cli.overrides import as_overrides
from neuron_path.config import (
    Config,
    PruneConfig,
    conf_dir,
    placed,
    read_config,
    register_schemas,
    takes_list,
    unknown_setting,
)
from neuron_path.errors import NeuronPathError, nearest
from neuron_path.store.recovery import holds_run

AnyConfig = TypeVar("AnyConfig", bound=Config | PruneConfig)

# An evaluation writes into the directory of the run that it evaluates: Hydra has none to make for a job.
_IN_PLACE = ("hydra.run.dir=.", "hydra.sweep.subdir=.")
# Hydra shows it, and matplotlib remarks on the list of fonts that it makes the first time.
logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
_ADVICE = {  # what Hydra says, and what to do
    "Multiple values for": "choose one as GROUP=OPTION, without a +",
    "on a slurm cluster": "start it where SLURM's commands are, or choose hydra/launcher=submitit_local",
    "An item is already at": "give it without the +",
    "must be a string or a list": "choose one as GROUP=OPTION",
    "Merge error": "a group takes one option; add -m for a sweep over several, as in -m scorer=activation,random",
}


def launch(command: str, overrides: Sequence[str]) -> list[NeuronPathError]:
    """Run a command under Hydra with command-line overrides.

    Returns:
        One error for each job that failed; of a sweep, the other jobs were run all the same.

    Raises:
        NeuronPathError: the overrides make no configuration.
    """
    in_place = _IN_PLACE if command == "evaluate" else ()
    overrides = _flags_last([*as_overrides(overrides), *in_place])
    sweep_failures.begin()
    register_schemas()
    home = os.getpid()
    failures: list[NeuronPathError] = []
    unforeseen: list[Exception] = []

    def app(composed: DictConfig) -> None:
        # Kept from Hydra, which would print the overrides above the one line.
        register_schemas()  # a launcher may have started this process
        job = HydraConfig.get()
        run_dir = Path(job.runtime.output_dir)
        if command != "evaluate":  # which has no directory of its own
            sweep_failures.take_away(run_dir)
        try:
            if command == "prune":
                _prune(composed)
            else:
                _do(command, _read(composed))
        except NeuronPathError as error:
            failure = _of_job(error)
            if job.mode == RunMode.MULTIRUN:
                sweep_failures.leave(job.sweep.dir, job.job.num, failure)
                if command != "evaluate":
                    sweep_failures.keep(run_dir, failure)
            failures.append(failure)
        except Exception as error:
            if os.getpid() != home:
                raise
            unforeseen.append(error)

    with _as_program(f"neuron-path {command}", overrides):
        _start(app, "prune" if command == "prune" else "config")
    if unforeseen:
        raise unforeseen[0]
    known = {sweep_failures.as_line(failure) for failure in failures}  # jobs elsewhere could add to their own list only
    return [*failures, *(NeuronPathError(line) for line in sweep_failures.collected() if line not in known)]


def compose_config(overrides: Sequence[str]) -> Config:
    """The configuration that overrides make, without a run.

    Raises:
        NeuronPathError: they make none.
    """
    register_schemas()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = compose("config", as_overrides(overrides))
        return read_config(composed)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise NeuronPathError(explain(error)) from error


def _start(app: Callable[[DictConfig], None], config_name: str) -> None:
    """Let Hydra run the app, once or as a sweep, and say its errors in our words."""
    decorate = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)
    try:
        decorate(app)()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        if sweep := sweep_failures.sweep_directory():
            error.add_note(f"To continue, give the same command with hydra.sweep.dir={shlex.quote(sweep)}.")
        raise
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        raise NeuronPathError(explain(error)) from error
    except RuntimeError as error:
        if "slurm" not in str(error):
            raise
        raise NeuronPathError(explain(error)) from error


def _prune(composed: DictConfig) -> None:
    from neuron_path.pipeline.pruning.command import prune
    from neuron_path.pipeline.pruning.settings import read_prune_config

    try:
        config = _in_place(read_prune_config(composed))
    except OmegaConfBaseException as error:
        raise NeuronPathError(explain(error)) from error
    prune(_grouped(config), Path(HydraConfig.get().runtime.output_dir))


def _do(command: str, config: Config) -> None:
    from neuron_path.pipeline import run

    job = HydraConfig.get()
    if command == "evaluate":
        run.evaluate(config, [_key(override) for override in job.overrides.task])
    elif config.run_dir is not None:
        raise NeuronPathError(
            f"run_dir names the run that neuron-path evaluate measures; where neuron-path {command} writes is "
            "hydra.run.dir=DIR."
        )
    else:
        run_dir = _placed(config, job)
        try:
            run.COMMANDS[command](_grouped(config), run_dir)
        except KeyboardInterrupt as error:
            if job.mode != RunMode.MULTIRUN and holds_run(run_dir):
                error.add_note(f"To continue, add resume={shlex.quote(str(run_dir))} to the same command.")
            raise


def _placed(config: Config, job: HydraConf) -> Path:
    """Where a search writes, all its processes and all that continue it.

    Raises:
        NeuronPathError: a place that cannot be shared, or nothing to resume there.
    """
    from neuron_path.pipeline.launch.processes import check_surroundings

    is_sweep, run_dir = job.mode == RunMode.MULTIRUN, Path(job.runtime.output_dir)
    named = any(_key(override) == "hydra.run.dir" for override in job.overrides.hydra)
    check_surroundings(is_sweep, named or config.resume is not None)
    if config.resume is None:
        return run_dir
    if is_sweep:
        raise NeuronPathError(
            "resume is for one run: leave it out; a sweep goes on with the same command and hydra.sweep.dir=DIR."
        )
    if run_dir.resolve() != Path(config.resume).resolve():
        raise NeuronPathError(
            f"resume is '{config.resume}' and hydra.run.dir '{run_dir}': a search goes on where it is, so give one."
        )
    if not holds_run(run_dir):
        with suppress(OSError):  # Hydra has made it; what is not empty stays
            run_dir.rmdir()
        raise NeuronPathError(
            f"There is nothing to resume in '{config.resume}': give the directory of a search with stored paths, or "
            "leave resume out."
        )
    return run_dir


def _key(override: str) -> str:
    """The setting that an override names.

    >>> _key("+model.kwargs.depth=3")
    'model.kwargs.depth'
    """
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


@contextmanager
def _as_program(name: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read these arguments, and hand exceptions on where it would print and exit."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [name, *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _flags_last(arguments: Sequence[str]) -> list[str]:
    """The same arguments with Hydra's flags behind the settings, which its parser wants in one piece.

    Raises:
        NeuronPathError: unknown flags, in one line, before Hydra's own parser prints its usage.

    >>> _flags_last(["data.limit=1", "-m", "seed=0,1"])
    ['data.limit=1', 'seed=0,1', '-m']
    """

    def refuse(message: str) -> NoReturn:
        flag = re.search(r"arguments: --?([\w.]+)(?:[= ](.+))?$", message)
        example = flag and shlex.quote(f"{flag[1]}={flag[2] or 'VALUE'}")
        given = f"a setting is given as KEY=VALUE, as in {example}; " if example else ""
        raise NeuronPathError(f"{message[:1].upper()}{message[1:]}: {given}neuron-path run --help shows the settings.")

    parser = get_args_parser()
    parser.error = refuse
    flags, settings = list(arguments), parser.parse_intermixed_args(list(arguments)).overrides
    for setting in settings:
        flags.remove(setting)
    return [*settings, *flags]


def _read(composed: DictConfig) -> Config:
    try:
        return _in_place(read_config(composed))
    except OmegaConfBaseException as error:
        raise NeuronPathError(explain(error)) from error


def _in_place(config: AnyConfig) -> AnyConfig:
    """The same with the paths that were given, where Hydra has changed the working directory."""
    job = HydraConfig.get()
    return placed(config, job.runtime.cwd) if job.job.chdir else config


def _grouped(config: AnyConfig) -> AnyConfig:
    """Of a sweep, all jobs share a group: the sweep directory's name, unless another is given."""
    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN and config.logger.group is None:
        config.logger.group = Path(job.sweep.dir).name or None
    return config


def _of_job(error: NeuronPathError) -> NeuronPathError:
    """The error of one job of a sweep, which says of which."""
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return error
    named = NeuronPathError(f"Job {job.job.num} ({job.job.override_dirname}): {error}")
    named.__cause__ = error
    return named


def explain(error: Exception) -> str:
    """One line for an error of the configuration or of the run directory."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return _explain_value(cause)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        return (
            f"Cannot read the override '{error.override}': expected KEY=VALUE, as in data.limit=10; a value with "
            "special characters needs quotes of its own, as in 'data.classes=[\"fox, red\"]'."
        )
    if isinstance(error, OSError):
        return f"Cannot write the run directory ({error}): choose another with hydra.run.dir=DIR."
    message = _first(error)
    if several := re.fullmatch(r"Ambiguous value for argument '([^=]*)=(.*)'", message):
        return f"{message}: {_for_several(several[1], several[2])}."
    advice = next((f": {advice}" for begin, advice in _ADVICE.items() if begin in message), "")
    return f"{message}{advice}."


def _for_several(key: str, values: str) -> str:
    """What to do with several values of a setting, or several options of a group."""
    if (conf_dir() / key).is_dir():
        return f"a group takes one option; add -m for a sweep over several, as in -m {key}={values}"
    if takes_list(key):
        as_list = shlex.quote(f"{key}=[{values}]")
        return f"add -m for a sweep over the values, or brackets for a list, as in {as_list}"
    return f"add -m for a sweep over the values, as in -m {shlex.quote(f'{key}={values}')}"


def _explain_value(cause: OmegaConfBaseException) -> str:
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.key is not None:
        return unknown_setting(str(cause.full_key), cause.parent_node)
    if isinstance(cause, MissingMandatoryValue | InterpolationKeyError):
        return f"The setting '{cause.full_key}' must be given: add {cause.full_key}=VALUE."
    if isinstance(cause, ValidationError):
        return f"The setting '{cause.full_key}' does not fit: {_kind_advice(cause) or _first(cause)}."
    return f"{_first(cause)}."


def _kind_advice(error: ValidationError) -> str:
    """What kind of value a setting takes, and the given one as that where it can be; nothing for other kinds."""
    message, key, value = _first(error), error.full_key, error.value
    if "is not Optional" in message:
        return "null is no value of it" + (f"; an empty list is {key}=[]" if takes_list(str(key)) else "")
    if "not a ListConfig" in message and isinstance(value, str | int | float):
        items = "" if str(value).lower() in ("", "none") else value
        return f"it is a list, as in {shlex.quote(f'{key}=[{items}]')}"
    if "could not be converted to Integer" in message:
        is_whole = isinstance(value, float) and value.is_integer()
        return f"'{value}' is no whole number, as in {key}={int(value) if is_whole else 10}"
    kinds = {
        "could not be converted to Float": f"'{value}' is no number, as in {key}=0.5",
        "is not a valid bool": f"'{value}' is neither true nor false",
        " to Dict": f"it is a mapping, as in +{key}.NAME=VALUE",
    }
    return next((advice for kind, advice in kinds.items() if kind in message), "")


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(name) for name in error.options or ()]
    if not group or not options:
        return f"{_first(error)}."
    own = f" A model of timm is model=timm model.name={option}." if group == "model" else ""
    return f"There is no option '{option}' of '{group}'.{nearest(option, options)}{own} Options: {', '.join(options)}."


def _first(error: Exception) -> str:
    """An outside error's first line, and the next where it only announces that."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".!")
