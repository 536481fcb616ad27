"""In float32, an image's logits after an intervention are its own, whatever is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.types import OperationName
from tests import tiny

pytestmark = pytest.mark.covering

OPERATIONS: tuple[OperationName, ...] = ("remove", "enhance", "mean_ablation", "resample_ablation", "keep_only")

every_edit = pytest.mark.parametrize(
    ("operation", "tokens"), [(operation, tokens) for operation in OPERATIONS for tokens in ("scope", "all")]
)


def assert_alone(model: nn.Module, images: Tensor, others: Tensor, operation: OperationName, tokens: Any) -> None:
    """`others` are the references, and the donors of the images in their order."""
    n_blocks = len(model.get_submodule("blocks")._modules)
    generator = torch.Generator().manual_seed(3)
    paths = torch.randint(24, (len(images), n_blocks, 2), generator=generator)

    def edited(rows: list[int]) -> Tensor:
        more: dict[str, Any] = {
            "mean_ablation": {"reference_images": others},
            "resample_ablation": {"donor_images": others[rows]},
        }.get(operation, {})
        return neuron_path.intervene(model, images[rows], paths[rows], operation, tokens=tokens, **more)

    every = list(range(len(images)))
    whole = edited(every)
    for rows in (every[::-1], every[1:4], [2, 2, 0, 2], *([row] for row in every)):
        torch.testing.assert_close(edited(rows), whole[rows], rtol=1e-5, atol=1e-5)


@every_edit
@pytest.mark.parametrize("name", ["cls", "avg"])
def test_an_image_of_a_tiny_model_is_on_its_own(name: str, operation: OperationName, tokens: str) -> None:
    images = tiny.make_images(10, dtype=torch.float32)
    assert_alone(tiny.make(name, dtype=torch.float32), images[:5], images[5:], operation, tokens)


@every_edit
def test_a_digit_is_on_its_own(operation: OperationName, tokens: str) -> None:
    images, _ = neuron_path.load_digits("test")
    assert_alone(neuron_path.load_model("digits_vit"), images[:5], images[5:10], operation, tokens)
