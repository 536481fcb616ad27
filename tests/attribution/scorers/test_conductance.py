"""Conductance against the literal oracle, and the sum that it is a part of."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests import oracle, tiny
from tests.attribution.scorers.rating import assert_rates, every_form, ratings

pytestmark = pytest.mark.covering


@every_form
@pytest.mark.core
def test_ratings_are_the_oracles(case: tiny.Case, images: Tensor, targets: Tensor, k: int, function: str) -> None:
    assert_rates(case, images, targets, "conductance", oracle.conductance, k, function)


def around_the_ffn(setting: oracle.Setting, image: Tensor, target: int, index: int) -> Tensor:
    """∫ ∂f/∂h · dm/dα dα: h the output of a block, m the residual stream that its FFN is added to."""
    assert isinstance(setting.model, VisionTransformer)
    block, kept = setting.model.blocks[index], []
    handles = [
        block.get_submodule("norm2").register_forward_pre_hook(lambda _, args: kept.append(args[0])),
        block.register_forward_hook(lambda *_: kept.append(_[-1])),
    ]
    alpha = setting.alpha.clone().requires_grad_()
    try:
        _, values = oracle.live_network(setting, alpha.view(-1, 1, 1, 1) * image, target)
    finally:
        for handle in handles:
            handle.remove()
    stream, output = kept
    flow = oracle.gradient_at(values, [output]) * oracle.derivative_along([stream], [alpha], [torch.ones_like(alpha)])
    return oracle.integral(setting, flow).sum()


def test_a_block_and_its_residual_sum_to_the_change_of_the_output(images: Tensor, targets: Tensor) -> None:
    # All of a block's neurons at all tokens do not separate the input from the output: the residual stream passes them
    # by. Both together do, so that they sum to f(x) − f(0). A sum over the neurons alone is nothing in particular.
    model = tiny.make("avg_no_class_token")  # all tokens are in scope
    setting = tiny.literal(model, "patch", n_steps=100)
    rated = ratings((model, "patch"), images, targets, "conductance", n_steps=100)
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        ends = oracle.target_values(setting, model(torch.stack((image, torch.zeros_like(image)))), target)
        for index in range(len(model.blocks)):
            total = rated[row, index].sum() + around_the_ffn(setting, image, target, index)
            torch.testing.assert_close(total, ends[0] - ends[1], rtol=1e-8, atol=1e-10)
