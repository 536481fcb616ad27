"""What effect search is compared with is what its names say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import neuron_path
import rivals
from neuron_path.models.session import Session
from tests import tiny


def test_by_lrp_what_is_not_linear_is_the_constant_that_it_is_here() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=generator).requires_grad_()
    weights = [torch.randn(6, 6, dtype=torch.float64, generator=generator) for _ in range(4)]

    def network(x: Tensor) -> Tensor:
        q, k, v = (F.layer_norm(x, (6,)) @ w for w in weights[:3])
        return F.gelu(F.scaled_dot_product_attention(q, k, v) @ weights[3]).sum()

    expected = network(x)
    with rivals.lrp():
        value = network(x)
        (gradient,) = torch.autograd.grad(value, (x,))
    torch.testing.assert_close(value, expected)
    # Without biases such a network is linear in its input, so that input times coefficient sums to the output.
    torch.testing.assert_close((x * gradient).sum(), expected)
    (plain,) = torch.autograd.grad(network(x), (x,))
    assert not torch.allclose((x * plain).sum(), expected)


def test_the_exact_choice_is_the_best_of_the_shortlist_each_time() -> None:
    model, images, targets = tiny.make(), tiny.make_images(3), torch.tensor([3, 0, 4])
    session = Session(model)
    scores = rivals.attributions(session, images, targets)
    paths = rivals.exact_on_shortlist(session, images, targets, scores, 2)
    listed = [block.topk(rivals.SHORTLIST, 1).indices for block in scores]
    for index in range(paths.shape[1]):
        for slot in range(2):
            left = []
            for place in range(rivals.SHORTLIST):
                tried = paths.clone()
                tried[:, index + 1 :] = -1
                tried[:, index, slot:] = -1
                again = (tried[:, index] == listed[index][:, place : place + 1]).any(1)
                tried[:, index, slot] = listed[index][:, place]
                left.append(rivals.removed(model, images, targets, tried).masked_fill(again, torch.inf))
            best = torch.stack(left, 1).argmin(1, keepdim=True)
            assert paths[:, index, slot].tolist() == listed[index].gather(1, best).squeeze(1).tolist()


def test_a_learned_mask_finds_what_matters() -> None:
    model, (images, targets) = neuron_path.load_model(), (part[:8] for part in neuron_path.load_digits("test"))
    scores = rivals.learned_mask(Session(model), images, targets, 5, n_steps=40)
    clean = rivals.probability(model(images), targets)
    learned = rivals.removed(model, images, targets, rivals.largest(scores, 5))
    null = neuron_path.find_paths(model, images, targets, scorer="random", top_k=5).paths
    assert (clean - learned).mean() > 5 * (clean - rivals.removed(model, images, targets, null)).mean().abs()


def test_the_table_has_every_method_with_its_cost() -> None:
    model, (images, targets) = neuron_path.load_model(), (part[:4] for part in neuron_path.load_digits("test"))
    results = rivals.measure(model, images, targets, [1], 3, ["exact on a shortlist"])
    assert set(results[1]) == {
        "gradient × activation",
        "relevance",
        "integrated gradients",
        "learned mask",
        "effect search",
        "random",
    }
    table = rivals.as_table(results)
    assert len(table.splitlines()) == 2 + len(results[1])
    assert "| 1 | gradient × activation | 1 |" in table
