"""Remove and enhance against hooks on the live timm model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.scaling import factor_of
from neuron_path.types import OperationName
from tests import oracle, tiny


@pytest.mark.parametrize(("operation", "factor"), [("remove", 0.0), ("enhance", 2.0)])
@pytest.mark.parametrize("k", [1, 3])
def test_logits_are_the_oracles(
    case: tiny.Case, k: int, operation: OperationName, factor: float, images: Tensor
) -> None:
    model, scope = case
    paths = tiny.random_paths(model, len(images), k)
    given = paths.squeeze(2) if k == 1 else paths
    logits = neuron_path.intervene(model, images, given, operation, token_scope=scope)
    setting = tiny.literal(model, scope)
    expected = [
        oracle.intervened(setting, image, path, factor) for image, path in zip(images, paths.tolist(), strict=True)
    ]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-9, atol=1e-12)
    # Of a cls-headed model in patch scope the last block is read by nobody; all earlier ones are.
    assert ((logits - model(images)).abs().amax(1) > 1e-6).all()


def test_an_unknown_operation_is_one_line() -> None:
    with pytest.raises(NeuronPathError, match=r"No operation is named 'removed'\. Did you mean 'remove'"):
        factor_of("removed")
