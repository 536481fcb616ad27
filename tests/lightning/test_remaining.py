"""The images that are left are dealt out: each once, and in whatever order they come, each with the same path."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuron_path
from neuron_path.lightning.callbacks import ResultWriter
from neuron_path.lightning.datamodule import DigitsDataModule
from neuron_path.lightning.remaining import RemainingImages
from neuron_path.models.session import Session
from neuron_path.store.merge import merge_parts
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import path_schema
from tests.lightning.test_module import make_finder, predict, search_module
from tests.tables import same_paths

DIGITS = DigitsDataModule(limit=12, batch_size=3)
NAMES = list(DIGITS.dataset.sample_ids)


@given(left=st.lists(st.integers(0, 11), unique=True), n=st.integers(1, 5))
def test_each_image_is_dealt_to_one_process_and_none_twice(left: list[int], n: int) -> None:
    shares: list[list[str]] = []
    for rank in range(n):
        images = RemainingImages(DIGITS)
        images.deal(left, {})
        images._deal(rank, n)
        shares.append([name for batch in images.predict_dataloader() for name in batch.sample_ids])
    assert sorted(name for share in shares for name in share) == sorted(NAMES[place] for place in left)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "shuffled"), [(1, 0, False), (7, 0, True), (7, 2, True), (64, 2, False)]
)
def test_no_path_depends_on_batches_workers_or_order(
    batch_size: int, num_workers: int, shuffled: bool, reference: pd.DataFrame, tmp_path: Path
) -> None:
    found = search(tmp_path, batch_size, num_workers, shuffled)
    same_paths(found, reference)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return search(tmp_path_factory.mktemp("reference"), 12, 0, False)


def search(run_dir: Path, batch_size: int, num_workers: int, shuffled: bool) -> pd.DataFrame:
    data = DigitsDataModule(limit=12, batch_size=batch_size, num_workers=num_workers)
    left = random.Random(0).sample(range(12), 12) if shuffled else list(range(12))
    made: dict[str, Any] = {"identity": {}}
    finder = make_finder(Session(neuron_path.load_model()), "joint_attribution", "random")
    images = RemainingImages(data)
    images.deal(left, {})
    predict(search_module(finder, made=made), images, ResultWriter(run_dir))
    merge_parts(run_dir, path_schema(1), made, [(name, one.scorer.name) for one in finder.methods for name in NAMES])
    return load_paths(run_dir)
