"""A search stays within its memory budget, and ends all the same where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.attribution import tangent
from neuron_path.attribution.needs import measure_needs
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.errors import NeuronPathError
from neuron_path.models.footprint import Footprint
from neuron_path.models.session import Session
from neuron_path.search.chunk import Chunk
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.plan import Plan, least_budget
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult, TokenScopeName
from tests import tiny
from tests.search.test_finder import twins

RULE, ADAPTIVE = Quadrature("gauss_legendre", 4), Quadrature("adaptive", max_steps=8)
TARGETS = torch.tensor([3, 0, 4, 1, 2, 2])

every_scorer = pytest.mark.parametrize("scorer", scorers.names())
every_case = pytest.mark.parametrize(("name", "scope"), [("cls", "cls"), ("registers", "patch"), ("avg", "patch")])


@pytest.fixture(autouse=True)
def passes_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of this machine's threads does not decide how a batch is cut."""
    monkeypatch.setattr("neuron_path.search.planner.default_micro_batch", lambda *_: 8)


def make_images(n: int = 6, size: int = 8) -> Tensor:
    return tiny.make_images(n, dtype=torch.float32, size=size)


def make_finder(
    model: VisionTransformer,
    *names: str,
    scope: TokenScopeName | None = None,
    keep_candidates: bool = False,
    rule: Quadrature = RULE,
    **options: Any,
) -> PathFinder:
    greedy = searches.create("greedy")
    method, *others = [Method(scorers.create(name), greedy) for name in names or ("joint_attribution",)]
    settings = SearchSettings(rule, **options)
    return PathFinder(Session(model, scope), method, settings, others, keep_candidates=keep_candidates)


def least(finder: PathFinder, image: Tensor) -> float:
    """The smallest budget that is said to do, for one image in passes of one sequence."""
    scorer = finder.method.scorer
    with finder.session.active():
        needs = measure_needs(finder.session, image, in_double=scorer.in_double, every_block=scorer.keeps_every_block)
    return least_budget(needs, finder.settings.quadrature.most_steps)


def assert_same(found: PathResult, expected: PathResult) -> None:
    assert found.paths.tolist() == expected.paths.tolist()
    assert found.n_steps.tolist() == expected.n_steps.tolist()
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-7)


def peak_of(finder: PathFinder, images: Tensor) -> tuple[int, PathResult]:
    with Footprint() as footprint:
        [found] = finder.find(images, TARGETS[: len(images)], progress=False)
    return footprint.peak, found


def assert_within(factor: float, model: VisionTransformer, images: Tensor, scorer: str, **options: Any) -> PathResult:
    """So many times the smallest budget is not exceeded, and does not change what is found."""
    free = make_finder(model, scorer, **options)
    [expected] = free.find(images, TARGETS[: len(images)], progress=False)
    budget = factor * least(free, images[:1])
    peak, found = peak_of(make_finder(model, scorer, memory_budget=budget, **options), images)
    assert peak <= budget
    assert_same(found, expected)
    return found


@every_scorer
@pytest.mark.parametrize(("name", "scope"), [("cls", "cls"), ("avg", "patch")])
def test_a_search_takes_no_more_than_its_budget(scorer: str, name: str, scope: TokenScopeName) -> None:
    model = tiny.make(name, dtype=torch.float32, depth=2)
    assert_within(1.01, model, make_images(1), scorer, scope=scope)


@every_case
@pytest.mark.parametrize("factor", [1.5, 4])
def test_a_larger_budget_is_not_exceeded_either(factor: float, name: str, scope: TokenScopeName) -> None:
    assert_within(factor, tiny.make(name, dtype=torch.float32), make_images(4), "joint_attribution", scope=scope)


@every_case
@pytest.mark.filterwarnings("ignore:With .* nodes, as many as max_steps allows")
@pytest.mark.parametrize("scorer", ["joint_attribution", "conductance"])
def test_more_nodes_for_some_images_fit_too(scorer: str, name: str, scope: TokenScopeName) -> None:
    model = tiny.make(name, dtype=torch.float32, depth=2)
    found = assert_within(1.01, model, make_images(2), scorer, scope=scope, rule=ADAPTIVE)
    assert set(found.n_steps.tolist()) <= {4, 8}


