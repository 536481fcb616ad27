"""What fewer digits and compiled blocks change, and what they leave exact."""

from __future__ import annotations

import warnings
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution import arithmetic
from neuron_path.attribution.arithmetic import PRECISIONS, Arithmetic, has_units
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.attribution.tail import tail_gradients, tail_value
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.models.guard import exact, tensor_float_32
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult
from tests import tiny

pytestmark = pytest.mark.covering

CPU = torch.device("cpu")
TARGETS = torch.tensor([3, 0, 4, 1])
WITH_TAILS = ["complete_attribution", "integrated_gradients", "joint_attribution"]  # rated in float32 by tails

both_scopes = pytest.mark.parametrize("name", ["cls", "avg"])


@pytest.fixture
def every_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device for every precision; autocast works on any CPU."""
    monkeypatch.setattr(arithmetic, "has_units", lambda *_: True)


@pytest.fixture
def no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with nothing but float32."""
    monkeypatch.setattr(arithmetic, "has_units", lambda precision, _: precision == "fp32")


def find(name: str = "cls", dtype: torch.dtype = torch.float32, depth: int = 3, **options: Any) -> PathResult:
    model, images = tiny.make(name, dtype=dtype, depth=depth), tiny.make_images(4, dtype=dtype)
    return neuron_path.find_paths(model, images, TARGETS, keep_candidates=True, n_steps=4, **options)


def assert_equal(found: PathResult, expected: PathResult) -> None:
    for name, value in vars(found).items():
        other = getattr(expected, name)
        assert value == other if not isinstance(value, Tensor) else torch.equal(value, other), name


def candidates(found: PathResult) -> Tensor:
    assert found.candidate_scores is not None
    return found.candidate_scores.nan_to_num(0, neginf=0)


def change(found: PathResult, expected: PathResult, index: int) -> float:
    """The largest change of a candidate's score in a block, relative to the largest score."""
    ours, theirs = candidates(found)[:, index], candidates(expected)[:, index]
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
@both_scopes
def test_fp32_is_what_the_blocks_compute_one_after_another(name: str) -> None:
    model, images = tiny.make(name, dtype=torch.float32), tiny.make_images(4, dtype=torch.float32)
    adapter = adapt(model.requires_grad_(requires_grad=False))
    problem = Problem.pose(adapter, images, TARGETS, Quadrature(), 100)
    assert problem.arithmetic == Arithmetic() == Arithmetic("fp32", compiled=False)
    h = problem.clean.embedded
    for index in range(len(adapter.blocks)):
        h = adapter.run(index, h)
    expected = problem.target_values(adapter.head(h), problem.every_image)
    assert torch.equal(tail_value(problem, problem.clean.embedded, 0, problem.every_image), expected)


def test_fp32_changes_nothing_on_any_device() -> None:
    plain = Arithmetic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for device in ("cpu", "cuda", "mps"):
            assert plain.on(torch.device(device)) == plain
    adapter = adapt(tiny.make())
    assert plain.runner(adapter) == adapter.run
    assert isinstance(plain.forwards(CPU), nullcontext)
    assert isinstance(plain.both_ways(), nullcontext)


def test_compile_is_true_or_false() -> None:
    with pytest.raises(NeuronPathError, match="compile is 'yes'; expected True or False"):
        find("cls", compile="yes")


@both_scopes
def test_fp32_is_the_default(name: str) -> None:
    assert_equal(find(name, precision="fp32", compile=False), find(name))


@both_scopes
@pytest.mark.parametrize("scorer", WITH_TAILS)
def test_bf16_changes_ratings_a_little(scorer: str, name: str, every_unit: None) -> None:
    found, expected = find(name, scorer=scorer, precision="bf16"), find(name, scorer=scorer)
    assert found.scores.dtype == torch.float32
    assert 1e-5 < change(found, expected, index=0) < 0.05
    same = (found.paths == expected.paths).all(1)
    assert same.any()
    torch.testing.assert_close(candidates(found)[same], candidates(expected)[same], rtol=0.1, atol=0.05)


