"""The LightningModules and callbacks, run by a Trainer without configuration or command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import pyarrow as pa
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import neuron_path
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.evaluate import Evaluator, Intervention
from neuron_path.lightning import callbacks
from neuron_path.lightning.callbacks import ImageProgress, ResultWriter, StreamMetrics
from neuron_path.lightning.datamodule import Batch, DigitsDataModule, DigitsPart, ImageDataModule
from neuron_path.lightning.evaluation import Evaluation, StoredPaths
from neuron_path.lightning.search import PathSearch, TargetRule
from neuron_path.lightning.stage import StageModule
from neuron_path.models.session import Session
from neuron_path.pipeline.build import quiet
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import Found, searches
from neuron_path.search.searches.greedy import Greedy
from neuron_path.search.settings import SearchSettings
from neuron_path.stopping import Terminated
from neuron_path.store.evaluation import split_measures
from neuron_path.store.layout import list_parts, open_run_dir
from neuron_path.store.merge import merge_parts
from neuron_path.store.provenance import collect_provenance
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import path_schema
from neuron_path.store.skipped import read_skipped
from tests.tables import same_paths

N = 5


def make_finder(session: Session, *names: str, micro_batch: int | None = None) -> PathFinder:
    method, *others = [Method(scorers.create(name), searches.create("greedy")) for name in names]
    settings = SearchSettings(Quadrature("gauss_legendre", 2), micro_batch=micro_batch)
    return PathFinder(session, method, settings, others)


def by_label(batch: Batch) -> Sequence[int]:
    return [label for label in batch.labels if label is not None]


def search_module(
    finder: PathFinder,
    rule: TargetRule = by_label,
    on_error: str = "raise",
    made: Mapping[str, Any] | None = None,
) -> StageModule:
    search = PathSearch(finder, rule, made or {}, on_error)
    return StageModule(finder.session.model, lambda: search)


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


def all_images(data: DigitsDataModule) -> tuple[torch.Tensor, list[int]]:
    batches: list[Batch] = list(data.predict_dataloader())
    return torch.cat([batch.images for batch in batches]), [label for batch in batches for label in by_label(batch)]


def all_rows(batches: Sequence[Sequence[pa.Table]]) -> pa.Table:
    return pa.concat_tables(part for batch in batches for part in batch)


@pytest.mark.parametrize("rule", [by_label, lambda batch: None], ids=["labels", "predictions"])
def test_the_trainer_finds_what_find_paths_finds(
    session: Session, data: DigitsDataModule, rule: Callable[[Batch], Sequence[int] | None]
) -> None:
    found = predict(search_module(make_finder(session, "joint_attribution"), rule), data)
    assert [sum(map(len, batch)) for batch in found] == [2, 2, 1]
    rows = all_rows(found)
    images, labels = all_images(data)
    own = labels if rule is by_label else None
    expected = neuron_path.find_paths(session.model, images, own, quadrature="gauss_legendre", n_steps=2)
    assert rows["path"].to_pylist() == expected.paths.tolist()
    torch.testing.assert_close(torch.tensor(rows["score"].to_pylist()), expected.scores)


def test_the_model_is_left_as_it_was(session: Session, data: DigitsDataModule) -> None:
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    predict(search_module(make_finder(session, "joint_attribution", "activation")), data)
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
    finder = make_finder(session, "activation")
    with pytest.raises(NeuronPathError, match=r"File 'torn\.jpg' is no image that can be read \(truncated\)"):
        predict(search_module(finder), torn)
    assert [len(found) for found in predict(search_module(finder, on_error="skip"), torn)] == [1, 0]


def test_results_are_stored_as_batches_finish(session: Session, torn: ImageDataModule, tmp_path: Path) -> None:
    open_run_dir(tmp_path)
    made, writer = collect_provenance({"seed": 0}), ResultWriter(tmp_path)
    predict(search_module(make_finder(session, "activation", "random"), on_error="skip", made=made), torn, writer)
    assert read_skipped(tmp_path) == [("torn.jpg", "truncated")]
    assert len(list_parts(tmp_path).parts) == 1  # all methods of a batch are stored at once
    assert writer.seconds > 0
    names = list(torn.dataset.sample_ids)[:N]
    keys = [(name, scorer) for scorer in ("activation", "random") for name in names]
    merge_parts(tmp_path, path_schema(1), made, keys)
    assert load_paths(tmp_path)["sample_id"].tolist() == names * 2


def test_a_long_batch_is_stored_in_parts_and_ends_between_them(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "LONGEST_WAIT", -1.0)
    monkeypatch.setattr(callbacks.stopping, "is_requested", lambda: bool(list_parts(tmp_path).parts))
    checks = iter([False, True])

    def check() -> None:
        if next(checks):
            raise Terminated

    monkeypatch.setattr(callbacks.stopping, "check", check)
    open_run_dir(tmp_path)
    writer = ResultWriter(tmp_path)
    finder = make_finder(session, "activation", "random", micro_batch=4)  # two images a chunk, at two nodes each
    one_batch = DigitsDataModule(limit=N, batch_size=N)
    with pytest.raises(SystemExit) as ended:  # of the Trainer, which takes it for Ctrl-C
        predict(search_module(finder), one_batch, writer)
    assert isinstance(ended.value.__context__, Terminated)
    assert len(list_parts(tmp_path).parts) == 2
    keys = [(name, scorer) for scorer in ("activation", "random") for name in one_batch.dataset.sample_ids[:4]]
    merge_parts(tmp_path, path_schema(1), {}, keys)
    assert len(set(load_paths(tmp_path)["sample_id"].tolist())) == 4


def test_what_was_found_before_an_error_is_kept_and_no_writer_hears_of_another_prediction(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run_dir(tmp_path)
    writer = ResultWriter(tmp_path)
    finder = make_finder(session, "activation", micro_batch=4)  # two images a chunk, at two nodes each
    module = search_module(finder)
    one_batch = DigitsDataModule(limit=N, batch_size=N)
    find_chunk = finder._find_chunk
    chunks = iter([True, False])

    def once(*arguments: Any) -> Any:
        return find_chunk(*arguments) if next(chunks) else pytest.fail("broken")

    with monkeypatch.context() as patch:
        patch.setattr(finder, "_find_chunk", once)
        with pytest.raises(pytest.fail.Exception, match="broken"):
            predict(module, one_batch, writer)
    [part] = list_parts(tmp_path).parts
    predict(module, one_batch)
    assert list_parts(tmp_path).parts == [part]


def stored_paths(names: Sequence[str], paths: torch.Tensor, scores: torch.Tensor, **known: Any) -> StoredPaths:
    rows = {name: row for row, name in enumerate(names)}
    return StoredPaths("activation", "greedy", 1, rows, paths.unsqueeze(2), scores.double(), **known)


def measured(evaluation: Evaluation, data: DigitsDataModule) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of scores and of effects."""
    rows = all_rows(predict(StageModule(evaluation.session.model, lambda: evaluation), data))
    scores, effects = split_measures(rows)
    return scores.to_pydict(), effects.to_pydict()


