"""Every kind of model in the zoo, in float64, against the literal oracle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.scorers.ablation import Ablation
from neuron_path.attribution.scorers.knowledge_neurons import KnowledgeNeurons
from neuron_path.types import TokenScopeName
from tests import oracle, zoo

FUNCTIONS = ("probability", "logit", "margin")
N_STEPS = 3

every_case = pytest.mark.parametrize(("name", "scope"), zoo.CASE_PARAMS)


@cache
def model_of(name: str) -> nn.Module:
    return zoo.SPECIMENS[name].make()


def images_of(name: str) -> Tensor:
    return zoo.SPECIMENS[name].images(2)


def assert_same(name: str, ours: Tensor, theirs: Tensor) -> None:
    """As nearly as numbers agree that are computed in two ways."""
    precision = zoo.SPECIMENS[name].precision
    torch.testing.assert_close(
        ours, theirs, rtol=max(1e-7, 100 * precision), atol=max(1e-10, 10 * precision), equal_nan=True
    )


def target_of(name: str, scope: TokenScopeName) -> str:
    """Another target function for each specimen, so that all kinds of model meet all of them."""
    return FUNCTIONS[zoo.CASES.index((name, scope)) % len(FUNCTIONS)]


def assert_like_the_oracle(name: str, scope: TokenScopeName, found: Any, k: int, target: str) -> None:
    specimen = zoo.SPECIMENS[name]
    setting = specimen.literal(model_of(name), scope, n_steps=N_STEPS, target_function=target)
    for row, (image, y) in enumerate(zip(images_of(name), found.targets.tolist(), strict=True)):
        path, objectives = oracle.greedy_path(setting, image, y, k)
        assert found.paths[row].reshape(-1, k).tolist() == path
        assert_same(name, found.candidate_scores[row], objectives)
        assert_same(name, found.scores[row], oracle.joint_score(setting, image, y, path))


@every_case
def test_paths_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    target = target_of(name, scope)
    found = neuron_path.find_paths(
        model_of(name),
        images_of(name),
        [1, 3],
        n_steps=N_STEPS,
        token_scope=scope,
        micro_batch=4,
        keep_candidates=True,
        target=target,  # pyright: ignore[reportArgumentType]
    )
    assert_like_the_oracle(name, scope, found, 1, target)


@every_case
def test_paths_of_several_neurons_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    found = neuron_path.find_paths(
        model_of(name), images_of(name), n_steps=N_STEPS, token_scope=scope, top_k=3, keep_candidates=True
    )
    assert_like_the_oracle(name, scope, found, 3, "probability")


@every_case
def test_scores_interventions_and_influence_patterns_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    specimen, model, images, target = zoo.SPECIMENS[name], model_of(name), images_of(name), target_of(name, scope)
    setting = specimen.literal(model, scope, n_steps=N_STEPS, target_function=target)
    options: dict[str, Any] = {"token_scope": scope, "n_steps": N_STEPS, "target": target}
    paths = torch.tensor(specimen.random_paths(2, k=2, scope=scope))
    joint = neuron_path.score_paths(model, images, [1, 3], paths, **options)
    complete, delta = neuron_path.score_paths(
        model, images, [1, 3], paths, measure="complete", return_convergence_delta=True, **options
    )
    edited = neuron_path.intervene(model, images, paths, "remove", token_scope=scope)
    patterns = neuron_path.find_paths(
        model, images, [1, 3], scorer="influence_pattern", keep_candidates=True, **options
    ).candidate_scores
    assert patterns is not None
    for row, (image, y, path) in enumerate(zip(images, [1, 3], paths.tolist(), strict=True)):
        expected, expected_delta = oracle.complete_score(setting, image, y, path)
        same = partial(assert_same, name)
        same(joint[row], oracle.joint_score(setting, image, y, path))
        same(complete[row], expected)
        same(delta[row], expected_delta)
        same(edited[row], oracle.intervened(setting, image, path, 0.0))
        same(patterns[row], oracle.influence_pattern(setting, image, y))


SCORERS = (
    "complete_attribution",
    "gradient_x_activation",
    "integrated_gradients",
    "knowledge_neurons",
    "conductance",
    "ablation",
    "guided_influence_pattern",
)
OPERATIONS = [
    ("remove", "all"),
    *product(("enhance", "mean_ablation", "resample_ablation", "keep_only"), ("scope", "all")),
]


def turn_of(name: str, scope: TokenScopeName, items: Sequence[Any]) -> Sequence[Any]:
    """One or more of the items for each case, so that every family meets all of them over its cases."""
    family = [case for case in zoo.CASES if zoo.SPECIMENS[case[0]].family == zoo.SPECIMENS[name].family]
    return items[family.index((name, scope)) % len(items) :: len(family)]


def literal_search(setting: oracle.Setting, image: Tensor, y: int, scorer: str, k: int) -> tuple[Any, Tensor]:
    """A path of k neurons a block and all candidates' ratings; shortlists hold five."""
    if scorer == "complete_attribution":
        return oracle.greedy_path(setting, image, y, k, complete=True)
    if scorer == "guided_influence_pattern":
        return oracle.guided_influence_pattern(setting, image, y, k)
    ratings = getattr(oracle, scorer)(setting, image, y)
    if scorer in ("knowledge_neurons", "ablation"):
        ratings = oracle.shortlisted(ratings, oracle.gradient_x_activation(setting, image, y), 5)
    best = ratings.nan_to_num(-torch.inf).argsort(dim=1, descending=True, stable=True)
    return best[:, :k].tolist(), ratings


