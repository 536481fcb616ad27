"""Which pass a trial takes for the fastest, and where it is remembered; time is told, not measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import neuron_path
from neuron_path.models import calibration
from neuron_path.models.adapter import Adapter, adapt
from neuron_path.models.calibration import WORTHWHILE, cache_file, calibrate, recall
from neuron_path.models.session import Session
from neuron_path.search.plan import Plan
from neuron_path.search.planner import Planner
from tests import tiny

Clock = Callable[[Callable[[int], float]], list[int]]


@pytest.fixture(autouse=True)
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known, and the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_known", {})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Tell how many seconds each sequence of a pass of some size takes; returns the sizes that are tried."""

    def tell(per_sequence: Callable[[int], float]) -> list[int]:
        tried: list[int] = []

        def seconds(adapter: Adapter, embedded: Tensor, size: int) -> float:
            tried.append(size)
            return per_sequence(size) * size

        monkeypatch.setattr(calibration, "_seconds", seconds)
        return tried

    return tell


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches try, as they do outside of tests."""
    monkeypatch.setattr("neuron_path.search.planner.WORTHWHILE", WORTHWHILE)
    monkeypatch.setattr("neuron_path.search.planner.default_micro_batch", lambda _: WORTHWHILE // 2)


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def subject(name: str = "cls", dtype: torch.dtype = torch.float32, size: int = 8) -> tuple[Adapter, Tensor]:
    """A model and one embedded image."""
    adapter = adapt(tiny.make(name, dtype=dtype, img_size=size).requires_grad_(requires_grad=False))
    return adapter, adapter.embed(tiny.make_images(1, dtype=dtype, size=size))


@pytest.mark.parametrize("usual", [1, 2, 3, 16, 375])
@pytest.mark.parametrize("fastest", ["half", "usual", "double"])
def test_the_fastest_per_sequence_is_taken(fastest: str, usual: int, told: Clock) -> None:
    sizes = {"half": max(1, usual // 2), "usual": usual, "double": 2 * usual}
    tried = told(lambda size: 1.0 if size == sizes[fastest] else 2.0)
    assert calibrate(*subject(), usual, 999) == sizes[fastest]
    assert set(tried) == set(sizes.values())


@pytest.mark.parametrize("other", [8, 32])
@pytest.mark.parametrize(("seconds", "is_taken"), [(0.99, False), (0.96, False), (0.94, True), (0.5, True)])
def test_the_usual_one_of_nearly_equal_ones_is_taken(other: int, seconds: float, is_taken: bool, told: Clock) -> None:
    told(lambda size: seconds if size == other else 1.0)
    assert calibrate(*subject(), 16, 999) == (other if is_taken else 16)


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_size_that_was_tried_is_clearly_faster(told: Clock, seconds: list[float]) -> None:
    per_sequence: dict[int, float] = dict(zip([8, 16, 32], seconds, strict=True))
    told(lambda size: per_sequence[size])
    assert per_sequence[calibrate(*subject(), 16, 999)] <= 1.05 * min(seconds) + 1e-12


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("odd", [0.01, 100.0])
def test_one_odd_round_is_no_matter(size: int, odd: float, told: Clock) -> None:
    rounds: list[int] = []

    def disturbed(passed: int) -> float:
        rounds.append(passed)
        return odd if passed == size and rounds.count(size) == 2 else 1 / passed

    told(disturbed)
    assert calibrate(*subject(), 16, 999) == 32


def test_it_is_remembered_in_memory_and_on_disk(told: Clock, tmp_path: Path) -> None:
    told(lambda size: 1 / size)
    one = subject()
    assert recall(*one) is None
    assert calibrate(*one, 8, 999) == 16
    assert recall(*one) == 16
    assert cache_file().is_relative_to(tmp_path)
    calibration._known.clear()
    assert recall(*one) == 16
    calibration._known.clear()
    cache_file().unlink()
    assert recall(*one) is None


def test_several_trials_share_a_file(told: Clock) -> None:
    subjects = [subject(), subject("avg"), subject(dtype=torch.float64), subject(size=16)]
    told(lambda size: 1 / size)
    for usual, one in zip((1, 2, 4, 8), subjects, strict=True):
        calibrate(*one, usual, 999)
    calibration._known.clear()
    assert [recall(*one) for one in subjects] == [2, 4, 8, 16]
    assert [path.name for path in cache_file().parent.iterdir()] == [cache_file().name]
    assert sorted(json.loads(cache_file().read_text()).values()) == [2, 4, 8, 16]


def test_a_newer_trial_replaces_an_older_one(told: Clock) -> None:
    for fastest in (8, 32):
        told(lambda size, fastest=fastest: 1.0 if size == fastest else 2.0)
        calibrate(*subject(), 16, 999)
        calibration._known.clear()
        assert recall(*subject()) == fastest


def test_other_numbers_of_threads_are_tried_apart(told: Clock, threads_restored: None) -> None:
    told(lambda size: 1 / size)
    torch.set_num_threads(1)
    calibrate(*subject(), 4, 999)
    torch.set_num_threads(2)
    assert recall(*subject()) is None
    torch.set_num_threads(1)
    assert recall(*subject()) == 8


MACHINES = {
    "node": lambda patch: patch.setattr("platform.node", lambda: "elsewhere"),
    "version": lambda patch: patch.setattr(torch, "__version__", "2.999"),
    "instructions": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_another_machine_is_tried_again(name: str, told: Clock) -> None:
    told(lambda size: 1 / size)
    calibrate(*subject(), 4, 999)
    with pytest.MonkeyPatch.context() as patch:
        MACHINES[name](patch)
        assert recall(*subject()) is None
    assert recall(*subject()) == 8


def test_weights_do_not_matter(told: Clock) -> None:
    told(lambda size: 1 / size)
    calibrate(*subject(), 4, 999)
    adapter = adapt(tiny.make(seed=5, dtype=torch.float32))
    assert recall(adapter, adapter.embed(tiny.make_images(1, dtype=torch.float32))) == 8


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"3", b'{"other": 4}'])
def test_a_damaged_file_is_no_memory(content: bytes) -> None:
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(content)
    assert recall(*subject()) is None


@pytest.mark.parametrize("value", ["8", -1, 0, 8.5, None, True, [8], {"a": 8}])
def test_a_remembered_size_that_is_none_is_not_taken(value: object, told: Clock) -> None:
    told(lambda size: 1 / size)
    calibrate(*subject(), 4, 999)
    (key,) = json.loads(cache_file().read_text())
    cache_file().write_text(json.dumps({key: value}))
    calibration._known.clear()
    assert recall(*subject()) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"3"])
def test_a_trial_mends_a_damaged_file(content: bytes, told: Clock) -> None:
    told(lambda size: 1 / size)
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(content)
    assert calibrate(*subject(), 4, 999) == 8
    calibration._known.clear()
    assert recall(*subject()) == 8


def test_a_home_that_cannot_be_written_to_is_no_error(told: Clock, tmp_path: Path) -> None:
    told(lambda size: 1 / size)
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert calibrate(*subject(), 4, 999) == 8
    assert recall(*subject()) == 8
    calibration._known.clear()
    assert recall(*subject()) is None


def test_a_trial_runs_the_model_and_leaves_no_gradient() -> None:
    """Without a told time: whatever it takes, it is a size that was tried."""
    session = Session(tiny.make(dtype=torch.float32))
    with session.active():
        embedded = session.adapter.embed(tiny.make_images(1, dtype=torch.float32))
        assert calibrate(session.adapter, embedded, 2, 999) in (1, 2, 4)
    assert all(parameter.grad is None for parameter in session.model.parameters())


def tried_in(n_images: int, told: Clock, **options: Any) -> list[int]:
    """The sizes that a search tries, with half as many nodes as are worth a trial."""
    tried = told(lambda size: 1 / size)
    model, images = tiny.make(dtype=torch.float32), tiny.make_images(n_images, dtype=torch.float32)
    neuron_path.find_paths(model, images, scorer="activation", n_steps=WORTHWHILE // 2, **options)
    return tried


def test_a_small_job_is_not_worth_a_trial(told: Clock, trials: None) -> None:
    assert not tried_in(1, told)
    assert tried_in(2, told)
    assert not tried_in(2, told)  # it is known by now


def test_a_micro_batch_that_is_given_is_not_tried(told: Clock, trials: None) -> None:
    assert not tried_in(2, told, micro_batch=16)


def test_no_pass_is_tried_that_memory_could_not_hold(told: Clock) -> None:
    tried = told(lambda size: 1 / size)
    assert calibrate(*subject(), 8, 10) == 10
    assert max(tried) == 10


def test_a_budget_allows_no_trial(told: Clock, trials: None) -> None:
    assert not tried_in(2, told, memory_budget=1e9)


def test_an_earlier_trial_serves_small_jobs(told: Clock, trials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda *given: (plans.append(plan(*given)), plans[-1])[1])
    assert not tried_in(1, told)
    assert tried_in(2, told)
    assert not tried_in(1, told)
    assert plans[1] == plans[2]
    assert plans[1].micro_batch == pytest.approx(2 * plans[0].micro_batch, rel=0.01)
