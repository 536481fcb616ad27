"""What every process of a run works with, made of the configuration once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuron_path.config import EvaluationConfig
from neuron_path.lightning.datamodule import ImageDataModule
from neuron_path.lightning.search import TargetRule
from neuron_path.models.session import Session
from neuron_path.pipeline.head import ChosenHead
from neuron_path.search.finder import PathFinder

if TYPE_CHECKING:
    from neuron_path.pipeline.lending import DataLender


@dataclass(frozen=True)
class Study:
    """A model, its data and which class of each image is attributed; `head` is the one put on the model, if any."""

    session: Session
    data: ImageDataModule
    targets: TargetRule
    head: ChosenHead | None = None


@dataclass(frozen=True)
class Work:
    """What the stages need.

    Attributes:
        study: model and data.
        finder: the model with the run's method and its baselines.
        lender: other images that ablations take activations from.
        evaluation: what is measured of the paths.
        seed: of what is drawn.
        on_error, max_skipped: what becomes of images that cannot be decoded, as of every stage.
        threads: of each process; None for its share.
        root: where the data lies.
    """

    study: Study
    finder: PathFinder
    lender: DataLender
    evaluation: EvaluationConfig
    seed: int
    on_error: str = "raise"
    max_skipped: int | None = None
    threads: int | None = None
    root: str | None = None
