"""From the configuration to the objects of a run, every mistake found before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from inspect import signature
from itertools import pairwise
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.attribution.target import Target
from neuron_path.config import Config, FileHeadConfig, FittedHeadConfig, TrainerConfig, options_of
from neuron_path.data.labels import are_numbers
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch, ImageDataModule, Unlabelled
from neuron_path.lightning.search import TargetRule
from neuron_path.models.classes import class_names
from neuron_path.models.heads import attach_head
from neuron_path.models.loading import EMBEDDED, load_model
from neuron_path.models.session import Session
from neuron_path.pipeline.head import ChosenHead, fit_head, read_head
from neuron_path.pipeline.images import build_data, preprocessing_of, reference_of
from neuron_path.pipeline.lending import DataLender
from neuron_path.pipeline.work import Study, Work
from neuron_path.progress import hushed
from neuron_path.pruning.description import PRUNED
from neuron_path.pruning.saved import load_pruned
from neuron_path.search.chunk import Lender
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import searches
from neuron_path.search.searches.greedy import Greedy
from neuron_path.search.settings import SearchSettings

_CPU = torch.device("cpu")


def build_work(config: Config, baselines: Sequence[str], device: torch.device = _CPU) -> Work:
    """All that the stages need: model and data, the methods, and what is measured.

    Args:
        config: the configuration.
        baselines: scorers beside the run's own.
        device: where a head is fitted.

    Raises:
        NeuronPathError: whatever is wrong with any of them.
    """
    study = build_study(config, device)
    lender = build_lender(config, study)
    return Work(
        study,
        build_finder(config, study.session, baselines, lender),
        lender,
        config.evaluation,
        config.seed,
        config.data.on_error,
        config.data.max_skipped,
        config.trainer.threads,
        getattr(config.data, "root", None),
    )


def build_lender(config: Config, study: Study) -> DataLender:
    """Who lends other images' activations: the run's own images, or the evaluation's reference."""
    name = config.evaluation.reference
    reference = None
    if name is not None:
        other = replace(config, data=reference_of(config.data, name))
        reference = name, lambda: build_data(other, study.session.model)
    return DataLender(study, config.seed, reference, strict=config.data.on_error == "raise")


def build_study(config: Config, device: torch.device = _CPU) -> Study:
    """Load the model, find the images, and give the model its head.

    Raises:
        NeuronPathError: whatever is wrong with either, or labels that are not the model's classes.
    """
    if not 0 <= config.seed < 2**32:
        raise NeuronPathError(f"seed is {config.seed}; expected 0 … {2**32 - 1}.")
    lightning.seed_everything(config.seed, verbose=False)
    _build_method(config)  # a mistake in it is reported before weights are loaded and a head is fitted
    model = build_model(config)
    is_fitted = isinstance(config.head, FittedHeadConfig)
    head = None if is_fitted else build_head(config, model, device)
    data = build_data(config, model, is_fitted=is_fitted)
    if is_fitted:  # after the data: a mistake in it is reported before a head is fitted
        head = build_head(config, model, device)
    session = Session(model, config.token_scope, config.units)
    return Study(session, data, build_targets(config, session.adapter.n_classes, data, class_names(model)), head)


def build_model(config: Config) -> nn.Module:
    """The model that the configuration names."""
    model = config.model
    if model.name == PRUNED:
        if model.kwargs or model.pretrained or model.checkpoint is None:
            raise NeuronPathError(
                "model=pruned takes a folder only, and no other setting of the model: give it as model.checkpoint=DIR."
            )
        return load_pruned(model.checkpoint)
    for name in ("name", "checkpoint", "checkpoint_key", "pretrained"):
        if name in model.kwargs:
            raise NeuronPathError(f"The setting 'model.kwargs.{name}' is given elsewhere: set model.{name} instead.")
    return load_model(
        model.name,
        checkpoint=model.checkpoint,
        checkpoint_key=model.checkpoint_key,
        pretrained=model.pretrained,
        **model.kwargs,
    )


def model_name(config: Config, model: nn.Module) -> str:
    """The model's name: the configuration's, or that of the architecture which the checkpoint names."""
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    name = config.model.name or EMBEDDED
    return str(architecture) if name == EMBEDDED and architecture else name