def test_interventions_edit_the_stored_paths(session: Session, data: DigitsDataModule) -> None:
    images, labels = all_images(data)
    paths = neuron_path.find_paths(session.model, images, labels, scorer="activation").paths
    names = list(data.dataset.sample_ids)
    stored = stored_paths(names[::-1], paths.flip(0), torch.full((N,), 0.5))  # in another order: joined by name
    evaluator = Evaluator([Intervention("remove")], quadrature=Quadrature("gauss_legendre", 2))
    targets = dict(zip(names, labels, strict=True))
    scores, effects = measured(Evaluation(session, [stored], targets, evaluator), data)
    logits = neuron_path.intervene(session.model, images, paths, "remove").double()
    target = torch.tensor(labels).unsqueeze(1)
    clean = session.model(images).double()
    complete, delta = neuron_path.score_paths(
        session.model, images, labels, paths, n_steps=2, measure="complete", return_convergence_delta=True
    )
    expected = {
        "sample_id": names,
        "target": labels,
        "size": [1] * N,
        "clean_logit": clean.gather(1, target).squeeze(1).tolist(),
        "edited_logit": logits.gather(1, target).squeeze(1).tolist(),
        "edited_probability": logits.softmax(1).gather(1, target).squeeze(1).tolist(),
        "kl_divergence": (clean.softmax(1) * (clean.log_softmax(1) - logits.log_softmax(1))).sum(1).tolist(),
        "edited_prediction": logits.argmax(1).tolist(),
    }
    for column, values in expected.items():
        found = effects[column]
        assert found == (pytest.approx(values, rel=1e-5, abs=1e-6) if isinstance(values[0], float) else values)
    assert scores["complete"] == pytest.approx(complete.tolist(), rel=1e-5)
    assert scores["joint"] == [0.5] * N
    assert scores["convergence_delta"] == pytest.approx(delta.tolist(), abs=1e-6)


