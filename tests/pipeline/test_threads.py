"""The number of threads: as asked, or the faster of one and all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import DigitsDataModule
from neuron_path.models.session import Session
from neuron_path.pipeline.threads import use_threads


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(neuron_path.load_model("digits_vit"))


def test_the_wanted_number_is_set(session: Session) -> None:
    data = DigitsDataModule("test", limit=1)
    assert use_threads(2, session, data.dataset) == 2
    assert torch.get_num_threads() == 2


def test_the_faster_number_is_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    clock = iter(range(1000))
    # Each pass takes one tick with one thread, and five with more.
    ticks = [0.0]

    def tick() -> float:
        ticks[0] += 5.0 if next(clock) % 4 == 3 else 1.0
        return ticks[0]

    monkeypatch.setattr("neuron_path.pipeline.threads.time.perf_counter", tick)
    assert use_threads(None, session, DigitsDataModule("test", limit=1).dataset) == 1
    assert torch.get_num_threads() == 1


def test_fewer_than_one_is_refused(session: Session) -> None:
    with pytest.raises(NeuronPathError, match=r"trainer\.threads is 0; expected at least 1"):
        use_threads(0, session, DigitsDataModule("test", limit=1).dataset)
