"""What is attributed: a function of an image's logits and of its target class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.quadrature import is_whole
from neuron_path.errors import NeuronPathError, unknown_name

TARGETS = ("probability", "logit", "margin", "sigmoid", "contrast")
OF_SEVERAL_CLASSES = ("probability", "margin", "contrast")
_CUSTOM = "custom"


def target_logit(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """z_y, the logit of each row's own target class."""
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1)


def target_margin(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """z_y − logsumexp of the other logits: the log-odds log p_y / (1 − p_y) of each row's own target class.

    The smooth form of the lead over the best other class, which would have a kink where the runner-up changes; unlike
    the probability it never saturates.
    """
    return target_logit(logits, targets) - without_target(logits, targets).logsumexp(1)


def without_target(logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N C"]:
    """The logits with −∞ in place of each row's target class."""
    return logits.scatter(1, targets.unsqueeze(1), -torch.inf)


@dataclass(frozen=True)
class Target:
    """The target function f.

    - `probability`: the softmax probability of the target class y;
    - `logit`: z_y, also the value of a regression;
    - `margin`: the log-odds of that probability, z_y − log Σ exp of the other logits;
    - `sigmoid`: 1 / (1 + exp −z_y), the probability where classes do not exclude one another;
    - `contrast`: z_y − z_c, why y and not c.

    Attributes:
        name: one of these.
        contrast_class: c; None: of each image the class with the largest clean logit beside y, the runner-up.
        function: the user's own, from (N, C) logits to (N,) values; it ignores the target class.

    Raises:
        NeuronPathError: no such name, or a class for a function that takes none.
    """

    name: str = "probability"
    contrast_class: int | None = None
    function: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.function is None and self.name not in TARGETS:
            raise unknown_name("target function", self.name, TARGETS)
        if self.contrast_class is not None and self.name != "contrast":
            raise NeuronPathError(
                f"contrast_class is {self.contrast_class}, but the target is '{self.name}': use target=contrast "
                "(target='contrast' in Python), too, or leave it out."
            )

    @staticmethod
    def of(
        target: str | Target | Callable[[Tensor], Tensor], contrast_class: int | None = None, n_classes: int = 2
    ) -> Target:
        """A target by name or function, for a model with so many classes.

        Raises:
            NeuronPathError: a target that the model has no outputs for, or a function that does not give each image its
                own differentiable number.
        """
        if isinstance(target, Target):
            made = target
        elif callable(target):
            made = Target(_CUSTOM, contrast_class, target)
        else:
            made = Target(target, contrast_class)
        made._check(n_classes)
        return made

    def against(self, logits: Float[Tensor, "B C"], targets: Int[Tensor, "B"]) -> Int[Tensor, "B"] | None:
        """The class that each image's target is contrasted with, from its clean logits; None for other functions."""
        if self.name != "contrast":
            return None
        if self.contrast_class is None:
            return without_target(logits, targets).argmax(1)
        if bool((targets == self.contrast_class).any()):
            raise NeuronPathError(
                f"contrast_class is {self.contrast_class}, which some image has as its target already: its contrast "
                "would always be 0. Leave contrast_class out for the runner-up, or choose other images."
            )
        return torch.full_like(targets, self.contrast_class)

    def values(
        self, logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"], against: Int[Tensor, "N"] | None
    ) -> Float[Tensor, "N"]:
        """f of each row."""
        if self.function is not None:
            return self.function(logits)
        if self.name == "contrast":
            assert against is not None
            return target_logit(logits, targets) - target_logit(logits, against)
        if self.is_probability:
            return self.probability(logits, targets)
        return target_margin(logits, targets) if self.name == "margin" else target_logit(logits, targets)

    @property
    def is_probability(self) -> bool:
        """Whether f is the model's probability of the target class."""
        return self.name in ("probability", "sigmoid")

    def before_and_after(
        self, clean: Float[Tensor, "N C"], edited: Float[Tensor, "N C"], targets: Int[Tensor, "N"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """f of each row's clean and edited logits; the runner-up of a contrast is that of the clean ones in both."""
        against = self.against(clean, targets)
        return self.values(clean, targets, against), self.values(edited, targets, against)

    def log_odds(self, logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"] | None:
        """log f / (1 − f) where f is a probability, else None."""
        if self.name == "probability":
            return target_margin(logits, targets)
        return target_logit(logits, targets) if self.name == "sigmoid" else None

    def probability(self, logits: Float[Tensor, "N C"], targets: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
        """The model's probability of each row's target class, by softmax, or by `sigmoid` where that is the target.

        Written as exp(log sigmoid(log-odds)), so that the gradient p(1 − p) keeps its relative precision when p is near
        1: softmax loses it to cancellation.
        """
        odds = target_logit(logits, targets) if self.name == "sigmoid" else target_margin(logits, targets)
        return F.logsigmoid(odds).exp()

    def _check(self, n_classes: int) -> None:
        if n_classes == 1 and self.name in OF_SEVERAL_CLASSES:
            raise NeuronPathError(
                f"The model has a single output, of which the target '{self.name}' would say nothing: use 'sigmoid' "
                "for one that was trained by a binary loss, 'logit' for a regression."
            )
        c = self.contrast_class
        if c is not None and not (is_whole(c) and 0 <= c < n_classes):
            raise NeuronPathError(f"contrast_class is {c!r}; expected a class of this model, 0 … {n_classes - 1}.")
        if self.function is not None:
            self._check_function(self.function, n_classes)

    @staticmethod
    def _check_function(function: Callable[[Tensor], Tensor], n_classes: int) -> None:
        """Try it on made-up logits: together and alone."""
        logits = torch.randn(3, n_classes, generator=torch.Generator().manual_seed(0)).requires_grad_()
        found = function(logits)
        if not isinstance(found, Tensor) or found.shape != (3,) or not found.requires_grad:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise NeuronPathError(
                f"The target function gives {shape} for logits of shape (3, {n_classes}); expected a tensor of shape "
                "(3,), a differentiable number for each image, as of lambda logits: logits[:, 0]."
            )
        alone = torch.cat([function(row.unsqueeze(0)) for row in logits])
        if not torch.allclose(found, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise NeuronPathError(
                "The target function gives an image another number when others are in the batch: it must treat images "
                "apart, as lambda logits: logits[:, 0] does."
            )


PROBABILITY = Target()
