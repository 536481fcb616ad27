"""Target functions beside the probability: paths, scores and ratings against plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.target import Target
from neuron_path.errors import NeuronPathError
from tests import oracle, tiny


def distance(logits: Tensor) -> Tensor:
    """Of the user's own."""
    return -(logits - torch.arange(logits.shape[1]).to(logits)).square().sum(1)


def literal(options: dict[str, Any], logits: Tensor) -> Callable[[Tensor, int], Tensor]:
    """The same function spelt out, for an image with these clean logits."""
    if options["target"] == "sigmoid":
        return lambda z, y: 1 / (1 + (-z[:, y]).exp())
    if options["target"] is distance:
        return lambda z, y: distance(z)

    def contrast(z: Tensor, y: int) -> Tensor:
        runner_up = max((value, c) for c, value in enumerate(logits.tolist()) if c != y)[1]
        return z[:, y] - z[:, options.get("contrast_class", runner_up)]

    return contrast


@pytest.mark.parametrize(
    "options",
    [{"target": "sigmoid"}, {"target": "contrast"}, {"target": "contrast", "contrast_class": 1}, {"target": distance}],
    ids=["sigmoid", "runner-up", "contrast", "function"],
)
@pytest.mark.parametrize(("name", "scope"), [("cls", "cls"), ("avg", "patch")])
def test_paths_and_scores_are_the_oracles(
    options: dict[str, Any], name: str, scope: str, images: Tensor, targets: Tensor
) -> None:
    model = tiny.make(name, dtype=torch.float64, depth=3)
    rule: dict[str, Any] = {"quadrature": "gauss_legendre", "n_steps": 5}
    found = neuron_path.find_paths(model, images, targets, **options, **rule)
    both: Any = neuron_path.score_paths(model, images, targets, found.paths, measure="complete", **options, **rule)
    for row, (image, target, logits) in enumerate(zip(images, targets.tolist(), model(images), strict=True)):
        setting = replace(tiny.literal(model, scope), target_function=literal(options, logits))
        path, _ = oracle.greedy_path(setting, image, target)
        assert found.paths[row].tolist() == [neuron for (neuron,) in path]
        torch.testing.assert_close(
            found.scores[row], oracle.joint_score(setting, image, target, path), rtol=1e-9, atol=0
        )
        complete, _ = oracle.complete_score(setting, image, target, path)
        torch.testing.assert_close(both[row], complete, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "scorer",
    [
        "gradient_x_activation",
        "integrated_gradients",
        "conductance",
        "influence_pattern",
        "knowledge_neurons",
        "ablation",
    ],
)
def test_ratings_of_a_contrast_are_those_of_its_two_logits(scorer: Any, images: Tensor) -> None:
    """Of scorers that are linear in the target function."""
    unlimited = {"ablation": neuron_path.scorers.Ablation, "knowledge_neurons": neuron_path.scorers.KnowledgeNeurons}
    if scorer in unlimited:
        scorer = unlimited[scorer](shortlist=None)
    model, targets, against = tiny.make(dtype=torch.float64, depth=3), torch.tensor([3, 0, 4]), torch.tensor([1, 1, 1])

    def ratings(targets: Tensor, **options: Any) -> Tensor:
        found = neuron_path.find_paths(model, images, targets, scorer=scorer, keep_candidates=True, **options)
        assert found.candidate_scores is not None
        return found.candidate_scores

    own, other = (ratings(classes, target="logit") for classes in (targets, against))
    torch.testing.assert_close(
        ratings(targets, target="contrast", contrast_class=1), own - other, rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("target", ["sigmoid", "contrast", distance])
def test_no_image_depends_on_the_others(target: Any) -> None:
    images, targets = tiny.make_images(4, dtype=torch.float32), torch.tensor([3, 0, 4, 1])
    single, double = (tiny.make(dtype=dtype) for dtype in (torch.float32, torch.float64))
    for search in ("greedy", neuron_path.searches.Linearized(measure="effect")):
        options: dict[str, Any] = {"target": target, "search": search}
        exact = neuron_path.find_paths(double, images.double(), targets, **options)
        together = neuron_path.find_paths(single, images, targets, **options)
        alone = neuron_path.find_paths(single, images[2:3], targets[2:3], micro_batch=1, **options)
        assert torch.equal(together.paths, exact.paths)
        assert torch.equal(alone.paths[0], together.paths[2])


def test_a_model_with_one_output() -> None:
    model, images = tiny.make(num_classes=1), tiny.make_images(3)
    for target in ("probability", "margin", "contrast"):
        with pytest.raises(NeuronPathError, match="use 'sigmoid' for one that was trained by a binary loss"):
            neuron_path.find_paths(model, images, target=target)
    for target in ("sigmoid", "logit"):
        found = neuron_path.find_paths(model, images, target=target, search="linearized")
        assert (found.scores > 0).all()
        torch.testing.assert_close(
            found.scores, neuron_path.score_paths(model, images, None, found.paths, target=target), rtol=2e-2, atol=0
        )
        assert torch.equal(found.targets, torch.zeros(3, dtype=torch.int64))
    sigmoid = neuron_path.find_paths(model, images, target="sigmoid").target_probabilities
    torch.testing.assert_close(sigmoid, model(images).sigmoid()[:, 0])
    assert neuron_path.intervene(model, images, found.paths).shape == (3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "entropy"}, "No target function is named 'entropy'"),
        ({"contrast_class": 2}, "contrast_class is 2, but the target is 'probability': use target=contrast "),
        ({"target": "contrast", "contrast_class": 9}, "contrast_class is 9; expected a class of this model, 0 … 4."),
        (
            {"target": "contrast", "contrast_class": 3},
            "contrast_class is 3, which some image has as its target already",
        ),
        ({"target": lambda z: z}, r"gives \(3, 5\) for logits of shape \(3, 5\)"),
        ({"target": lambda z: z.argmax(1)}, "a differentiable number for each image"),
        ({"target": lambda z: z[:, 0] - z.mean()}, "it must treat images apart"),
    ],
)
def test_what_cannot_be_attributed_is_refused(
    options: dict[str, Any], message: str, images: Tensor, targets: Tensor
) -> None:
    with pytest.raises(NeuronPathError, match=message):
        neuron_path.find_paths(tiny.make(), images, targets, **options)


def test_equal_targets_are_one() -> None:
    assert Target.of("logit") == Target("logit")
    assert Target.of(distance) == Target.of(distance)
