"""The LightningModules and callbacks, run by a Trainer without configuration or command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.callbacks import EffectCollector, ImageProgress, ResultWriter, StreamMetrics
from neuron_path.lightning.datamodule import Batch, DigitsDataModule, DigitsPart, ImageDataModule
from neuron_path.lightning.module import InterventionModule, MethodPaths, PathSearchModule, StoredPaths
from neuron_path.models.session import Session
from neuron_path.pipeline.build import quiet
from neuron_path.search.finder import PathFinder
from neuron_path.search.search import searches
from neuron_path.store.layout import open_run_dir
from neuron_path.store.provenance import collect_provenance
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import path_schema
from neuron_path.store.writer import PathWriter

N = 5


def finders(session: Session, *names: str) -> list[PathFinder]:
    quadrature = Quadrature("gauss_legendre", 2)
    return [PathFinder(session, scorers.create(name), searches.create("greedy"), quadrature) for name in names]


def predict(module: lightning.LightningModule, data: lightning.LightningDataModule, *callbacks: Callback) -> list[Any]:
    with quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            inference_mode=False,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return trainer.predict(module, datamodule=data) or []


@pytest.fixture
def session() -> Session:
    return Session(neuron_path.load_model())


@pytest.fixture
def data() -> DigitsDataModule:
    return DigitsDataModule(limit=N, batch_size=2)


def by_label(batch: Batch) -> Sequence[int]:
    return [label for label in batch.labels if label is not None]


def all_images(data: DigitsDataModule) -> tuple[torch.Tensor, list[int]]:
    batches: list[Batch] = list(data.predict_dataloader())
    return torch.cat([batch.images for batch in batches]), [label for batch in batches for label in by_label(batch)]


@pytest.mark.parametrize("rule", [by_label, lambda batch: None], ids=["labels", "predictions"])
def test_the_trainer_finds_what_find_paths_finds(
    session: Session, data: DigitsDataModule, rule: Callable[[Batch], Sequence[int] | None]
) -> None:
    found: list[list[MethodPaths]] = predict(PathSearchModule(finders(session, "joint_attribution"), rule), data)
    assert [len(batch[0].result) for batch in found] == [2, 2, 1]
    images, labels = all_images(data)
    own = labels if rule is by_label else None
    expected = neuron_path.find_paths(session.model, images, own, quadrature="gauss_legendre", n_steps=2)
    assert torch.equal(torch.cat([batch[0].result.paths for batch in found]), expected.paths)
    torch.testing.assert_close(torch.cat([batch[0].result.scores for batch in found]), expected.scores)


def test_the_model_is_left_as_it_was(session: Session, data: DigitsDataModule) -> None:
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    predict(PathSearchModule(finders(session, "joint_attribution", "activation"), by_label), data)
    after = session.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not session.model.training
    assert not any(module._forward_hooks for module in session.model.modules())


class TornDigits(DigitsPart):
    """Digits, then a picture that cannot be read."""

    def __init__(self) -> None:
        super().__init__("test", None, N)
        self.sample_ids.append("torn.jpg")

    def __len__(self) -> int:
        return N + 1

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        torn = {"image": None, "label": None, "sample_id": "torn.jpg", "problem": "truncated"}
        return torn if index == N else super().__getitem__(index)


@pytest.fixture
def torn() -> ImageDataModule:
    """A whole batch, then one with the broken picture alone."""
    return ImageDataModule(TornDigits(), batch_size=N)


def test_a_picture_that_cannot_be_read_is_raised_or_skipped(session: Session, torn: ImageDataModule) -> None:
    methods = finders(session, "activation")
    with pytest.raises(NeuronPathError, match=r"File 'torn\.jpg' is no image that can be read \(truncated\)"):
        predict(PathSearchModule(methods, by_label), torn)
    assert [len(found) for found in predict(PathSearchModule(methods, by_label, "skip"), torn)] == [1, 0]


def test_results_are_stored_as_batches_finish(session: Session, torn: ImageDataModule, tmp_path: Path) -> None:
    open_run_dir(tmp_path)
    provenance = collect_provenance({"seed": 0})
    writer = ResultWriter(PathWriter(tmp_path, path_schema(1), provenance))
    predict(PathSearchModule(finders(session, "activation", "random"), by_label, "skip"), torn, writer)
    assert writer.problems == [("torn.jpg", "truncated")]
    assert len(list((tmp_path / "parts").iterdir())) == 2  # one for each method
    names = list(torn.dataset.sample_ids)[:N]
    writer.writer.merge([(name, scorer) for scorer in ("activation", "random") for name in names])
    assert load_paths(tmp_path)["sample_id"].tolist() == names * 2


def test_interventions_edit_the_stored_paths(session: Session, data: DigitsDataModule) -> None:
    images, labels = all_images(data)
    paths = neuron_path.find_paths(session.model, images, labels, scorer="activation").paths
    names = list(data.dataset.sample_ids)
    stored = StoredPaths(
        "activation",
        "greedy",
        dict(zip(reversed(names), paths.flip(0).unsqueeze(2), strict=True)),  # in another order: joined by name
        dict(zip(names, labels, strict=True)),
    )
    collector = EffectCollector()
    predict(InterventionModule(session, [stored], ["remove"]), data, collector)
    edited = torch.cat([effect.edited_probabilities for effect in collector.effects])
    logits = neuron_path.intervene(session.model, images, paths, "remove")
    torch.testing.assert_close(edited, logits.softmax(1).gather(1, torch.tensor(labels).unsqueeze(1)).squeeze(1))
    assert [name for effect in collector.effects for name in effect.sample_ids] == names


def test_progress_counts_images_and_gives_the_screen_back(session: Session, torn: ImageDataModule) -> None:
    progress = ImageProgress("Neuron paths", N + 1)
    predict(PathSearchModule(finders(session, "activation"), by_label, "skip"), torn, progress)
    assert progress._bar is not None
    assert progress._bar.tasks[0].completed == N + 1
    assert not progress._bar.live.is_started
    with pytest.raises(NeuronPathError):
        predict(PathSearchModule(finders(session, "activation"), by_label), torn, progress)
    assert not progress._bar.live.is_started


def test_a_tracker_hears_of_every_batch(session: Session, data: DigitsDataModule) -> None:
    heard: list[Mapping[str, float]] = []
    predict(PathSearchModule(finders(session, "activation"), by_label), data, StreamMetrics(heard.append))
    assert [values["images"] for values in heard] == [2, 4, 5]
    assert all(isinstance(values["score/activation"], float) for values in heard)
