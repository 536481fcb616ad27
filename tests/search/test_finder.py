"""The same path whatever the batch, also where float32 cannot tell the candidates apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.models.session import Session
from tests import tiny

pytestmark = pytest.mark.covering

SPLITS = [[6], [1] * 6, [4, 2], [1, 5]]


def twins(model: VisionTransformer, perturbation: float = 0.0) -> int:
    """Make every neuron's weights those of another, which mirrors it, times 1 + perturbation; the first such twin."""
    state = model.state_dict()
    generator = torch.Generator().manual_seed(5)
    first_twin = 0
    for index in range(len(model.blocks)):
        first, bias, second = (state[f"blocks.{index}.mlp.{name}"] for name in ("fc1.weight", "fc1.bias", "fc2.weight"))
        half = len(bias) // 2
        noise = 1 + perturbation * torch.randn(half, generator=generator).to(second)
        first[-half:], bias[-half:] = first[:half].flip(0), bias[:half].flip(0)
        second[:, -half:] = second[:, :half].flip(1) * noise
        first_twin = len(bias) - half
    return first_twin


def by_splits(model: VisionTransformer, images: Tensor, targets: Tensor, **options: Any) -> list[Tensor]:
    """Paths for every way of cutting the batch and its passes."""
    found = []
    for split in SPLITS:
        pairs = zip(images.split(split), targets.split(split), strict=True)
        parts = [neuron_path.find_paths(model, *pair, **options).paths for pair in pairs]
        found.append(torch.cat(parts))
    for micro_batch in (1, 5, 16, 48):
        found.append(neuron_path.find_paths(model, images, targets, micro_batch=micro_batch, **options).paths)
    return found


@pytest.mark.parametrize("scope", ["cls", "patch"])
@pytest.mark.parametrize("k", [1, 3])
def test_close_calls_are_those_of_float64(scope: str, k: int) -> None:
    # The head's own scope: elsewhere the last block's gradients are all 0 and its candidates true ties.
    model = tiny.make("avg" if scope == "patch" else "cls", dtype=torch.float32, embed_dim=24)
    twins(model, 1e-6)
    images, targets = tiny.make_images(6, dtype=torch.float32), torch.tensor([3, 0, 4, 1, 2, 2])
    options: dict[str, Any] = {"token_scope": scope, "top_k": k, "n_steps": 4}
    found = by_splits(model, images, targets, **options)
    double = neuron_path.find_paths(model.double(), images, targets, **options)
    if k == 1:
        assert (double.margins < 1e-5).all()  # every decision is a close call
        assert (double.margins > 1e-12).all()  # and none is a tie
    for paths in found:
        assert paths.tolist() == double.paths.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scope", ["cls", "patch"])
def test_exact_ties_go_to_the_lowest_index(scope: str, dtype: torch.dtype) -> None:
    # 102 neurons of width 24: twins lie in different parts of the matrix products and differ in the last bit.
    model = tiny.make(dtype=dtype, embed_dim=24, mlp_ratio=4.25)
    first_twin = twins(model)
    images, targets = tiny.make_images(6, dtype=dtype), torch.tensor([3, 0, 4, 1, 2, 2])
    found = by_splits(model, images, targets, token_scope=scope, n_steps=4)
    for paths in found:
        assert (paths < first_twin).all()
        assert paths.tolist() == found[0].tolist()


@pytest.mark.parametrize("gain", [20.0, 40.0, 100.0])
@pytest.mark.parametrize("unlikely", [True, False])
def test_extreme_odds_are_those_of_float64(gain: float, unlikely: bool) -> None:
    model = tiny.make(dtype=torch.float32)
    with torch.no_grad():
        tiny.classifier(model).weight.mul_(gain)
    images = tiny.make_images(6, dtype=torch.float32)
    logits = model(images)
    targets = logits.argmin(1) if unlikely else logits.argmax(1)
    double_model = tiny.make(dtype=torch.float32).double()
    double_model.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    double = neuron_path.find_paths(double_model, images, targets)
    for paths in by_splits(model, images, targets):
        assert paths.tolist() == double.paths.tolist()


def test_a_close_prediction_is_float64s(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make(dtype=torch.float32)
    head = tiny.classifier(model)
    with torch.no_grad():
        head.weight[1] = head.weight[3]
        head.bias[1] = head.bias[3] = 50.0
        head.weight[3] *= 1 + 2e-7
    images = tiny.make_images(6, dtype=torch.float32)
    runs = []
    double = Session.double
    monkeypatch.setattr(Session, "double", lambda self: (runs.append(1), double(self))[1])
    found = [neuron_path.find_paths(model, images, micro_batch=size) for size in (8, 48)]
    assert runs
    monkeypatch.undo()
    expected = neuron_path.find_paths(model.double(), images)
    for result in found:
        assert result.predictions.tolist() == result.targets.tolist() == expected.predictions.tolist()
        assert result.paths.tolist() == expected.paths.tolist()


def test_clear_calls_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "double", lambda _: pytest.fail("run again in float64"))
    model = tiny.make(dtype=torch.float32)
    result = neuron_path.find_paths(model, tiny.make_images(3, dtype=torch.float32), torch.tensor([3, 0, 4]))
    assert result.margins.min() > 1e-3


def test_settled_images_keep_the_models_dtype_and_their_place() -> None:
    model = tiny.make(dtype=torch.float32, embed_dim=24)
    twins(model, 1e-6)
    images, targets = tiny.make_images(6, dtype=torch.float32), torch.tensor([3, 0, 4, 1, 2, 2])
    result = neuron_path.find_paths(model, images, targets, keep_candidates=True)
    expected = neuron_path.find_paths(model.double(), images, targets, keep_candidates=True)
    for name, value in vars(result).items():
        reference = getattr(expected, name)
        if name == "rounding":
            assert value.max() < 1e-5
            assert reference is None
        elif not isinstance(value, torch.Tensor):
            assert reference == value
        elif value.is_floating_point():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, reference.float(), rtol=1e-4, atol=1e-6)
        else:
            assert value.tolist() == reference.tolist()


def test_a_model_whose_logits_know_no_neuron_is_told() -> None:
    model = tiny.make()
    torch.nn.init.zeros_(model.get_parameter("head.weight"))
    with pytest.warns(UserWarning, match="All scores are 0"):
        assert neuron_path.find_paths(model, tiny.make_images(1)).scores.tolist() == [0]


def test_of_a_model_that_amplifies_rounding_paths_are_exact_and_scores_to_their_rounding() -> None:
    model = tiny.make(dtype=torch.float32, depth=8)
    with torch.no_grad():
        for index in range(8):
            model.get_parameter(f"blocks.{index}.attn.qkv.weight").mul_(4)
    images, targets = tiny.make_images(6, dtype=torch.float32), torch.tensor([0, 1, 2, 3, 4, 0])
    together = neuron_path.find_paths(model, images, targets)
    for paths in by_splits(model, images, targets):
        assert torch.equal(together.paths, paths)
    assert together.rounding is not None
    promised = (10 * together.rounding).clamp(max=1e-4).double() * together.scores.double().abs()
    again = neuron_path.score_paths(model, images, targets, together.paths)
    assert isinstance(again, Tensor)
    assert ((again - together.scores).abs() <= promised).all()
    exact = neuron_path.find_paths(model.double(), images.double(), targets)
    assert torch.equal(together.paths, exact.paths)
    assert ((together.scores - exact.scores).abs() <= promised).all()