@every_case
@pytest.mark.parametrize("scorer", ["joint_attribution", "integrated_gradients"])
def test_close_calls_in_float64_fit_too(
    scorer: str, name: str, scope: TokenScopeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.make(name, dtype=torch.float32, depth=2, embed_dim=24)
    twins(model, 1e-6)
    copies, double = [], Session.double
    monkeypatch.setattr(Session, "double", lambda self: (copies.append(self), double(self))[1])
    assert_within(1.01, model, make_images(2), scorer, scope=scope)
    assert copies


@pytest.mark.parametrize("options", [{"top_k": 3}, {"keep_candidates": True}, {"micro_batch": 5}])
def test_other_options_fit_too(options: dict[str, Any]) -> None:
    assert_within(1.01, tiny.make(dtype=torch.float32, depth=2), make_images(3), "joint_attribution", **options)


def test_methods_that_share_chunks_fit_together() -> None:
    model, images = tiny.make("avg", dtype=torch.float32, depth=2), make_images(3)
    names = ["joint_attribution", "activation", "conductance", "random"]
    expected = make_finder(model, *names).find(images, TARGETS[:3], progress=False)
    budget = 1.01 * max(least(make_finder(model, name), images[:1]) for name in names)
    finder = make_finder(model, *names, memory_budget=budget)
    with Footprint() as footprint:
        found = finder.find(images, TARGETS[:3], progress=False)
    assert footprint.peak <= budget
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)


def test_a_model_in_float64_needs_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "double", lambda _: pytest.fail("copied"))
    assert_within(1.01, tiny.make(depth=2), tiny.make_images(2), "joint_attribution")


def test_larger_budgets_are_used() -> None:
    model, images = tiny.make("avg", dtype=torch.float32), make_images()
    smallest = least(make_finder(model), images[:1])
    plans = []
    for factor in (1, 1.3, 2, 4, 100):
        finder = make_finder(model, memory_budget=factor * smallest + 1)
        with finder.session.active():
            plans.append(finder.planner.plan(images))
    sizes = [(plan.keeps_graphs, plan.n_images, plan.micro_batch) for plan in plans]
    assert sizes == sorted(sizes)
    assert sizes[0] == (False, 1, 2)  # as long as one in float64
    assert sizes[-1] == (True, 2, 8)


def test_a_budget_may_be_a_text_in_python() -> None:
    model, images = tiny.make(dtype=torch.float32), make_images()
    expected = neuron_path.find_paths(model, images, TARGETS)
    assert_same(neuron_path.find_paths(model, images, TARGETS, memory_budget="50 MB"), expected)
    with pytest.raises(NeuronPathError, match=r"^memory_budget is '2 megabytes'; expected a positive number of bytes"):
        neuron_path.find_paths(model, images, TARGETS, memory_budget="2 megabytes")


def test_a_budget_below_one_image_is_refused_in_one_line() -> None:
    with pytest.raises(
        NeuronPathError, match=r"one image with 8 nodes needs about .* for the model in float64"
    ) as told:
        neuron_path.find_paths(tiny.make(dtype=torch.float32), make_images(), memory_budget=60_000)
    assert "\n" not in str(told.value)


def no_memory_of_a_gpu() -> RuntimeError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_main_memory() -> RuntimeError:
    return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@dataclass
class Memory:
    """What a chunk may hold, by how many chunks are finished; which plans were tried, and what was finished."""

    images: Callable[[int], int] = lambda _: 10**9
    sequences: Callable[[int], int] = lambda _: 10**9
    tried: list[Plan] = field(default_factory=list)
    finished: list[list[str]] = field(default_factory=list)


