"""What `neuron-path prune` works on: a finished run's model and paths, and two sets of images that share none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuron_path.config import (
    Config,
    DigitsConfig,
    HuggingFaceConfig,
    LoggerConfig,
    ModelConfig,
    TrainerConfig,
    stored_config,
)
from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.lightning.datamodule import ImageDataModule
from neuron_path.models.loading import EMBEDDED
from neuron_path.pipeline.build import build_data, build_trainer
from neuron_path.pipeline.records.stored import open_study
from neuron_path.pipeline.work import Study
from neuron_path.pruning.description import PRUNED, read_pruned
from neuron_path.pruning.predictions import class_probabilities
from neuron_path.pruning.ranking import choose_paths
from neuron_path.pruning.selection import split_images
from neuron_path.search.finder import digests
from neuron_path.store.reader import load_paths, read_provenance

_WHOLE = 1.0


@dataclass(frozen=True)
class Images:
    """Images in main memory with their names and classes.

    Attributes:
        names: (B,) sample ids.
        images: (B, channels, height, width) preprocessed.
        classes: (B,) what each image is: its label; without one its target, or what the model predicts.
        labelled: whether all of these are labels.
    """

    names: list[str]
    images: Float[Tensor, "B c H W"]
    classes: list[int]
    labelled: bool

    def __len__(self) -> int:
        return len(self.names)

    def take(self, places: Sequence[int]) -> Images:
        """Some of them."""
        chosen = list(places)
        names, classes = [self.names[place] for place in chosen], [self.classes[place] for place in chosen]
        return Images(names, self.images[torch.tensor(chosen, dtype=torch.int64)], classes, self.labelled)


@dataclass(frozen=True)
class PruneStudy:
    """A model to prune, what ranks its neurons, and what tests it.

    Attributes:
        study: the run's model and data.
        config: the run's configuration.
        provenance: what made the paths.
        paths: of one method, indexed by sample id; of the run's units.
        own: the run's images, in the order of `paths`.
        others: the images of `evaluate_on`; None: the run's own serve for both.
        chosen: indices of the classes to specialise in; None: all.
        class_names: by index.
    """

    study: Study
    config: Config
    provenance: dict[str, Any]
    paths: pd.DataFrame
    own: Images
    others: Images | None
    chosen: frozenset[int] | None
    class_names: list[str]

    @property
    def model(self) -> nn.Module:
        """The original."""
        return self.study.session.model

    @property
    def units(self) -> str:
        """What the paths consist of."""
        return self.study.session.adapter.units

    @property
    def token_scope(self) -> str:
        """Whose neurons are pruned."""
        return self.study.session.adapter.scope.name

    def split(self, share: float | None, seed: int) -> tuple[Images, Images]:
        """The images that select and those that evaluate; no image, by name or by its pixels, is in both.

        Args:
            share: of the run's images that select; None: half of them, or all where others evaluate.
            seed: of the draw.
        """
        whole = _WHOLE if self.others is not None else 0.5
        share = whole if share is None else share
        if self.others is not None and share == _WHOLE:
            selection, evaluation = self.own, self.others
        else:
            split = split_images(self.own.names, self.own.classes, share, seed)
            selection = self.own.take(split.selection)
            evaluation = self.own.take(split.evaluation) if self.others is None else self.others
        if self.chosen is not None:
            selection = selection.take([p for p, index in enumerate(selection.classes) if index in self.chosen])
        if not len(selection):
            raise NeuronPathError("No image of these classes selects: search images of them, or name other classes.")
        seen = set(digests(selection.images))
        new = [place for place, digest in enumerate(digests(evaluation.images)) if digest not in seen]
        if not new:
            raise NeuronPathError(
                "Every image to evaluate on has selected as well, pixel for pixel: name others with evaluate_on."
            )
        return selection, evaluation.take(new)


def open_run(
    run_dir: str,
    *,
    trainer: TrainerConfig | None = None,
    logger: LoggerConfig | None = None,
    evaluate_on: str | None = None,
    classes: Sequence[str] | None = None,
    scorer: str | None = None,
    search: str | None = None,
    top_k: int | None = None,
) -> PruneStudy:
    """Load a run's model, paths and images, and the images to evaluate on.

    Args:
        run_dir: of a finished run.
        trainer, logger: in place of the run's own.
        evaluate_on: another split of the digits or another folder; None: the run's own images.
        classes: names of the classes to specialise in; None: all.
        scorer, search, top_k: which method's paths; None: the run's first scorer, and the only search and size.

    Raises:
        NeuronPathError: whatever is wrong with any of them.
    """
    stored = stored_config(read_provenance(run_dir)["config"])
    if getattr(stored.data, "each_label", False):
        raise NeuronPathError(
            f"Run directory {run_dir!r} has a row for each label of a picture, and models are measured on pictures of "
            "one class: give a run without data.each_label."
        )
    given = replace(stored, run_dir=run_dir, trainer=trainer or stored.trainer, logger=logger or stored.logger)
    opened = open_study(given, ())
    study, provenance = opened.work.study, opened.provenance
    study.session.model.to(build_trainer(opened.config.trainer).strategy.root_device)
    chosen = {"scorer": scorer or provenance["scorer"], "search": search, "top_k": top_k}
    paths = choose_paths(load_paths(run_dir), **chosen).set_index("sample_id")
    names = list(study.data.dataset.classes)
    own = _own_images(opened.config, study, paths)
    return PruneStudy(
        study=study,
        config=opened.config,
        provenance=provenance,
        paths=paths.loc[own.names],
        own=own,
        others=None if evaluate_on is None else _other_images(opened.config, study, evaluate_on),
        chosen=None if classes is None else frozenset(_index(str(one), names) for one in classes),
        class_names=names,
    )


def architecture(config: ModelConfig, model: nn.Module) -> tuple[str, dict[str, Any]]:
    """The name and timm's arguments of what a run's model was made of, as its checkpoint or its pruning has told."""
    if config.name == PRUNED:
        assert config.checkpoint is not None
        described = read_pruned(Path(config.checkpoint))
        return described.name, described.kwargs
    pretrained_cfg = getattr(model, "pretrained_cfg", None) or {}
    if "model_args" in pretrained_cfg:
        return pretrained_cfg["architecture"], pretrained_cfg["model_args"]
    return config.name or EMBEDDED, dict(config.kwargs)


def _own_images(config: Config, study: Study, paths: pd.DataFrame) -> Images:
    """The run's images that have a path."""
    read = _read(study.data, config, set(paths.index))
    if lacking := sorted(set(paths.index) - set(read[0])):
        raise NeuronPathError(
            f"{len(lacking)} stored path(s) are of images that the data lacks, such as '{lacking[0]}': bring back the "
            "run's data."
        )
    names, images, labels = read
    known = [label for label in labels if label is not None]
    labelled = len(known) == len(labels)
    targets = [int(target) for target in paths.loc[names, "target"]]
    return Images(names, images, known if labelled else targets, labelled)