def test_scores_and_rounding_that_the_search_has_found_are_not_computed_again(
    session: Session, data: DigitsDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = all_images(data)
    found = neuron_path.find_paths(session.model, images, labels, scorer="activation")
    assert found.complete_scores is not None
    assert found.convergence_deltas is not None
    assert found.rounding is not None
    logits = neuron_path.intervene(session.model, images, found.paths, "remove")
    names = list(data.dataset.sample_ids)
    complete = torch.stack([found.complete_scores, found.convergence_deltas], 1).double()
    stored = stored_paths(names, found.paths, found.scores, complete=complete)
    monkeypatch.setattr("neuron_path.interventions.evaluate.path_scores", lambda *_: pytest.fail("scored again"))
    monkeypatch.setattr("neuron_path.attribution.exactness.rounding", lambda _: pytest.fail("measured again"))
    evaluator = Evaluator([Intervention("remove")], quadrature=Quadrature("gauss_legendre", 2))
    rounding = dict(zip(names, found.rounding.tolist(), strict=True))
    targets = dict(zip(names, labels, strict=True))
    scores, effects = measured(Evaluation(session, [stored], targets, evaluator, rounding), data)
    assert scores["complete"] == found.complete_scores.tolist()
    expected = logits.gather(1, torch.tensor(labels).unsqueeze(1)).squeeze(1).tolist()
    assert effects["edited_logit"] == pytest.approx(expected, rel=1e-5)


def test_a_reference_method_among_the_others_is_not_run_twice(
    session: Session, data: DigitsDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = predict(search_module(make_finder(session, "activation_matched_random")), data)
    searched, run = [], Greedy.run

    def counted(self: Greedy, problem: Problem, scorer: Scorer, **options: Any) -> Found:
        searched.append(scorer.name)
        return run(self, problem, scorer, **options)

    monkeypatch.setattr(Greedy, "run", counted)
    together = predict(search_module(make_finder(session, "joint_attribution", "activation_matched_random")), data)
    assert searched.count("joint_attribution") == searched.count("activation_matched_random")
    own, shared = (all_rows(found).to_pandas() for found in (alone, together))
    same_paths(own, shared.loc[shared["scorer"] == "activation_matched_random"])


def test_progress_counts_images_and_gives_the_screen_back(session: Session, torn: ImageDataModule) -> None:
    progress = ImageProgress(lambda: N + 1)
    predict(search_module(make_finder(session, "activation"), on_error="skip"), torn, progress)
    assert progress._bar is not None
    assert progress._bar.tasks[0].completed == N + 1
    assert not progress._bar.live.is_started
    with pytest.raises(NeuronPathError):
        predict(search_module(make_finder(session, "activation")), torn, progress)
    assert not progress._bar.live.is_started


def test_a_tracker_hears_of_every_batch(session: Session, data: DigitsDataModule) -> None:
    heard: list[Mapping[str, float]] = []
    found = predict(search_module(make_finder(session, "activation")), data, StreamMetrics(heard.append))
    assert [values["images"] for values in heard] == [2, 4, 5]
    batches = [torch.tensor(all_rows([batch])["score"].to_pylist(), dtype=torch.float64) for batch in found]
    assert [values["score/activation"] for values in heard] == [scores.mean().item() for scores in batches]
    running = [torch.cat(batches[:n]).mean().item() for n in (1, 2, 3)]
    assert [values["mean_score/activation"] for values in heard] == pytest.approx(running, rel=1e-12)


def test_a_tracker_hears_of_speed_and_of_pictures_left_out(
    session: Session, torn: ImageDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.0, 22.0])
    monkeypatch.setattr(callbacks, "N_RECENT", 1)
    monkeypatch.setattr(callbacks, "perf_counter", lambda: next(clock))
    heard: list[Mapping[str, float]] = []
    monkeypatch.setattr(PathSearch, "prefix", "again/")
    stream = StreamMetrics(heard.append)
    predict(search_module(make_finder(session, "activation"), on_error="skip"), torn, stream)
    assert [values["again/images"] for values in heard] == [N, N]
    assert [values["again/skipped_images"] for values in heard] == [0, 1]
    assert [values["again/images_per_second"] for values in heard] == [N / 2, N / 12]
    assert [values["again/images_per_second_recent"] for values in heard] == [N / 2, 0]
    assert "again/mean_score/activation" in heard[0]
    assert "again/mean_score/activation" not in heard[1]  # nothing was found in its batch
