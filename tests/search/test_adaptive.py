"""The adaptive rule against a literal one: each image alone, every objective anew from its values at the nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import legfit
from torch import Tensor

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from tests import oracle, tiny

# So few nodes at most that some choices stay in doubt.
pytestmark = [
    pytest.mark.covering,
    pytest.mark.filterwarnings("ignore:With .* nodes, as many as max_steps allows"),
]
TOLERANCE, MOST = 1e-3, 16
RULE = Quadrature("adaptive", tolerance=TOLERANCE, max_steps=MOST)


def at_every_node(setting: oracle.Setting, value: Any) -> np.ndarray:
    """(m, …) what an integral's integrand is at each node: each node with weight one, alone."""
    alone = torch.eye(len(setting.alpha), dtype=torch.float64)
    return np.stack([value(replace(setting, weights=weights)).numpy() for weights in alone])


def error(setting: oracle.Setting, values: np.ndarray) -> np.ndarray:
    """The estimate that is documented, from a fitted Legendre series."""
    m = len(setting.alpha)
    series = legfit(2 * setting.alpha.numpy() - 1, values.reshape(m, -1), m - 1)
    last, whole = np.hypot(series[-1], series[-2]), np.sqrt((series[[0, 1, -2, -1]] ** 2).sum(0))
    return 0.5 * whole * (last / whole) ** 2 * (last / whole) ** (2 / (m - 2))


def literal(model: Any, scope: str, image: Tensor, target: int, k: int) -> tuple[list[list[int]], float, float, int]:
    """Path, score, its estimated error, and nodes of one image."""
    n_blocks = len(model.blocks)
    path: list[list[int]] = []
    unsure = [True] * n_blocks
    score, its_error = 0.0, math.inf
    m = 4
    while True:
        setting = tiny.literal(model, scope, n_steps=m)
        again, has_moved, still = [], False, [False] * n_blocks
        for index in range(n_blocks):
            if not (unsure[index] or has_moved):
                again.append(path[index])
                continue
            values = at_every_node(setting, lambda s, p=list(again): oracle.objective(s, image, target, p))
            means = np.einsum("m,mf->f", setting.weights.numpy(), values)
            order = np.argsort(-means, kind="stable")
            pairs = [(order[i], order[i + 1]) for i in range(k - 1)] + [(order[k - 1], other) for other in order[k:]]
            for better, worse in pairs:
                if means[better] - means[worse] < error(setting, values[:, better] - values[:, worse])[0]:
                    still[index] = True
            again.append(order[:k].tolist())
            has_moved = has_moved or (bool(path) and again[index] != path[index])
        path, unsure = again, still
        if has_moved or its_error > TOLERANCE * abs(score):
            scores = at_every_node(setting, lambda s, p=path: oracle.joint_score(s, image, target, p))
            score, its_error = float(setting.weights.numpy() @ scores), float(error(setting, scores)[0])
        if m == MOST or not (any(unsure) or its_error > TOLERANCE * abs(score)):
            return path, score, its_error, m
        m = min(2 * m, MOST)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.core
def test_paths_scores_and_nodes_are_the_literal_ones(case: tiny.Case, k: int, images: Tensor, targets: Tensor) -> None:
    model, scope = case
    found = neuron_path.find_paths(model, images, targets, quadrature=RULE, token_scope=scope, top_k=k)
    assert found.score_errors is not None
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path, score, its_error, n_steps = literal(model, scope, image, target, k)
        assert found.paths[row].view(-1, k).tolist() == path
        assert found.n_steps[row] == n_steps
        assert found.scores[row].item() == pytest.approx(score, rel=1e-9, abs=1e-13)
        assert found.score_errors[row].item() == pytest.approx(its_error, rel=1e-6, abs=1e-13)


def test_some_images_need_more_nodes_than_others(images: Tensor, targets: Tensor) -> None:
    """Else the comparisons of this file would say little."""
    found = neuron_path.find_paths(tiny.make(), images, targets, quadrature=RULE)
    digits = neuron_path.find_paths(neuron_path.load_model(), neuron_path.load_digits("test")[0][:12], quadrature=RULE)
    assert len(found.n_steps.unique()) > 1
    assert len(digits.n_steps.unique()) > 1


def test_digits_that_few_nodes_get_wrong_are_put_right() -> None:
    model, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    images, labels = images[[8, 39, 54, 67]], labels[[8, 39, 54, 67]]
    converged = neuron_path.find_paths(model, images, labels, n_steps=64)
    few = neuron_path.find_paths(model, images, labels, n_steps=4)
    found = neuron_path.find_paths(model, images, labels, quadrature="adaptive")
    assert (few.paths != converged.paths).any(1).all()
    assert torch.equal(found.paths, converged.paths)
    torch.testing.assert_close(found.scores, converged.scores, rtol=1e-4, atol=0)
    assert (found.n_steps > 4).all()


@pytest.mark.parametrize("scorer", scorers.names())
@pytest.mark.parametrize("name", ["cls", "avg"])
def test_no_image_depends_on_the_others(name: str, scorer: str) -> None:
    model = tiny.make(name, dtype=torch.float32)
    images, targets = tiny.make_images(6, dtype=torch.float32), torch.tensor([3, 0, 4, 1, 2, 2])
    names = [str(row) for row in range(6)]
    options: dict[str, Any] = {"scorer": scorer, "quadrature": RULE, "keep_candidates": True}
    together = neuron_path.find_paths(model, images, targets, micro_batch=24, **options)
    for row in range(6):
        alone = neuron_path.find_paths(model, images[row : row + 1], targets[row : row + 1], **options)
        ours = tiny.select(together, slice(row, row + 1))
        assert torch.equal(ours.paths, alone.paths)
        assert torch.equal(ours.n_steps, alone.n_steps)
        torch.testing.assert_close(ours.scores, alone.scores, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.candidate_scores, alone.candidate_scores, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert len(names) == len(together)


@pytest.mark.parametrize("measure", ["joint", "complete"])
def test_given_paths_are_scored_to_the_tolerance(measure: Any, images: Tensor, targets: Tensor) -> None:
    model = tiny.make()
    paths = tiny.random_paths(model, len(images), 2)
    rule = Quadrature("adaptive", tolerance=1e-6)
    scores = neuron_path.score_paths(model, images, targets, paths, quadrature=rule, measure=measure)
    exact = neuron_path.score_paths(model, images, targets, paths, n_steps=64, measure=measure)
    torch.testing.assert_close(scores, exact, rtol=1e-6, atol=1e-12)


def test_choices_that_the_most_nodes_leave_in_doubt_are_told(images: Tensor, targets: Tensor) -> None:
    model = tiny.make()
    with pytest.warns(UserWarning, match="With 4 nodes, as many as max_steps allows, some choices"):
        neuron_path.find_paths(model, images, targets, quadrature=Quadrature("adaptive", max_steps=4))
