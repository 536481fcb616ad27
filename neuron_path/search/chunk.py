"""A run of images that are searched together, and what the methods of a run share on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.exactness import Exactness, exactness
from neuron_path.attribution.forward import clean_pass
from neuron_path.attribution.problem import EXACT, Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.session import Session
from neuron_path.search.plan import Plan
from neuron_path.search.settings import SearchSettings


class Chunk:
    """B images whose sequences fit one pass; several methods share their clean pass and the check of its rounding.

    Args:
        session: the model.
        images: (B, c, H, W) preprocessed.
        targets: (B,) classes; None takes the predicted ones.
        sample_ids: names of the images.
        plan: how they are cut.
        settings: of the search.
        arithmetic: of the tails, in float32.
        lent: what neurons are set to by the edit whose effect is maximised: means, or (B, c, H, W) donors' images.
    """

    def __init__(
        self,
        session: Session,
        images: Float[Tensor, "B c H W"],
        targets: Int[Tensor, "B"] | None,
        sample_ids: Sequence[str],
        plan: Plan,
        settings: SearchSettings,
        arithmetic: Arithmetic = EXACT,
        lent: MeanAblation | Float[Tensor, "B c H W"] | None = None,
    ) -> None:
        self.session = session
        self.images, self.targets, self.sample_ids = images, targets, sample_ids
        self.plan, self.settings, self.lent = plan, settings, lent
        self.arithmetic = arithmetic if session.dtype == torch.float32 else EXACT
        self._problem: Problem | None = None
        self._exactness: list[Exactness | None] = []  # one, once it is measured
        self._double: Chunk | None = None

    def problem(self) -> Problem:
        """The images' problem; call it within `session.active()`."""
        if self._problem is None:
            own = None if self.targets is None else self.targets.to(self.session.device)
            images, settings = self.session.images(self.images), self.settings
            options = (settings.quadrature, self.plan.micro_batch, settings.target, self.sample_ids)
            posed = Problem.pose(self.session.adapter, images, own, *options)
            self._problem = replace(
                posed,
                replacements=self._replacements(),
                arithmetic=self.arithmetic,
                keeps_graphs=self.plan.keeps_graphs,
            )
        return self._problem

    def _replacements(self) -> list[Tensor] | None:
        """See `Problem.replacements`."""
        if self.lent is None:
            return None
        if isinstance(self.lent, MeanAblation):
            return [of.view(1, 1, -1).to(self.session.device, self.session.dtype) for of, _ in self.lent.means]
        return clean_pass(self.session.adapter, self.session.images(self.lent)).activations

    def exactness(self, problem: Problem) -> Exactness | None:
        """How far float32 is to be trusted with this chunk's problem; None in another type."""
        if not self._exactness:
            self._exactness.append(exactness(problem))
        return self._exactness[0]

    def in_double(self) -> Chunk:
        """The same images in float64."""
        if self._double is None:
            self._double = self.take_in_double(torch.arange(len(self.images)), self.settings.quadrature)
        return self._double

    def take_in_double(self, rows: Int[Tensor, "b"], quadrature: Quadrature) -> Chunk:
        """Some of the images in float64 by a rule, in passes of as many bytes."""
        return Chunk(
            self.session.double(),
            self.images[rows.to(self.images.device)],
            None if self.targets is None else self.targets[rows.to(self.targets.device)],
            [self.sample_ids[int(row)] for row in rows],
            self.plan.in_double(),
            replace(self.settings, quadrature=quadrature),
            lent=self.lent[rows.to(self.lent.device)] if isinstance(self.lent, Tensor) else self.lent,
        )


@runtime_checkable
class Lender(Protocol):
    """Gives what neurons are set to by a mean or resample ablation whose effect is maximised."""

    def means(self) -> MeanAblation:
        """Their means over reference images."""
        ...

    def donors(self, run: slice, names: Sequence[str]) -> Float[Tensor, "b c H W"]:
        """A donor's image for each of a run of images, whose names are given."""
        ...