@every_case
def test_every_familys_ratings_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    model, images, target = model_of(name), images_of(name), target_of(name, scope)
    setting = zoo.SPECIMENS[name].literal(model, scope, n_steps=N_STEPS, target_function=target)
    k = 1 + zoo.CASES.index((name, scope)) // 2 % 2
    for scorer in turn_of(name, scope, SCORERS):
        given: Any = {"knowledge_neurons": KnowledgeNeurons(5, n_steps=None), "ablation": Ablation(shortlist=5)}
        found = neuron_path.find_paths(
            model,
            images,
            [1, 3],
            scorer=given.get(scorer, scorer),
            n_steps=N_STEPS,
            token_scope=scope,
            top_k=k,
            micro_batch=4,
            keep_candidates=True,
            target=target,  # pyright: ignore[reportArgumentType]
        )
        assert found.candidate_scores is not None
        for row, (image, y) in enumerate(zip(images, [1, 3], strict=True)):
            path, ratings = literal_search(setting, image, y, scorer, k)
            assert_same(name, found.candidate_scores[row], ratings)
            assert found.paths[row].reshape(-1, k).tolist() == path
            assert_same(name, found.scores[row], oracle.joint_score(setting, image, y, path))


@every_case
def test_every_familys_interventions_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    specimen, model, images = zoo.SPECIMENS[name], model_of(name), images_of(name)
    setting, others = specimen.literal(model, scope), specimen.images(3, seed=9)
    paths = specimen.random_paths(2, k=2, scope=scope)
    for operation, tokens in turn_of(name, scope, OPERATIONS):
        options: dict[str, Any] = {
            "mean_ablation": {"reference_images": others},
            "resample_ablation": {"donor_images": others[:2]},
        }.get(operation, {})
        logits = neuron_path.intervene(
            model, images, torch.tensor(paths), operation, token_scope=scope, tokens=tokens, **options
        )
        for row, (image, path) in enumerate(zip(images, paths, strict=True)):
            expected = oracle.operated(
                setting, image, path, operation, all_tokens=tokens == "all", references=others, donor=others[row]
            )
            assert_same(name, logits[row], expected)


@pytest.mark.parametrize("name", zoo.SPECIMEN_PARAMS)
def test_an_image_is_on_its_own_in_float32(name: str) -> None:
    specimen = zoo.SPECIMENS[name]
    model, images = specimen.make(dtype=torch.float32), specimen.images(3, dtype=torch.float32)
    together = neuron_path.find_paths(model, images, [1, 2, 3], n_steps=N_STEPS, micro_batch=9)
    for row in (2, 0, 1):
        alone = neuron_path.find_paths(model, images[[row]], [row + 1], n_steps=N_STEPS, micro_batch=2)
        assert alone.paths.tolist() == together.paths[[row]].tolist()
        torch.testing.assert_close(alone.scores, together.scores[[row]], rtol=1e-5, atol=1e-6)