def _other_images(config: Config, study: Study, name: str) -> Images:
    """The images to evaluate on: another split, where the data has splits, else another folder."""
    chosen = {"split": name} if isinstance(config.data, DigitsConfig | HuggingFaceConfig) else {"root": name}
    other = replace(config, data=replace(config.data, **chosen, classes=None, limit=None))
    module = build_data(other, study.session.model)
    if list(module.dataset.classes) != list(study.data.dataset.classes):
        raise NeuronPathError(
            f"The classes of '{name}' are not those of the run's data: evaluate on the same class folders."
        )
    names, images, labels = _read(module, config, None)
    known = [label for label in labels if label is not None]
    if len(known) == len(labels):
        return Images(names, images, known, labelled=True)
    predicted = class_probabilities(study.session.model, images).argmax(1).tolist()
    return Images(names, images, predicted, labelled=False)


def _read(data: ImageDataModule, config: Config, wanted: set[str] | None) -> tuple[list[str], Tensor, list[int | None]]:
    """Names, images and labels; images that cannot be read are passed over where the run did so."""
    names: list[str] = []
    labels: list[int | None] = []
    parts: list[Tensor] = []
    for batch in data.predict_dataloader():
        if batch.problems and config.data.on_error == "raise":
            raise unreadable(*batch.problems[0])
        rows = [row for row, name in enumerate(batch.sample_ids) if wanted is None or name in wanted]
        if rows:
            parts.append(batch.images[rows])
            names += [batch.sample_ids[row] for row in rows]
            labels += [batch.labels[row] for row in rows]
    if not parts:
        raise NeuronPathError("None of the images can be read: fix them, or give another run.")
    return names, torch.cat(parts), labels


def _index(name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise unknown_name("class", name, list(known)[:20])
    return int(np.flatnonzero(np.asarray(known) == name)[0])