def build_head(config: Config, model: nn.Module, device: torch.device) -> ChosenHead | None:
    """Put the configured head on the model, fitted on a device; None where the model keeps its own classifier.

    Raises:
        NeuronPathError: a model without a classifier that gets none, or a head that is not to be had or does not fit.
    """
    options = config.head
    if isinstance(options, FileHeadConfig):
        chosen = read_head(options)
    elif isinstance(options, FittedHeadConfig):
        chosen = fit_head(options, config.data, model, preprocessing_of(config), device)
    else:
        if getattr(model, "num_classes", 1) == 0:
            raise NeuronPathError(
                f"The model '{model_name(config, model)}' has 0 classes, only features: give it a head from a file, "
                "head=file head.path=FILE, or one fitted on labelled pictures, head=linear_probe head.root=DIR."
            )
        return None
    attach_head(model, chosen.head)
    return chosen


def build_targets(config: Config, n_classes: int, data: ImageDataModule, classes: Sequence[str] = ()) -> TargetRule:
    """The rule `target_class: auto | label | prediction | <class index>`; `classes` are the model's names, where known.

    Folders that are not the model's classes are no labels: but for `label`, the data then counts as unlabelled.

    Raises:
        NeuronPathError: none of these, a class that the model does not have, or labels that are not its classes.
    """
    rule, each_label = config.target_class, getattr(config.data, "each_label", False)
    if each_label and rule not in ("auto", "label"):
        raise NeuronPathError(
            f"data.each_label makes a row of each label, but target_class={rule} drives another class: leave one of "
            "them out."
        )
    is_indexed = getattr(data.dataset, "is_indexed", False)
    advice = "give data.class_index=FILE.json ({folder: class index})"
    if are_numbers(data.dataset.classes):
        advice = (
            "say data.class_index=number (folders are class indices), data.class_index=natural (2 stands before 10, as "
            "with timm) or data.class_index=text (10 before 2, as with torchvision)"
        )
    if is_indexed:
        advice = "fix the labels or data.class_index"
    if unlike := _unlike_labels(n_classes, data, is_indexed, classes):
        if rule == "label" or each_label or (rule == "auto" and is_indexed):
            raise NeuronPathError(f"{unlike}: {advice}, or use target_class=prediction.")
        if rule == "auto":
            warnings.warn(
                f"{unlike}: the pictures count as unlabelled, and their paths drive the predicted classes. To use the "
                f"labels {advice}.",
                stacklevel=2,
            )
        data.dataset = Unlabelled(data.dataset)
    if rule == "prediction":
        return lambda batch: None
    if rule in ("auto", "label"):
        return _labels
    try:
        constant = int(rule)
    except ValueError:
        raise NeuronPathError(f"target_class is '{rule}'; expected auto, label, prediction or a class index.") from None
    if not 0 <= constant < n_classes:
        raise NeuronPathError(
            f"target_class is {constant}, which is no class of this model: expected 0 … {n_classes - 1}."
        )
    return lambda batch: [constant] * len(batch)


def build_finder(
    config: Config, session: Session, baselines: Sequence[str], lender: Lender | None = None
) -> PathFinder:
    """The configured method, and the baselines, which take the greedy search.

    Args:
        config: of the method.
        session: the model.
        baselines: further scorers.
        lender: gives a search what it needs of other images.
    """
    method, settings = _build_method(config)
    seeded = [name for name, scorer in scorers if "seed" in signature(scorer).parameters]
    others = [
        Method(scorers.create(name, **({"seed": config.seed} if name in seeded else {})), Greedy())
        for name in dict.fromkeys(baselines)
        if name != method.scorer.name
    ]
    return PathFinder(session, method, settings, others, lender=lender)


def _build_method(config: Config) -> tuple[Method, SearchSettings]:
    scorer = scorers.create(config.scorer.name, **options_of(config.scorer))
    search = searches.create(config.search.name, **options_of(config.search))
    settings = SearchSettings(
        build_quadrature(config),
        target_of(config),
        top_k=config.top_k,
        per_block=config.per_block,
        micro_batch=config.micro_batch,
        memory_budget=config.memory_budget,
        precision=config.precision,
        compile=config.compile,
    )
    return Method(scorer, search), settings


