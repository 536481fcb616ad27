"""The settings of `neuron-path prune`, read and checked."""

from __future__ import annotations

from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from neuron_path.config import PruneConfig, check_keys
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.lightning.fine_tuning import Recipe
from neuron_path.pruning.allocation import Allocation
from neuron_path.pruning.methods import check_method
from neuron_path.types import UnitsName

Budget = Literal["units", "flops"]
"""What kept shares are of: the neurons or heads that are pruned, or the whole model's operations."""


def read_prune_config(composed: DictConfig) -> PruneConfig:
    """The typed and checked configuration.

    Raises:
        NeuronPathError: keys added with `+` that no code reads, or settings out of range.
        OmegaConfBaseException: a mandatory setting that is missing.
    """
    check_keys(composed)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, PruneConfig)
    if config.run_dir is None:
        raise NeuronPathError("Whose paths are to rank the neurons must be said: neuron-path prune run_dir=DIR.")
    for name in (config.method, *config.methods):
        check_method(name)
    for share in (config.keep, *config.shares):
        if not 0 < share <= 1:
            raise NeuronPathError(f"A kept share is {share}; expected a number above 0, up to 1, as in keep=0.5.")
    _check_choice("choice of units", config.units or "ffn", UnitsName)
    _check_choice("budget", config.budget, Budget)
    _check_choice("allocation", config.allocation, Allocation)
    if not config.seeds or len(set(config.seeds)) < len(config.seeds) or min(config.seeds) < 0:
        raise NeuronPathError(f"seeds is {config.seeds}; expected one or more different ones, 0 or above, such as [0].")
    if config.classes is not None and not config.classes:
        raise NeuronPathError("classes is empty: name at least one class, or give null for all.")
    if config.batch_size < 1:
        raise NeuronPathError(f"batch_size is {config.batch_size}; expected at least 1.")
    latency, share = config.latency, config.selection_share
    if latency.rounds < 0:
        raise NeuronPathError(f"latency.rounds is {latency.rounds}; expected at least 0.")
    if not latency.seconds > 0:
        raise NeuronPathError(f"latency.seconds is {latency.seconds}; expected a number above 0, such as 60.")
    if any(size < 1 for size in latency.batch_sizes):
        raise NeuronPathError(
            f"latency.batch_sizes is {latency.batch_sizes}; expected sizes from 1 on, such as [1,32]."
        )
    if share is not None and not 0 < share < 1:
        raise NeuronPathError(f"selection_share is {share}; expected a number between 0 and 1, as in 0.5.")
    recipe_of(config)
    return config


def _check_choice(what: str, name: str, known: Any) -> None:
    if name not in get_args(known):
        raise unknown_name(what, name, get_args(known))


def recipe_of(config: PruneConfig) -> Recipe:
    """How pruned models are trained.

    Raises:
        NeuronPathError: a setting out of range.
    """
    return Recipe(**vars(config.fine_tune))