@both_scopes
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("scorer", scorers.names())
def test_the_score_of_the_path_found_is_exact(scorer: str, precision: str, name: str, every_unit: None) -> None:
    found = find(name, scorer=scorer, precision=precision)
    model, images = tiny.make(name, dtype=torch.float32, depth=3), tiny.make_images(4, dtype=torch.float32)
    exactly = neuron_path.score_paths(model, images, TARGETS, found.paths, n_steps=4)
    assert isinstance(exactly, Tensor)
    missing = 0 if found.score_errors is None else 10 * found.score_errors  # an estimate
    assert ((found.scores - exactly).abs() <= 1e-5 * exactly.abs() + 1e-7 + missing).all()


@pytest.mark.parametrize("scorer", sorted({*scorers.names()} - {*WITH_TAILS, "activation_matched_random"}))
def test_what_has_no_tail_in_float32_is_as_it_was(scorer: str, every_unit: None) -> None:
    assert_equal(find(scorer=scorer, precision="bf16"), find(scorer=scorer))


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_model_in_float64_stays_exact(precision: str, every_unit: None) -> None:
    with pytest.warns(UserWarning, match="The model is in float64"):
        found = find(dtype=torch.float64, precision=precision)
    assert_equal(found, find(dtype=torch.float64))


def test_the_last_block_has_no_tail(every_unit: None) -> None:
    assert_equal(find(depth=1, precision="bf16"), find(depth=1))


@torch.no_grad()
def test_gradients_come_in_the_model_s_own_type() -> None:
    model, images = tiny.make(dtype=torch.float32), tiny.make_images(4, dtype=torch.float32)
    adapter = adapt(model.requires_grad_(requires_grad=False))
    problem = replace(Problem.pose(adapter, images, TARGETS, Quadrature(), 100), arithmetic=Arithmetic("bf16"))
    scoped, live = adapter.split(0, problem.clean.embedded)
    parts = (adapter.blocks[0].residual(scoped), live, problem.clean.projected[0].clone(), problem.every_image)
    assert all(gradient.dtype == torch.float32 for gradient in tail_gradients(problem, 0, *parts))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_without_units_it_runs_in_fp32_with_one_line_of_warning(precision: str, no_unit: None) -> None:
    with pytest.warns(UserWarning, match=f"^This CPU has no units for {precision}: the search runs in fp32") as told:
        found = find(precision=precision)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert_equal(found, find())


