"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Sequence

import hypothesis
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path import progress
from tests import tiny
from tests.covering import leave_the_rest_to_stress

# A cache of their own for the tests and all that they start, so that the user's is neither read nor written.
_CACHE = tempfile.TemporaryDirectory(prefix="neuron-path-cache-")
atexit.register(_CACHE.cleanup)
os.environ["XDG_CACHE_HOME"] = _CACHE.name
# Tiny tensors: threads only wait for each other, here and in processes that tests start. A busy machine is no failure.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
progress._SECONDS_TO_FIRST_LINE = 3600
hypothesis.settings.register_profile("neuron_path", deadline=None, max_examples=25)
hypothesis.settings.load_profile("neuron_path")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    leave_the_rest_to_stress(items)
    if config.option.markexpr == "core":  # of its tests too only what is not slow
        config.option.markexpr = "core and not slow"


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
