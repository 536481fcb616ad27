"""How the ratings of a scorer are compared with a literal computation of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.scorer import Scorer
from neuron_path.types import PathResult
from tests import oracle, tiny

# Neurons a block, and what of the target class is attributed.
FORMS = ((1, "probability"), (3, "margin"))
Rate = Callable[[oracle.Setting, Tensor, int], Tensor]
Find = Callable[[oracle.Setting, Tensor, int, int], tuple[list[list[int]], Tensor]]

every_form = pytest.mark.parametrize(("k", "function"), FORMS)


def find(case: tiny.Case, images: Tensor, targets: Tensor, scorer: str | Scorer, **options: Any) -> PathResult:
    model, scope = case
    options = {"n_steps": 5, "token_scope": scope, "keep_candidates": True} | options
    return neuron_path.find_paths(model, images, targets, scorer=scorer, **options)


def ratings(case: tiny.Case, images: Tensor, targets: Tensor, scorer: str | Scorer, **options: Any) -> Tensor:
    """(B, L, F) what the package rates the neurons."""
    found = find(case, images, targets, scorer, **options).candidate_scores
    assert found is not None
    return found


def assert_finds(
    case: tiny.Case, images: Tensor, targets: Tensor, scorer: str | Scorer, literal: Find, k: int, function: str
) -> None:
    """Candidates, paths and final scores are those of a literal search.

    By a rule that does not converge, all of whose nodes every score takes.
    """
    model, scope = case
    result = find(case, images, targets, scorer, top_k=k, target=function, quadrature="riemann_left")
    assert result.candidate_scores is not None
    setting = tiny.literal(model, scope, "riemann_left", target_function=function)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path, expected = literal(setting, image, target, k)
        torch.testing.assert_close(result.candidate_scores[row], expected, rtol=1e-9, atol=1e-13)
        assert result.paths[row].reshape(-1, k).tolist() == path
        score = oracle.joint_score(setting, image, target, path)
        torch.testing.assert_close(result.scores[row], score, rtol=1e-9, atol=1e-13)


def assert_rates(
    case: tiny.Case, images: Tensor, targets: Tensor, scorer: str | Scorer, literal: Rate, k: int, function: str
) -> None:
    """The same for a scorer that rates each block on its own: the k best are its path."""

    def search(setting: oracle.Setting, image: Tensor, target: int, k: int) -> tuple[list[list[int]], Tensor]:
        expected = literal(setting, image, target)
        return expected.argsort(dim=1, descending=True, stable=True)[:, :k].tolist(), expected

    assert_finds(case, images, targets, scorer, search, k, function)