def test_no_cpu_has_units_for_tf32() -> None:
    assert not has_units("tf32", CPU)
    with pytest.warns(UserWarning, match="This CPU has no units for tf32"):
        assert Arithmetic("tf32").on(CPU) == Arithmetic()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx2": True}, True),
        ({"avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_a_cpu_s_units_for_bf16_are_those_that_it_tells_of(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_units("bf16", CPU) == expected
    assert has_units("fp32", CPU)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_gpu_has_units_from_ampere_on(
    precision: str, capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    device = torch.device("cuda")
    assert has_units(precision, device) == expected
    if not expected:
        with pytest.warns(UserWarning, match=f"This GPU has no units for {precision}"):
            assert Arithmetic(precision).on(device) == Arithmetic()


def make_finder(n: int, **options: Any) -> PathFinder:
    names = ["joint_attribution", "activation", "random"][:n]
    method, *others = [Method(scorers.create(name), searches.create("greedy")) for name in names]
    settings = SearchSettings(Quadrature(n_steps=2), **options)
    return PathFinder(Session(tiny.make(dtype=torch.float32)), method, settings, others)


def test_a_finder_is_warned_once_whatever_it_searches(no_unit: None) -> None:
    images, finder = tiny.make_images(4, dtype=torch.float32), make_finder(3, precision="bf16")
    with pytest.warns(UserWarning, match="no units for bf16") as told:
        finder.find(images, TARGETS, progress=False)
    assert len(told) == 1
    finder.find(images, TARGETS, progress=False)


@pytest.mark.parametrize(("name", "hint"), [("bf-16", "bf16"), ("fp23", "fp32"), ("tf-32", "tf32")])
def test_an_unknown_precision_is_one_line_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(NeuronPathError) as told:
        find(precision=name)
    assert str(told.value) == (
        f"No precision is named '{name}'. Did you mean '{hint}'? Known: {', '.join(sorted(PRECISIONS))}."
    )


def test_nothing_like_a_precision_is_refused_too() -> None:
    for wrong in (None, 32, "", "half precision"):
        with pytest.raises(NeuronPathError, match=r"^No precision is named .* Known: bf16, fp32, tf32\.$"):
            Arithmetic(wrong)  # pyright: ignore[reportArgumentType]


def switches() -> list[Any]:
    """All that torch tells of its float32 arithmetic."""
    parts = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")
    told: list[Any] = [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32]
    for part in parts:
        owner, _, name = part.partition(".")
        told.append(getattr(getattr(getattr(torch.backends, owner), name, None), "fp32_precision", None))
    return told


@pytest.mark.parametrize("raises", [False, True])
def test_tf32_is_on_within_and_off_again_after_an_exception_too(raises: bool) -> None:
    outside = switches()
    with exact(CPU):
        within = switches()
        assert within[0] == "highest"
        with suppress(ValueError), tensor_float_32():
            assert torch.get_float32_matmul_precision() == "high"
            if raises:
                raise ValueError
        assert switches() == within
    assert switches() == outside


def test_a_search_in_tf32_leaves_the_switches_as_they_were(every_unit: None, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, seen = switches(), []

    def broken(*_: Any) -> Tensor:
        seen.append(torch.get_float32_matmul_precision())
        raise ZeroDivisionError

    find(precision="tf32")
    assert switches() == outside
    monkeypatch.setattr("neuron_path.attribution.tail.tail_value", broken)
    with pytest.raises(ZeroDivisionError):
        find(precision="tf32")
    assert seen == ["high"]
    assert switches() == outside


@pytest.mark.slow  # half a minute, where nothing has been compiled before
@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor that is not a leaf")  # torch's, while it compiles
def test_compiled_blocks_find_the_same() -> None:
    if arithmetic._cannot_compile(CPU):
        pytest.skip("there is no compiler here")
    expected, found = find(depth=2), find(depth=2, compile=True)
    assert torch.equal(found.paths, expected.paths)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-7)
    assert change(found, expected, index=0) < 1e-5


def test_a_block_is_compiled_once_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda run: (compiled.append(run), run)[1])
    expected = find(depth=2)
    compiled.clear()
    model, images = tiny.make(dtype=torch.float32, depth=2), tiny.make_images(4, dtype=torch.float32)
    finder = make_finder(1, compile=True)
    for _ in range(2):
        finder.find(images, TARGETS, progress=False)
    assert len(compiled) == 2  # the trial and the blocks
    found = neuron_path.find_paths(model, images, TARGETS, n_steps=4, keep_candidates=True, compile=True)
    assert_equal(found, expected)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("No working C++ compiler was found.\nTrace:\n…"), "No working C++ compiler was found"),
        (FileNotFoundError("g++"), "g++"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_without_a_compiler_it_runs_without_and_says_so_in_one_line(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(run: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise error

        return fail

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.warns(UserWarning, match="^torch.compile does not work here") as told:
        found = find(compile=True)
    assert len(told) == 1
    assert str(told[0].message) == f"torch.compile does not work here ({reason}): the search runs without it."
    assert_equal(found, find())


@pytest.mark.parametrize("asked", [Arithmetic("bf16"), Arithmetic("tf32"), Arithmetic(compiled=True)])
def test_models_of_another_type_are_searched_as_they_are_with_one_line(asked: Arithmetic) -> None:
    with pytest.warns(UserWarning, match="The model is in float64: precision and compile are for models in float32;"):
        assert asked.on(CPU, torch.float64) == Arithmetic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Arithmetic().on(CPU, torch.float64) == Arithmetic()
