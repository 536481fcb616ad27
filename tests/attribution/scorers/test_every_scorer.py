"""What every scorer owes: in float32, an image's path and ratings are its own, whatever is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.types import PathResult
from tests import tiny

pytestmark = pytest.mark.covering

every_scorer = pytest.mark.parametrize("scorer", scorers.names())


def assert_alone(model: nn.Module, images: Tensor, labels: Tensor, scorer: str | Scorer, **options: Any) -> None:
    """The same in batches of other sizes, orders, labels and passes."""

    def find(rows: list[int], labels: Tensor, micro_batch: int | None) -> PathResult:
        return neuron_path.find_paths(
            model,
            images[rows],
            labels,
            scorer=scorer,
            micro_batch=micro_batch,
            keep_candidates=True,
            **options,
        )

    every = list(range(len(images)))
    whole = find(every, labels, None)
    # All at once, backwards, in small uneven passes; one alone; some of them, another one alone.
    batches: list[tuple[list[int], int | None]] = [(every[::-1], 7), ([1], 2)]
    if len(images) > 2:
        batches += [(every[-3:], 64), ([0], None)]
    for rows, micro_batch in batches:
        assert_same(find(rows, labels[rows], micro_batch), tiny.select(whole, torch.tensor(rows)))
    # Every second row is the image before it, with another label.
    twice = [row for row in every for _ in range(2)]
    mixed = torch.stack((labels, (labels + 1) % 3), 1).flatten()
    assert_same(tiny.select(find(twice, mixed, 9), slice(None, None, 2)), whole)


def assert_same(found: PathResult, expected: PathResult) -> None:
    assert found.paths.tolist() == expected.paths.tolist()
    assert found.predictions.tolist() == expected.predictions.tolist()
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    ours, theirs = found.candidate_scores, expected.candidate_scores
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours.isfinite(), theirs.isfinite())  # what a shortlist leaves out
    ours, theirs = (ratings.where(ratings.isfinite(), 0) for ratings in (ours, theirs))
    allowed = (1e-5 * theirs.abs().amax(2, keepdim=True)).clamp(min=1e-6)
    assert ((ours - theirs).abs() <= allowed).all()


@every_scorer
@pytest.mark.parametrize(("name", "k"), [("cls", 1), ("avg", 3)])
@pytest.mark.core
def test_an_image_of_a_tiny_model_is_on_its_own(name: str, k: int, scorer: str) -> None:
    model = tiny.make(name, dtype=torch.float32)
    images = tiny.make_images(4, dtype=torch.float32)
    assert_alone(model, images, torch.tensor([3, 0, 4, 0]), scorer, top_k=k, n_steps=3)


@every_scorer
def test_a_digit_is_on_its_own(scorer: str) -> None:
    images, labels = neuron_path.load_digits("test")
    options = {"shortlist": 3} if scorer in ("ablation", "knowledge_neurons") else {}  # each takes a pass of its own
    made = scorers.create(scorer, **options)
    assert_alone(neuron_path.load_model("digits_vit"), images[:2], labels[:2], made, n_steps=2)


@every_scorer
def test_one_neuron_is_the_first_of_three_and_the_model_is_as_it_was(scorer: str) -> None:
    model, images, targets = tiny.make("cls"), tiny.make_images(3), torch.tensor([3, 0, 4])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = neuron_path.find_paths(model, images, targets, scorer=scorer, n_steps=3)
    three = neuron_path.find_paths(model, images, targets, scorer=scorer, n_steps=3, top_k=3)
    if scorer != "activation_matched_random":  # it matches other neurons then
        assert one.paths[:, 0].tolist() == three.paths[:, 0, 0].tolist()
    assert all(len(set(block)) == 3 for block in three.paths.flatten(0, 1).tolist())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
