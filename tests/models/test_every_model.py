"""Every model of timm's supported modules, on the meta device: widths without weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, adapt
from tests import zoo

N_CLASSES = 10
MODULES = sorted({specimen.family for specimen in zoo.SPECIMENS.values()})


def make(name: str) -> Any:
    """The model with two blocks, which says as much as all and is quicker; whole where its blocks are not alike."""
    with torch.device("meta"):
        try:
            model = timm.create_model(name, num_classes=N_CLASSES, depth=2)
        except (TypeError, AssertionError):
            model = timm.create_model(name, num_classes=N_CLASSES)
    return model.eval()


def image_of(adapter: Adapter, model: Any) -> torch.Tensor:
    """An image of the model's own size, or where any will do of that of its weights."""
    channels, height, width = adapter.input_shape()
    if height is None or width is None:
        _, height, width = model.pretrained_cfg.get("input_size") or (3, 224, 224)
    return torch.empty(1, channels, height, width, device="meta")


@torch.no_grad()
@pytest.mark.slow  # half a minute for the largest
@pytest.mark.parametrize("module", MODULES)
def test_every_model_of_a_supported_module_has_its_neurons(module: str) -> None:
    names = timm.list_models(module=module)
    assert names
    for name in names:
        model = make(name)
        if model.num_classes == 0:  # the encoders of language models take no classifier
            with pytest.raises(NeuronPathError, match="not supported"):
                adapt(model)
            continue
        adapter = adapt(model)
        assert len(adapter.blocks) >= 2, name
        h = adapter.embed(image_of(adapter, model))
        for index, block in enumerate(adapter.blocks):
            scoped, _ = adapter.split(index, h)
            assert block.activations(scoped).shape == (1, scoped.shape[1], block.n_neurons), name
            assert block.columns(torch.zeros(1, 2, dtype=torch.int64, device="meta")).shape[:2] == (1, 2), name
            h = adapter.run(index, h)
        assert adapter.head(h).shape == (1, N_CLASSES), name
