"""Which processes share a search: this one alone, workers that it starts, or those of torchrun or SLURM."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from neuron_path.config import Config, FileHeadConfig, FittedHeadConfig
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.build import build_shared_trainer, build_trainer
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.launch.runner import Runner
from neuron_path.pipeline.launch.workers import Crew, Workers
from neuron_path.pipeline.work import Work
from neuron_path.tracking import Tracker


@dataclass(frozen=True)
class Processes:
    """How many processes there are.

    Attributes:
        count: in all.
        is_outside: whether torchrun or SLURM has started them, each with the whole command; else this process starts
            workers where there are several.
        rank: which one this is, of those started outside.
        devices: what the Trainer of each takes.
        trainer: this process's; where it starts workers, one that only tells of their devices.
    """

    count: int
    is_outside: bool
    rank: int
    devices: Any
    trainer: lightning.Trainer | None = field(default=None, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where this process computes, the first device of all where it starts workers."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    @property
    def is_first(self) -> bool:
        """Whether this process opens the run directory, merges and reports."""
        return self.rank == 0

    def at_most(self, n: int) -> Processes:
        """No more processes of our own than there are images."""
        if self.is_outside or n >= self.count:
            return self
        n = max(n, 1)
        return Processes(n, False, 0, self.devices[:n] if isinstance(self.devices, list) else n)

    def crew(
        self, config: Config, work: Work, run_dir: Path, tracker: Tracker, lock: int | None
    ) -> AbstractContextManager[Crew]:
        """Who does the stages of a run; in the block they are ready for it.

        Args:
            config: the run's, for the processes that this one starts.
            work: made of it.
            run_dir: where the rows go.
            tracker: of a process that works itself.
            lock: a descriptor that processes which work for this one keep open.
        """
        chosen, head = self.at_most(len(work.study.data.dataset)), work.study.head
        if chosen.is_outside or chosen.count == 1:
            trainer = build_trainer(config.trainer) if chosen.trainer is None else chosen.trainer
            return nullcontext(Runner(work, run_dir, trainer, tracker.log, count=chosen.count, wait=chosen.is_outside))
        if head is not None:  # stored by now, and not to be fitted again
            file = str(run_dir / HEAD_FILE) if head.is_new else head.record["path"]
            config = replace(config, head=FileHeadConfig(path=file))
        order = {
            "config": asdict(config),
            "baselines": [method.scorer.name for method in work.finder.baselines],
            "run_dir": str(run_dir),
            "devices": chosen.devices,
        }
        return Workers([order] * chosen.count, self.device, lock)


def outside_environment() -> ClusterEnvironment | None:
    """What has started several processes of this command, if anything has.

    Raises:
        NeuronPathError: settings that make no processes which could find each other.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a srun does not mean that it is wanted
        kind = next((kind for kind in (TorchElasticEnvironment, SLURMEnvironment) if kind.detect()), None)
    counted = "WORLD_SIZE" if kind is TorchElasticEnvironment else "SLURM_NTASKS"
    count = os.environ.get(counted, "1")
    if kind is None or count == "1":
        return None
    if not count.isdecimal():
        raise NeuronPathError(f"{counted} is '{count}' in the environment; expected a number of processes.")
    try:
        environment = kind()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise NeuronPathError(f"SLURM's tasks cannot be used: {reason}") from error
    if kind is SLURMEnvironment and "SLURM_STEP_ID" not in os.environ:
        raise NeuronPathError(
            f"SLURM has {environment.world_size()} tasks for this job, but they were not started: put srun before the "
            "command, or ask for one task, which starts its own processes by trainer.devices=N."
        )
    return environment


def find_processes(config: Config) -> Processes:
    """The processes that the configuration and the surroundings ask for.

    Raises:
        NeuronPathError: devices that are not there, nodes that nothing has started, a head that each process would fit
            by itself.
    """
    devices, n_nodes = config.trainer.devices, config.trainer.num_nodes
    if isinstance(devices, str) and devices != "auto":
        raise NeuronPathError(f"trainer.devices is '{devices}'; expected a number, a list such as [0,2], or auto.")
    environment = outside_environment()
    if environment is None:
        if n_nodes != 1:
            raise NeuronPathError(
                f"trainer.num_nodes is {n_nodes}, but nothing has started a process on each node: start the command by "
                "torchrun or SLURM's srun (docs/how-to/cluster.md), or leave trainer.num_nodes out."
            )
        if devices == 1:
            return Processes(1, False, 0, 1, build_trainer(config.trainer))
        trainer = build_shared_trainer(config.trainer, devices, plugins=[LightningEnvironment()])
        n = trainer.num_devices
        if n == 1:
            trainer = build_trainer(config.trainer)
        return Processes(n, False, 0, devices if isinstance(devices, list) else n, trainer)
    trainer = build_shared_trainer(config.trainer, devices)
    if environment.world_size() != trainer.num_devices * n_nodes:
        raise NeuronPathError(
            f"{environment.world_size()} processes were started, but trainer.devices={devices} on "
            f"trainer.num_nodes={n_nodes} makes {trainer.num_devices * n_nodes}: let the two agree."
        )
    if isinstance(config.head, FittedHeadConfig):
        raise NeuronPathError(
            "Each of several processes would fit a head of its own: fit it once, by a search with data.limit=1 in one "
            "process, and take its file with head=file head.path=DIR/head.safetensors."
        )
    return Processes(environment.world_size(), True, environment.global_rank(), devices, trainer)


def check_surroundings(is_sweep: bool, is_placed: bool) -> None:
    """Refuse what several processes that were started outside cannot share.

    Args:
        is_sweep: whether the command is one job of a sweep.
        is_placed: whether the command line names the run directory.

    Raises:
        NeuronPathError: a sweep, or a run directory that each process would name by its own clock.
    """
    if outside_environment() is None:
        return
    if is_sweep:
        raise NeuronPathError(
            "Each of the processes that torchrun or srun has started would make the whole sweep: leave out -m, or let "
            "the sweep start its own processes with trainer.devices=N."
        )
    if not is_placed:
        raise NeuronPathError(
            "Several processes were started, and each would choose a run directory by its own clock: add "
            "hydra.run.dir=DIR, or resume=DIR."
        )
