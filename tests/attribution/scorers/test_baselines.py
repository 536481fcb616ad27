"""The activation and influence-pattern baselines against the literal oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import neuron_path
from tests import oracle, tiny

pytestmark = pytest.mark.covering


def assert_rates(case: tiny.Case, images: Tensor, targets: Tensor, scorer: str, expected: Tensor, k: int) -> None:
    """Candidates, paths and final scores follow from the expected (B, L, F) ratings."""
    model, scope = case
    result = neuron_path.find_paths(
        model,
        images,
        targets,
        scorer=scorer,
        quadrature="riemann_left",
        n_steps=5,
        token_scope=scope,
        top_k=k,
        keep_candidates=True,
    )
    torch.testing.assert_close(result.candidate_scores, expected, rtol=1e-9, atol=1e-13)
    paths = expected.argsort(dim=2, descending=True, stable=True)[:, :, :k]
    assert result.paths.view(paths.shape).tolist() == paths.tolist()
    setting = tiny.literal(model, scope, "riemann_left")
    scores = [
        oracle.joint_score(setting, *row).item() for row in zip(images, targets.tolist(), paths.tolist(), strict=True)
    ]
    assert result.scores.tolist() == pytest.approx(scores, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.core
def test_activation(case: tiny.Case, k: int, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    setting = tiny.literal(model, scope, "riemann_left")
    ratings = [torch.stack([w.sum(0) for w in oracle.clean_activations(setting, image)]) for image in images]
    assert_rates(case, images, targets, "activation", torch.stack(ratings), k)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.core
def test_influence_pattern(case: tiny.Case, k: int, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    setting = tiny.literal(model, scope, "riemann_left")
    rows = zip(images, targets.tolist(), strict=True)
    ratings = torch.stack([oracle.influence_pattern(setting, image, target) for image, target in rows])
    assert_rates(case, images, targets, "influence_pattern", ratings, k)