@pytest.fixture(params=[no_memory_of_a_gpu, no_main_memory])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Memory that ends where it is told to."""
    memory, find_chunk = Memory(), PathFinder._find_chunk

    def find_in_it(self: PathFinder, chunk: Chunk) -> list[PathResult]:
        memory.tried.append(chunk.plan)
        done = len(memory.finished)
        if len(chunk.images) > memory.images(done) or chunk.plan.micro_batch > memory.sequences(done):
            raise request.param()
        found = find_chunk(self, chunk)
        memory.finished.append(list(chunk.sample_ids))
        return found

    monkeypatch.setattr(PathFinder, "_find_chunk", find_in_it)
    return memory


NAMES = [f"image {row}" for row in range(6)]


def find(finder: PathFinder) -> PathResult:
    return finder.find(make_images(), TARGETS, NAMES, progress=False)[0]


@pytest.fixture(scope="module")
def expected() -> PathResult:
    """What is found where memory is no matter."""
    return find(make_finder(tiny.make(dtype=torch.float32)))


@pytest.mark.parametrize(("images", "sequences"), [(1, 99), (2, 99), (99, 3), (99, 1), (1, 1)])
def test_what_memory_refuses_is_searched_in_smaller_pieces(
    images: int, sequences: int, memory: Memory, expected: PathResult
) -> None:
    memory.images, memory.sequences = lambda _: images, lambda _: sequences
    assert_same(find(make_finder(tiny.make(dtype=torch.float32), micro_batch=24)), expected)
    assert [name for names in memory.finished for name in names] == NAMES
    assert max(map(len, memory.finished)) <= images


def test_finished_chunks_are_not_searched_again(memory: Memory, expected: PathResult) -> None:
    memory.images = lambda done: 1 if done else 99
    assert_same(find(make_finder(tiny.make(dtype=torch.float32), micro_batch=12)), expected)
    assert [len(names) for names in memory.finished] == [3, 1, 1, 1]
    assert [name for names in memory.finished for name in names] == NAMES


def test_later_batches_begin_with_the_smaller_plan(memory: Memory, expected: PathResult) -> None:
    memory.images = lambda _: 2
    finder = make_finder(tiny.make(dtype=torch.float32), micro_batch=24)
    for _ in range(2):
        assert_same(find(finder), expected)
    smallest = memory.tried[-1]
    assert smallest.n_images <= 2
    assert memory.tried[-len(memory.finished) // 2 :] == [smallest] * (len(memory.finished) // 2)


def test_images_of_another_size_are_planned_anew(memory: Memory) -> None:
    memory.images = lambda _: 2
    finder = make_finder(tiny.make(dtype=torch.float32, dynamic_img_size=True), micro_batch=24)
    find(finder)
    memory.images = lambda _: 99
    memory.tried.clear()
    finder.find(make_images(6, size=16), TARGETS, progress=False)
    assert [plan.n_images for plan in memory.tried] == [6]


def test_methods_that_share_chunks_are_searched_again_together(memory: Memory) -> None:
    model, images = tiny.make(dtype=torch.float32), make_images()
    names = ["joint_attribution", "activation", "activation_matched_random"]

    def find_together() -> list[PathResult]:
        return make_finder(model, *names, micro_batch=24).find(images, TARGETS, NAMES, progress=False)

    unlimited = find_together()
    memory.images = lambda _: 4
    for ours, theirs in zip(find_together(), unlimited, strict=True):
        assert_same(ours, theirs)


def test_one_image_that_does_not_fit_is_told_in_one_line(memory: Memory) -> None:
    memory.images = lambda _: 0
    with pytest.raises(NeuronPathError, match=r"^Memory runs out with one image and passes of one sequence") as told:
        find(make_finder(tiny.make(dtype=torch.float32), micro_batch=24))
    assert "\n" not in str(told.value)
    last = memory.tried[-1]
    assert (last.n_images, last.micro_batch, last.keeps_graphs) == (1, 1, False)
    assert not memory.finished


@pytest.mark.parametrize("message", ["mat1 and mat2 shapes cannot be multiplied", "out of luck", ""])
def test_another_error_is_raised_as_it_is(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, tried = RuntimeError(message), []

    def broken(self: PathFinder, chunk: Chunk) -> list[PathResult]:
        tried.append(chunk.plan)
        raise error

    monkeypatch.setattr(PathFinder, "_find_chunk", broken)
    with pytest.raises(RuntimeError) as caught:
        find(make_finder(tiny.make(dtype=torch.float32)))
    assert caught.value is error
    assert len(tried) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_memory_may_end_in_the_middle_of_a_search(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny.make(dtype=dtype), tiny.make_images(6, dtype=dtype)
    [expected] = make_finder(model).find(images, TARGETS, progress=False)
    tail_gradients, lengths = tangent.tail_gradients, []

    def scarce(problem: Problem, index: int, residual: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        lengths.append(len(residual))
        if index == 1 and len(residual) > 5:
            raise no_main_memory()
        return tail_gradients(problem, index, residual, *others)

    monkeypatch.setattr(tangent, "tail_gradients", scarce)
    finder = make_finder(model, micro_batch=24)
    [found] = finder.find(images, TARGETS, progress=False)
    assert max(lengths) == 24
    assert lengths[-1] <= 5
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-7)
    assert torch.equal(found.paths, expected.paths)


def test_the_smaller_plan_is_kept() -> None:
    finder, images = make_finder(tiny.make(dtype=torch.float32), micro_batch=24), make_images()
    with finder.session.active():
        whole = finder.planner.plan(images)
        smaller = finder.planner.shrink(images)
        assert finder.planner.plan(images) == smaller == whole.halved()
