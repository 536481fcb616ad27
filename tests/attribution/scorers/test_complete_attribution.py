"""Complete attribution against the literal oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_finds, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.core
def test_paths_are_the_oracles(case: tiny.Case, images: Tensor, targets: Tensor, k: int, function: str) -> None:
    def literal(setting: oracle.Setting, image: Tensor, target: int, k: int) -> tuple[list[list[int]], Tensor]:
        return oracle.greedy_path(setting, image, target, k, complete=True)

    assert_finds(case, images, targets, "complete_attribution", literal, k, function)


def test_the_first_block_is_integrated_gradients(case: tiny.Case, images: Tensor, targets: Tensor) -> None:
    # Nothing is before it, and it is all that is frozen.
    ours = ratings(case, images, targets, "complete_attribution")
    other = ratings(case, images, targets, "integrated_gradients")
    torch.testing.assert_close(ours[:, 0], other[:, 0], rtol=1e-9, atol=1e-13)
