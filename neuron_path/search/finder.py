"""A model with the methods of a run: turns a batch of images into neuron paths, chunk by chunk.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.quadrature import is_whole
from neuron_path.attribution.target import Target
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.session import Session, Targets
from neuron_path.progress import progress_bar
from neuron_path.search.chunk import Chunk, Lender
from neuron_path.search.method import Method
from neuron_path.search.plan import Plan, is_out_of_memory
from neuron_path.search.planner import Planner
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult


class PathFinder:
    """Finds the neuron paths of images by one or several methods; made once, used for many batches.

    The methods share what they can: chunks, clean passes, the check of rounding, the path that others refer to.

    Args:
        session: the model with its token scope.
        method: what finds the paths.
        settings: what all methods have in common.
        baselines: further methods, to compare with.
        keep_candidates: also return every candidate's score.
        lender: gives what a search that maximises the effect of a mean or resample ablation sets neurons to.

    Attributes:
        methods: the method and its baselines, in the order of the results.

    Raises:
        NeuronPathError: an option out of range for the model or for a method, or no lender for a search that needs one.
    """

    def __init__(
        self,
        session: Session,
        method: Method,
        settings: SearchSettings | None = None,
        baselines: Sequence[Method] = (),
        *,
        keep_candidates: bool = False,
        lender: Lender | None = None,
    ) -> None:
        settings = SearchSettings() if settings is None else settings
        widths = [block.n_neurons for block in session.adapter.blocks]
        every = settings.per_block
        most, what = (min(widths), "the narrowest block") if every else (sum(widths), "all blocks together")
        if not is_whole(settings.top_k) or not 1 <= settings.top_k <= most:
            raise NeuronPathError(f"top_k is {settings.top_k!r}; expected 1 … {most}, the neurons of {what}.")
        self.session, self.method, self.baselines = session, method, tuple(baselines)
        self.methods = (method, *self.baselines)
        self.settings = replace(settings, target=Target.of(settings.target, n_classes=session.adapter.n_classes))
        for one in self.methods:
            one.check(self.settings)
            if session.adapter.gated and not one.scorer.for_heads:
                raise NeuronPathError(
                    f"'{one.scorer.name}' follows the gradient at single activations, and a head has many "
                    f"(units={session.adapter.units}): use another scorer, such as gradient_x_activation."
                )
        self.keep_candidates, self.lender = keep_candidates, lender
        self.planner = Planner(session, self.methods, self.settings)
        self._arithmetic_on: dict[torch.device, Arithmetic] = {}

    def arithmetic_on(self, device: torch.device) -> Arithmetic:
        """What the device can do of the arithmetic that is asked for; it is warned of what it cannot once."""
        if device not in self._arithmetic_on:
            self._arithmetic_on[device] = self.settings.arithmetic.on(device, self.session.dtype)
        return self._arithmetic_on[device]

    def find(
        self,
        images: Float[Tensor, "B c H W"],
        targets: Targets = None,
        sample_ids: Sequence[str] | None = None,
        *,
        progress: bool = True,
    ) -> list[PathResult]:
        """Paths of a batch of any size, on the model's device, by each method.

        Args:
            images: (B, c, H, W) preprocessed.
            targets: (B,) classes; None takes the predicted ones.
            sample_ids: names of the images; a digest of each by default.
            progress: whether to show a bar.

        Returns:
            Of each method the result, its paths (B, L, k) also for one neuron a block.
        """
        parts: list[list[PathResult]] = []
        with progress_bar(disable=not progress) as bar:
            task = bar.add_task("Neuron paths", total=len(images) if isinstance(images, Tensor) else None)
            for run, found in self.find_each(images, targets, sample_ids):
                parts.append(found)
                bar.advance(task, run.stop - run.start)
        return joined(parts)

    def find_each(
        self,
        images: Float[Tensor, "B c H W"],
        targets: Targets = None,
        sample_ids: Sequence[str] | None = None,
    ) -> Iterator[tuple[slice, list[PathResult]]]:
        """As `find`, chunk by chunk: which images of the batch, and the result of each method.

        The model is frozen while a chunk is searched only, and as it was in between.
        """
        session = self.session
        session.check_images(images)
        checked = session.check_targets(targets, len(images))
        names: Sequence[str] = digests(images) if sample_ids is None else sample_ids
        arithmetic = self.arithmetic_on(session.device)
        done = 0
        while done < len(images):
            with session.active():
                plan = self._plan(images)
                run = slice(done, min(done + plan.n_images, len(images)))
                own = None if checked is None else checked[run]
                try:
                    lent = self._lent(run, names[run])
                    chunk = Chunk(session, images[run], own, names[run], plan, self.settings, arithmetic, lent)
                    found = self._find_chunk(chunk)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    self.planner.shrink(images)
                    continue
            done = run.stop
            yield run, found

    def _plan(self, images: Tensor) -> Plan:
        try:
            return self.planner.plan(images)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise NeuronPathError(
                    "Memory runs out with one image before the search begins: take a smaller image_size, or a device "
                    "with more memory."
                ) from error
            raise

    def _lent(self, run: slice, names: Sequence[str]) -> MeanAblation | Tensor | None:
        """What the search needs to know of other images, for a run of images; the baselines' need nothing."""
        search = self.method.search
        if search.borrows is None:
            return None
        if self.lender is None:
            raise NeuronPathError(
                f"The search '{search.name}' is to maximise the {search.maximises}, for which it needs "
                f"{search.borrows}: give them."
            )
        return self.lender.means() if search.borrows == "reference_images" else self.lender.donors(run, names)

    def _find_chunk(self, chunk: Chunk) -> list[PathResult]:
        """What each method finds; one that others refer to is run once."""
        found: dict[Method, PathResult] = {}
        for method in self.methods:
            paths = None
            for one in filter(None, (method.reference, method)):
                if one not in found:
                    found[one] = one.find(chunk, paths, keep_candidates=self.keep_candidates)
                paths = found[one].paths
        return [found[method] for method in self.methods]


def joined(parts: Sequence[Sequence[PathResult]]) -> list[PathResult]:
    """The results of each method from those of consecutive chunks; where they mean nothing, a warning says so."""
    results = [PathResult.cat(list(found)) for found in zip(*parts, strict=True)]
    for result in results:
        if not result.scores.any() and not result.margins.any():
            warnings.warn(
                "All scores are 0, so the paths mean nothing: the logits do not depend on the neurons, as where the "
                "classifier's weights are 0.",
                stacklevel=3,
            )
    return results


def digests(images: Float[Tensor, "B c H W"]) -> list[str]:
    """A name for each image that depends on its pixels only."""
    pixels = images.detach().to(device="cpu", dtype=torch.float32).numpy()
    return [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels]
