"""What is attributed: a function of an image's logits and of its target class."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.errors import unknown_name


def target_probability(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Softmax probability of each row's own target class.

    Written as exp(log sigmoid(z_y − logsumexp of the others)), so that the gradient p(1 − p) keeps its relative
    precision when p is near 1: softmax loses it to cancellation.
    """
    return F.logsigmoid(target_margin(logits, targets)).exp()


def target_logit(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """z_y, the logit of each row's own target class."""
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1)


def target_margin(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """z_y − logsumexp of the other logits: the log-odds log p_y / (1 − p_y) of each row's own target class.

    The smooth form of the lead over the best other class, which would have a kink where the runner-up changes; unlike
    the probability it never saturates.
    """
    others = logits.scatter(1, targets.unsqueeze(1), -torch.inf).logsumexp(1)
    return target_logit(logits, targets) - others


TARGETS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "probability": target_probability,
    "logit": target_logit,
    "margin": target_margin,
}


def check_target(name: str) -> None:
    """Raise a NeuronPathError unless `name` is a target function."""
    if name not in TARGETS:
        raise unknown_name("target function", name, TARGETS)
