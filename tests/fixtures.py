"""Fixtures that several test files share."""

from __future__ import annotations

import hypothesis
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path import progress
from tests import tiny

# A busy machine is no failure.
torch.set_num_threads(1)
progress._SECONDS_TO_FIRST_LINE = 3600
hypothesis.settings.register_profile("neuron_path", deadline=None, max_examples=25)
hypothesis.settings.load_profile("neuron_path")


def _devices() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


@pytest.fixture(params=_devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device there is."""
    return torch.device(request.param)


@pytest.fixture(params=tiny.CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tiny.Case:
    """A tiny float64 model of every kind, with every token scope it has."""
    name, scope = request.param
    return tiny.make(name), scope


@pytest.fixture
def model() -> VisionTransformer:
    """A tiny float64 model with a class-token head."""
    return tiny.make()


@pytest.fixture
def images() -> Tensor:
    """(3, 3, 8, 8) float64."""
    return tiny.make_images()


@pytest.fixture
def targets() -> Tensor:
    """One target for each of `images`, none like another."""
    return torch.tensor([3, 0, 4])
