"""From a model, its methods and the device to a plan, made once for each size of image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.needs import measure_needs
from neuron_path.attribution.score import FEWEST
from neuron_path.errors import NeuronPathError
from neuron_path.models.budget import default_micro_batch, kept_by_attention
from neuron_path.models.session import Session
from neuron_path.search.method import Method
from neuron_path.search.plan import Plan, free_on, plan_within, preferred
from neuron_path.search.settings import SearchSettings

_GRAPH_BYTES = 2e9  # that visited blocks' graphs may take where no budget is set


class Planner:
    """Plans a search, and makes the plan smaller when memory runs out all the same.

    Args:
        session: the model.
        methods: that share chunks.
        settings: of the search.
    """

    def __init__(self, session: Session, methods: Sequence[Method], settings: SearchSettings) -> None:
        self._session, self._methods, self._settings = session, methods, settings
        self._plans: dict[tuple[torch.Size, torch.device], Plan] = {}

    def plan(self, images: Float[Tensor, "B c H W"]) -> Plan:
        """The plan for images of this size; call it within `session.active()`."""
        key = images.shape[1:], self._session.device
        if key not in self._plans:
            self._plans[key] = self._make(images)
        return self._plans[key]

    def shrink(self, images: Float[Tensor, "B c H W"]) -> Plan:
        """A smaller plan, from now on.

        Raises:
            NeuronPathError: it holds one sequence of one image already.
        """
        smaller = self.plan(images).halved()
        if smaller is None:
            raise NeuronPathError(
                "Memory runs out with one image and passes of one sequence: take fewer n_steps, a smaller image_size, "
                "or a device with more memory."
            )
        self._plans[images.shape[1:], self._session.device] = smaller
        return smaller

    def _make(self, images: Tensor) -> Plan:
        session, settings = self._session, self._settings
        n_steps, most_steps = settings.quadrature.n_steps, settings.quadrature.most_steps
        rated = [method.scorer for method in self._methods if method.search.asks_scorer]
        if not any(scorer.by_nodes or scorer.reference for scorer in rated):
            n_steps = min(n_steps, FEWEST)  # no prefix is carried: only paths are scored
        embedded = session.adapter.embed(session.images(images[:1]))
        micro_batch, n_images = preferred(session.device, default_micro_batch(embedded), n_steps)
        if settings.micro_batch is not None:
            micro_batch, n_images = settings.micro_batch, max(1, settings.micro_batch // n_steps)
        budget = free_on(session.device) if settings.budget is None else settings.budget
        if budget is None:
            graphs = kept_by_attention(session.adapter, embedded) * n_steps * n_images
            return Plan(n_images, micro_batch, keeps_graphs=graphs <= _GRAPH_BYTES)
        n_blocks = len(session.adapter.blocks)
        needs = measure_needs(
            session,
            images[:1],
            in_double=any(scorer.in_double for scorer in rated),
            every_block=any(scorer.keeps_every_block for scorer in rated),
            n_rated=max(method.search.n_rated(n_blocks) for method in self._methods),
        )
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        return plan_within(budget, needs, n_steps, most_steps, micro_batch, n_images)