def target_of(config: Config) -> Target:
    """What the configuration attributes."""
    return Target(config.target, config.contrast_class)


def build_quadrature(config: Config) -> Quadrature:
    """The rule that the configuration names."""
    return Quadrature(**asdict(config.quadrature))


def build_trainer(config: TrainerConfig) -> lightning.Trainer:
    """A Trainer for prediction with gradients in this process alone, quiet but for our own callbacks."""
    devices = config.devices
    alone = devices[:1] if isinstance(devices, list) else 1
    # Lightning's own environment, whatever started this process: alone is alone.
    return _trainer(config, devices=alone, plugins=[LightningEnvironment()])


def build_shared_trainer(config: TrainerConfig, devices: Any, **kwargs: Any) -> lightning.Trainer:
    """A Trainer for this process and its siblings; each takes its share of the data by itself.

    They speak to each other before the first batch and after the last one only, of small things and on the CPU.
    """
    # Between two stages the others wait for the first process, which merges what all have found.
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(days=1))
    return _trainer(
        config,
        devices=devices,
        num_nodes=config.num_nodes,
        strategy=strategy,
        use_distributed_sampler=False,
        **kwargs,
    )


def _trainer(config: TrainerConfig, **kwargs: Any) -> lightning.Trainer:
    try:
        with quiet():
            return lightning.Trainer(
                accelerator=config.accelerator,
                inference_mode=False,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                **kwargs,
            )
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise NeuronPathError(
            f"The trainer cannot be made: {reason} Choose trainer=auto or trainer=cpu, and for trainer.devices auto, a "
            "number from 1 or a list of GPUs."
        ) from error


def predict(
    trainer: lightning.Trainer, module: lightning.LightningModule, data: lightning.LightningDataModule
) -> torch.device:
    """Run a module over the data, quietly, and return the device; the model stays there.

    Raises:
        KeyboardInterrupt: by Ctrl-C, which Lightning itself would make an exit without a word.
    """
    try:
        with quiet():
            trainer.predict(module, datamodule=data, return_predictions=False)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    device = trainer.strategy.root_device
    module.to(device)  # Lightning takes it to the CPU when it is done
    return device


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks about itself off the screen."""
    with hushed("lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def device_name(device: torch.device) -> str:
    """A device in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _labels(batch: Batch) -> list[int] | None:
    labels = [label for label in batch.labels if label is not None]
    return labels if len(labels) == len(batch) else None


def _unlike_labels(n_classes: int, data: ImageDataModule, is_indexed: bool, classes: Sequence[str]) -> str | None:
    """Why the data's labels are not the model's classes, if so."""
    names = data.dataset.classes
    if not names:
        return None
    largest = max((label for label in data.dataset.labels if label is not None), default=0)
    if largest >= n_classes:
        return f"The data has label {largest}, which is outside the model's classes 0 … {n_classes - 1}"
    is_ordered = getattr(data.dataset, "is_ordered", False)
    return None if is_indexed else _unlike_order(names, n_classes, classes, is_ordered)


def _unlike_order(names: Sequence[str], n_classes: int, classes: Sequence[str], is_ordered: bool) -> str | None:
    """Why classes that are numbered by their order are not the model's: they must be all of them."""
    if len(names) != n_classes and classes:
        stranger = next((name for name in names if name not in classes), names[0])
        return f"The data's class '{stranger}' is none of the model's {n_classes}, {', '.join(classes[:3])}, …"
    if len(names) != n_classes:
        return f"The data has {len(names)} classes and the model {n_classes}, so it is not clear which is which"
    for own, theirs in zip(names, classes, strict=False):
        if own != theirs:
            return f"The data's class '{own}' stands where the model has '{theirs}'"
    if not (classes or is_ordered) and (unclear := _unclear_order(names)):
        return f"The data's class '{unclear[0]}' stands before '{unclear[1]}' as text and behind it as a number"
    return None


def _unclear_order(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names in a row that are numbers in another order; some libraries number folders as text, some as numbers."""
    if not are_numbers(names):
        return None
    return next((pair for pair in pairwise(names) if float(pair[0]) > float(pair[1])), None)
