"""What only models have whose class token joins late, or whose tokens change on the way: TNT and Hiera."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from timm.models.cait import Cait
from timm.models.convit import ConVit
from timm.models.hiera import Hiera
from timm.models.xcit import Xcit
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from tests import zoo

HERE = ("convit", "cait", "xcit", "tnt", "hiera")
SPECIMENS = [name for name, specimen in zoo.SPECIMENS.items() if specimen.family in HERE]
CAIT: dict[str, Any] = dict(zoo.SPECIMENS["cait-avg"].model.arguments)


def logits(model: nn.Module, token_scope: str | None, images: Tensor) -> Tensor:
    adapter = adapt(model, token_scope)
    h = adapter.embed(images)
    for index in range(len(adapter.blocks)):
        h = adapter.run(index, h)
    return adapter.head(h)


@pytest.mark.parametrize("name", SPECIMENS)
def test_images_of_another_size_are_refused(name: str) -> None:
    specimen = zoo.SPECIMENS[name]
    adapter = adapt(specimen.make())
    channels, height, width = specimen.image
    adapter.check_images(torch.zeros(2, channels, height, width))
    for shape in ((channels, height, 2 * width), (channels, 2 * height, width), (channels + 1, height, width)):
        with pytest.raises(NeuronPathError, match=rf"this model takes \(B, {channels}, {height}, {width}\)"):
            adapter.check_images(torch.zeros(2, *shape))


def test_there_is_no_scope_for_a_class_token_that_nothing_reads() -> None:
    model = zoo.SPECIMENS["cait-avg"].make()
    with pytest.raises(NeuronPathError, match=r"^Token scope 'cls' needs a class token.*use 'patch'.$"):
        adapt(model, "cls")


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize(("n_local", "scopes"), [(0, ("patch", "cls")), (4, ("patch",)), (9, ("patch",))])
def test_convit_with_its_class_token_first_or_never(n_local: int, scopes: tuple[str, ...], pool: str) -> None:
    specimen = zoo.SPECIMENS["convit-cls"]
    model = ConVit(**{**specimen.model.arguments, "local_up_to_layer": n_local, "global_pool": pool}).double().eval()
    zoo.randomise(model, seed=0)
    assert adapt(model).scope.name == ("cls" if n_local == 0 and pool == "token" else "patch")
    for scope in scopes:
        assert len(adapt(model, scope).blocks) == 4
        torch.testing.assert_close(logits(model, scope, specimen.images()), model(specimen.images()))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("used", [False, True])
def test_convit_keeps_its_relative_positions_usable(context: Callable[[], Any], used: bool) -> None:
    specimen = zoo.SPECIMENS["convit-cls"]
    model, images = specimen.make(), specimen.images()
    expected = copy.deepcopy(model)
    expected(images)
    entered: AbstractContextManager[None] = context()
    with entered:
        if used:  # by its owner, in the same context
            model(images)
        logits(model, "patch", images)
    adapter = adapt(model, "patch")
    h = adapter.embed(images)
    torch.func.jvp(adapter.blocks[0].mix, (h,), (h,))
    buffers = dict(expected.named_buffers())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    copy.deepcopy(model)
    model(images).sum().backward()


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_models_without_class_attention(pool: str) -> None:
    models = [
        (Cait(**CAIT | {"depth_token_only": 0, "global_pool": pool}), (3, 8, 8)),
        (
            Xcit(**zoo.VIT | {"img_size": (24, 20), "patch_size": 8, "cls_attn_layers": 0, "global_pool": pool}),
            (3, 24, 20),
        ),
    ]
    for model, shape in models:
        zoo.randomise(model.double().eval(), seed=0)
        images = torch.randn(2, *shape, dtype=torch.float64)
        torch.testing.assert_close(logits(model, None, images), model(images))


def test_videos_are_refused() -> None:
    stages: dict[str, Any] = {"q_stride": (1, 2, 2), "mask_unit_size": (1, 8, 8), "sep_pos_embed": True, "embed_dim": 8}
    patches: dict[str, Any] = {"patch_kernel": (3, 7, 7), "patch_stride": (2, 4, 4), "patch_padding": (1, 3, 3)}
    with pytest.raises(NeuronPathError, match="takes inputs of 3 dimensions; only images are supported"):
        adapt(Hiera(img_size=(16, 224, 224), num_classes=5, **stages, **patches))


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_subclass_may_do_anything_and_is_refused(name: str) -> None:
    model = zoo.SPECIMENS[name].make()
    model.__class__ = type("Own", (type(model),), {})
    with pytest.raises(NeuronPathError, match="Own"):
        adapt(model)
