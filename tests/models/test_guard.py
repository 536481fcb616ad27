"""A model and the caller's settings of torch are as before, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.guard import check_weights, exact, frozen
from tests import tiny
from tests.models.state import assert_untouched, snapshot

Use = Callable[[VisionTransformer, Tensor], Any]
USES: dict[str, Use] = {
    "find": lambda model, images: neuron_path.find_paths(model, images, n_steps=2),
    "find_patch": lambda model, images: neuron_path.find_paths(model, images, n_steps=2, token_scope="patch"),
    "influence": lambda model, images: neuron_path.find_paths(model, images, scorer="influence_pattern", n_steps=2),
    "score": lambda model, images: neuron_path.score_paths(
        model, images, None, tiny.random_paths(model, len(images), 2), n_steps=2, measure="complete"
    ),
    "intervene": lambda model, images: neuron_path.intervene(model, images, tiny.random_paths(model, len(images), 2)),
}


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Use:
    return USES[request.param]


def mixed_model() -> VisionTransformer:
    """Partly training, partly frozen, with gradients and hooks of its owner."""
    model = tiny.make(proj_drop_rate=0.3, drop_path_rate=0.3, drop_rate=0.3, patch_drop_rate=0.3)
    model.train()
    model.blocks[1].eval()
    model.patch_embed.requires_grad_(requires_grad=False)
    model.head.register_forward_hook(lambda *_: None)
    for parameter in model.head.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def test_the_model_is_untouched(use: Use, images: Tensor) -> None:
    model = mixed_model()
    before = snapshot(model)
    use(model, images)
    assert_untouched(model, before)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_the_model_is_untouched_when_a_block_raises(
    use: Use, call: int, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mixed_model()
    before, settings = snapshot(model), (torch.is_grad_enabled(), torch.get_float32_matmul_precision())
    calls: list[int] = []
    norm = model.get_submodule("blocks.1.norm2")  # a module that every pass through the block calls

    forward = norm.forward

    def broken(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("out of memory")
        return forward(x)

    with monkeypatch.context() as patch:
        patch.setitem(vars(norm), "forward", broken)
        with suppress(RuntimeError):  # interventions make fewer calls than three
            use(model, images)
        assert len(calls) >= min(call, 2)
    assert_untouched(model, before)
    assert (torch.is_grad_enabled(), torch.get_float32_matmul_precision()) == settings
    assert not torch.is_inference_mode_enabled()


def test_an_exception_passes_through(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make()

    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.get_submodule("blocks.2.mlp.fc1"), "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        neuron_path.find_paths(model, images)


def flat(result: Any) -> list[Tensor]:
    parts = vars(result).values() if isinstance(result, neuron_path.PathResult) else [result]
    return [part for part in parts if isinstance(part, Tensor)]


@pytest.mark.parametrize(
    "context",
    [
        torch.inference_mode,
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["inference_mode", "no_grad", "enable_grad", "autocast"],
)
def test_the_callers_context_changes_nothing(use: Use, context: Callable[[], Any], images: Tensor) -> None:
    model = tiny.make(dtype=torch.float32)
    expected = flat(use(model, images.float()))
    with context():
        state = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        found = flat(use(model, images.float() + 0))  # under inference mode the images are inference tensors
        assert state == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad


@torch.inference_mode()
def test_targets_and_paths_may_be_inference_tensors(model: VisionTransformer, images: Tensor) -> None:
    targets = torch.tensor([3, 0, 4])
    result = neuron_path.find_paths(model, images + 0, targets)
    scores = neuron_path.score_paths(model, images + 0, targets, result.paths + 0)
    torch.testing.assert_close(scores, result.scores)
    neuron_path.intervene(model, images + 0, result.paths + 0)


def test_images_may_require_a_gradient(images: Tensor) -> None:
    images.requires_grad_()
    result = neuron_path.find_paths(tiny.make(), images)
    assert not result.scores.requires_grad
    assert images.grad is None


def precision() -> list[Any]:
    """All that torch tells of its float32 precision; a refusal to tell is also told."""
    settings: list[Any] = []
    for read in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            settings.append(read())
        except RuntimeError:
            settings.append("refused")
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn, torch.backends.mkldnn)
    return settings + [getattr(part, "fp32_precision", None) for part in parts]


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_float32_is_exact_inside_and_as_before_outside(name: str) -> None:
    torch.set_float32_matmul_precision(name)
    try:
        before = precision()
        with suppress(ValueError), exact(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
            raise ValueError
        assert precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_newer_interface_to_precision_is_understood() -> None:
    switch: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(switch, "fp32_precision"):
        return  # this torch has the older interface only
    switch.fp32_precision = "bf16"
    try:
        before = precision()
        assert before[0] == "refused"
        with exact(torch.device("cpu")):
            assert switch.fp32_precision == "ieee"
        assert switch.fp32_precision == "bf16"
        assert precision() == before
    finally:
        switch.fp32_precision = "none"


def test_guards_work_each_on_its_own() -> None:
    model = mixed_model()
    before = snapshot(model)
    with suppress(KeyError), frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise KeyError
    assert_untouched(model, before)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_must_be_finite(value: float) -> None:
    model = tiny.make()
    check_weights(model)
    with torch.no_grad():
        model.get_parameter("blocks.1.mlp.fc2.weight")[3, 2] = value
    with pytest.raises(NeuronPathError, match=r"'blocks\.1\.mlp\.fc2\.weight' holds NaN or infinity"):
        check_weights(model)
