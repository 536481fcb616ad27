"""The Python interface: everything a notebook needs, on plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.attribution.edges import edges_by_chunk
from neuron_path.attribution.exactness import exactness, settled
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.score import path_scores
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.attribution.target import OF_SEVERAL_CLASSES, PROBABILITY, Target
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.evidence.grid import patch_grid, patch_tokens
from neuron_path.interventions.evaluate import Evaluator, Intervention, Subject
from neuron_path.interventions.heat_map import activation_map, effect_map
from neuron_path.interventions.means import MeanActivations
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.budget import chunks
from neuron_path.models.heads import LinearHead, count_masks, head_bytes
from neuron_path.models.session import Session, Targets
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import Search, searches
from neuron_path.search.settings import SearchSettings
from neuron_path.store.atomic import write_bytes
from neuron_path.types import (
    HeatMap,
    Measure,
    OperationName,
    PathEdges,
    PathResult,
    QuantityName,
    TargetName,
    TokenScopeName,
    TokensName,
    UnitsName,
)

# Nodes that a heat map begins and ends with, and what may be missing of it: from a blank image to the whole one f turns
# more often than where a path alone is scaled.
_HEAT_MAP = (32, 256, 1e-2)

_AS = {  # what images that an operation borrows from may be
    "reference_images": "give one image or more to take means over, as reference_images=images",
    "donor_images": "give another image for each, as donor_images=images.flip(0)",
}


def find_paths(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    targets: Targets = None,
    *,
    scorer: str | Scorer = "joint_attribution",
    search: str | Search = "greedy",
    quadrature: str | Quadrature = "gauss_legendre",
    n_steps: int | None = None,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
    token_scope: TokenScopeName | None = None,
    units: UnitsName = "ffn",
    top_k: int = 1,
    per_block: bool = True,
    micro_batch: int | None = None,
    memory_budget: float | str | None = None,
    precision: str = "fp32",
    compile: bool = False,
    keep_candidates: bool = False,
    reference_images: Float[Tensor, "R c H W"] | None = None,
    donor_images: Float[Tensor, "B c H W"] | None = None,
) -> PathResult:
    """Find the influential neuron path of each image.

    From input to output, each block's neuron is the one with the largest joint attribution score together with the
    path before it, ``(W + w_j) · ∫ (G + ∂f/∂a_j) dα``, where f is the target class's probability (Wang et al., ICLR
    2025, arXiv 2503.09046). An image's path depends on that image and its target only, never on what else is in the
    batch.

    Args:
        model: a vision transformer of timm, torchvision, Hugging Face or open_clip, or a module that holds one and
            returns logits (docs/models.md); left exactly as it was.
        images: (B, channels, height, width) preprocessed; moved to the model's device and dtype chunk by chunk.
        targets: (B,) class indices, what each image's path drives, or one index for all; None takes each image's
            predicted class.
        scorer: what rates a neuron: a name (`joint_attribution`, `complete_attribution`, `activation`,
            `influence_pattern`, `guided_influence_pattern`, `gradient_x_activation`, `integrated_gradients`,
            `conductance`, `knowledge_neurons`, `ablation`, `random`, `activation_matched_random`) or an object with its
            options, from `neuron_path.scorers`.
        search: how a path is picked: `greedy`, the paper's; `linearized`, which finds paths with a higher score in a
            fraction of the time and asks no scorer; `exhaustive`, for tiny models; or an object with its options, as
            ``neuron_path.searches.Linearized(measure="effect")``.
        quadrature: rule of the integral over α: a name (`gauss_legendre`, `adaptive`, `riemann_left`, `riemann_right`,
            `midpoint`, `trapezoid`), or a `Quadrature` with its own options.
        n_steps: number of nodes of a named rule; None: 8 of Gauss–Legendre, which are closer to the integral than the
            paper's 20 that the sums of equal steps take (`trapezoid` 21). `adaptive` begins with 4 and doubles them
            where a choice is not yet sure.
        target: what of the target class y is attributed: "probability" (softmax), "logit" (also the value of a
            regression), "margin", its log-odds z_y − log Σ exp of the other logits, which does not saturate, "sigmoid",
            the probability where classes do not exclude one another, "contrast", z_y − z_c: why y and not c; or a
            function from (N, C) logits to (N,) differentiable values, which treats images apart.
        contrast_class: c, of all images; None: of each the runner-up, the class with the next largest logit.
        token_scope: "cls" or "patch": whose activations are neurons' values; None follows the model's head.
        units: what a path consists of: "ffn", FFN neurons; "heads", attention heads, by their outputs at the tokens in
            scope; or "ffn+heads", both, where each of the L transformer blocks counts as two, of its heads and then of
            its FFN neurons (docs/measures.md). What is said of neurons then holds for heads.
        top_k: neurons per block.
        per_block: False: the `top_k` neurons may be of any blocks, a circuit in place of a path: with the search
            `linearized`, or by a scorer that rates each block on its own. What one in each block costs is then seen.
        micro_batch: most sequences, i.e. (node, image) pairs, in one pass; None suits it to the device. Only speed and
            memory depend on it.
        memory_budget: bytes that the search may take above the loaded model, as 2e9 or "1.5GB"; None: on a GPU most of
            what is free, on a CPU what one chunk of images needs.
        precision: of the blocks behind the one that is rated: "fp32", or "tf32" (GPU) and "bf16", which are faster and
            may choose other neurons, even by the batch. The score of the path found is exact in any case.
        compile: run these blocks through torch.compile: slow to start.
        keep_candidates: also return the score of every candidate neuron.
        reference_images: (R, channels, height, width) preprocessed, for a search that maximises the effect of
            `mean_ablation`.
        donor_images: one for each image, preprocessed, for one that maximises that of `resample_ablation`.

    Returns:
        Paths, scores, margins, targets, predictions and target probabilities on the model's device. A notebook shows
            the result as a table and a figure; `to_frame` and `plot` give the two.

    Raises:
        NeuronPathError: unsupported model, bad images or targets, unknown names, options out of range.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> images, labels = neuron_path.load_digits("test")
    >>> result = neuron_path.find_paths(model, images[:2], labels[:2])
    >>> tuple(result.paths.shape), tuple(result.scores.shape)
    ((2, 12), (2,))
    """
    session, chosen = Session(model, token_scope, units), searches.create(search)
    for name, given in (("reference_images", reference_images), ("donor_images", donor_images)):
        if (chosen.borrows == name) != (given is not None):
            needs = f"needs {name}: {_AS[name]}" if given is None else f"takes no {name}: leave them out"
            raise NeuronPathError(f"The search '{chosen.name}' that maximises '{chosen.maximises}' {needs}.")
    lender = None if chosen.borrows is None else _Given(session, images, reference_images, donor_images)
    settings = SearchSettings(
        Quadrature.of(quadrature, n_steps),
        _target_of(session, target, contrast_class),
        top_k,
        per_block,
        micro_batch,
        memory_budget,
        precision,
        compile,
    )
    method = Method(scorers.create(scorer), chosen)
    finder = PathFinder(session, method, settings, keep_candidates=keep_candidates, lender=lender)
    [found] = finder.find(images, targets)
    paths = found.paths.squeeze(2) if top_k == 1 else found.paths
    return replace(
        found, paths=paths, n_neurons=tuple(block.n_neurons for block in session.adapter.blocks), units=units
    )


def _target_of(session: Session, target: str | Callable[[Tensor], Tensor], contrast_class: int | None) -> Target:
    """What is attributed, if the model has outputs for it."""
    wanted = Target.of(target, contrast_class, session.adapter.n_classes)
    if wanted.name in OF_SEVERAL_CLASSES and (n_masks := count_masks(session.model)) > 1:
        raise NeuronPathError(
            f"The model's head reads {n_masks} masks, and the target '{wanted.name}' would compare their outputs: use "
            "'logit' or 'sigmoid', or attach the head with one mask after another."
        )
    return wanted


class _Given:
    """Lends from the images that were given."""

    def __init__(self, session: Session, images: Tensor, references: Tensor | None, donors: Tensor | None) -> None:
        self._donors = donors
        if donors is not None:
            _check_donors(session, donors, images)
        if references is not None:
            self._means = _means_of(session, references)

    def means(self) -> MeanAblation:
        return self._means

    def donors(self, run: slice, names: Sequence[str]) -> Tensor:
        assert self._donors is not None
        return self._donors[run]


def score_paths(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    targets: Targets,
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"],
    *,
    quadrature: str | Quadrature = "gauss_legendre",
    n_steps: int | None = None,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
    token_scope: TokenScopeName | None = None,
    units: UnitsName = "ffn",
    measure: Measure = "joint",
    return_convergence_delta: bool = False,
) -> Float[Tensor, "B"] | tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Score given paths in the frozen graph in which only the path's neurons are scaled.

    `joint`: JAS(P) = (Σ_l w_{l,j}) · ∫ Σ_l ∂f/∂a_{l,j} dα, per token in scope, then the mean over tokens (where tokens
    are pooled between blocks, each block's means are taken before the product).
    `complete`: Σ_l w_{l,j} ∫ ∂f/∂a_{l,j} dα, summed over tokens; with an exact integral it is
    f(clean) − f(path zeroed), and the convergence delta is what is missing from that.

    Args:
        model, images, quadrature, n_steps, target, contrast_class, token_scope, units: as for
            `find_paths`.
        targets: (B,) class indices, or one for all; None takes the predicted classes.
        paths: (B, L) or (B, L, k) neuron indices, distinct within a block; −1 stands for none.
        measure: "joint" or "complete".
        return_convergence_delta: also return the delta, as captum does; of `complete` only.

    Returns:
        (B,) scores, or (scores, delta).

    Raises:
        NeuronPathError: as for `find_paths`; paths that do not fit the model; a delta asked of `joint`.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> images, labels = neuron_path.load_digits("test")
    >>> found = neuron_path.find_paths(model, images[:2], labels[:2])
    >>> scores = neuron_path.score_paths(model, images[:2], labels[:2], found.paths)
    >>> bool(torch.allclose(scores, found.scores, rtol=1e-5))
    True
    """
    if measure not in ("joint", "complete"):
        raise NeuronPathError(f"No measure is named '{measure}'. Known: complete, joint.")
    if return_convergence_delta and measure != "complete":
        raise NeuronPathError(
            "The measure 'joint' is a product of sums and has no convergence delta: use measure='complete'."
        )
    session, rule = Session(model, token_scope, units), Quadrature.of(quadrature, n_steps)
    wanted = _target_of(session, target, contrast_class)
    session.check_images(images)
    checked = session.check_targets(targets, len(images))
    whole = _distinct(session.check_paths(paths, len(images)))
    settings = (rule, wanted)
    parts = []
    with session.active():
        for run, micro_batch in chunks(session, images, rule.n_steps):
            own = None if checked is None else checked[run]
            parts.append(_score_chunk(session, images[run], own, whole[run], micro_batch, settings, measure))
    scores, *deltas = map(torch.cat, zip(*parts, strict=True))
    return (scores, deltas[0]) if return_convergence_delta else scores


def _distinct(paths: Tensor) -> Tensor:
    """The same paths, (B, L, k); raise a NeuronPathError if a block's neurons are not distinct."""
    ordered = paths.sort(2).values
    if bool(((ordered.diff(dim=2) == 0) & (ordered[:, :, 1:] >= 0)).any()):
        raise NeuronPathError(
            "A path names the same neuron twice in one block, and each can be counted once only: give −1, which stands "
            "for none, in the place of the other."
        )
    return paths


def _score_chunk(
    session: Session,
    images: Tensor,
    targets: Tensor | None,
    paths: Tensor,
    micro_batch: int,
    settings: tuple[Quadrature, Target],
    measure: Measure,
) -> list[Tensor]:
    """Scores, and for `complete` their deltas; images on which float32 is not to be trusted are scored in float64."""
    rule, target = settings
    problem = Problem.pose(session.adapter, session.images(images), targets, rule, micro_batch, target)
    exact = exactness(problem)
    scored = path_scores(problem, paths, complete=measure == "complete")
    if measure == "joint":
        values = [scored.joint]
    else:
        assert scored.complete is not None
        assert scored.deltas is not None
        values = [scored.complete, scored.deltas]

    def again(double: Session, rows: Tensor) -> list[Tensor]:
        own, chosen = (values[rows].to(double.device) for values in (problem.targets, paths))
        return _score_chunk(double, images[rows.to(images.device)], own, chosen, micro_batch, settings, measure)

    return values if exact is None else settled(session, values, exact.blurs_scores, again)


@overload
def intervene(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"],
    operation: OperationName = "remove",
    token_scope: TokenScopeName | None = None,
    *,
    units: UnitsName = "ffn",
    factor: float | None = None,
    tokens: TokensName = "scope",
    reference_images: Float[Tensor, "R c H W"] | None = None,
    donor_images: Float[Tensor, "B c H W"] | None = None,
) -> Float[Tensor, "B C"]: ...


@overload
def intervene(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"],
    operation: OperationName = "remove",
    token_scope: TokenScopeName | None = None,
    *,
    units: UnitsName = "ffn",
    factor: float | None = None,
    tokens: TokensName = "scope",
    reference_images: Float[Tensor, "R c H W"] | None = None,
    donor_images: Float[Tensor, "B c H W"] | None = None,
    return_values: Literal[True],
    targets: Targets = None,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B"], Float[Tensor, "B"]]: ...


def intervene(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"],
    operation: OperationName = "remove",
    token_scope: TokenScopeName | None = None,
    *,
    units: UnitsName = "ffn",
    factor: float | None = None,
    tokens: TokensName = "scope",
    reference_images: Float[Tensor, "R c H W"] | None = None,
    donor_images: Float[Tensor, "B c H W"] | None = None,
    return_values: bool = False,
    targets: Targets = None,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
) -> Float[Tensor, "B C"] | tuple[Float[Tensor, "B C"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Logits of the live network with the path's neurons edited.

    `remove` multiplies their activations by 0 and `enhance` by a factor; `mean_ablation` sets them to their mean over
    reference images (over images and tokens; those in scope and the other ones apart), `resample_ablation` to their
    activations on another image, token by token; `keep_only` zeroes all other neurons of all blocks instead. Each
    block's activations are those that the edits before it lead to.

    Args:
        model, images, token_scope, units: as for `find_paths`.
        paths: (B, L) or (B, L, k) neuron indices; one that a block names twice is edited once, −1 stands for none.
        operation: one of the five names above.
        factor: of `enhance`, by default 2.
        tokens: "scope" edits at the tokens in scope, "all" at every token that the FFN sees.
        reference_images: (R, channels, height, width) preprocessed, for `mean_ablation`.
        donor_images: one for each image, preprocessed, for `resample_ablation`.
        return_values: also return the target function of the untouched network and of the edited one, from the same
            passes.
        targets, target, contrast_class: of these values, as for `find_paths`; the runner-up of a contrast is that of
            the untouched network.

    Returns:
        (B, C) logits, or (logits, values before, values after), the values (B,) each.

    Raises:
        NeuronPathError: as for `find_paths`; paths that do not fit the model; no such operation, or one that lacks its
            images or gets what it does not take; a target without `return_values`.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> images, labels = neuron_path.load_digits("test")
    >>> found = neuron_path.find_paths(model, images[:2], labels[:2])
    >>> tuple(neuron_path.intervene(model, images[:2], found.paths, "remove").shape)
    (2, 10)
    >>> tuple(neuron_path.intervene(model, images[:2], found.paths, "mean_ablation", reference_images=images).shape)
    (2, 10)
    >>> _, before, after = neuron_path.intervene(
    ...     model, images[:2], found.paths, return_values=True, targets=labels[:2], target="margin"
    ... )
    >>> bool((after < before).all())
    True
    """
    intervention = Intervention(operation, factor, tokens)
    if not return_values and (targets is not None or target != "probability" or contrast_class is not None):
        raise NeuronPathError(
            "targets, target and contrast_class are of the values before and after the edit, which were not asked for: "
            "add return_values=True, or leave them out."
        )
    for name, wanted, given in (
        ("reference_images", "mean_ablation", reference_images),
        ("donor_images", "resample_ablation", donor_images),
    ):
        if (operation == wanted) != (given is not None):
            needs = f"needs {name}: {_AS[name]}" if given is None else f"takes no {name}: they belong to '{wanted}'"
            raise NeuronPathError(f"The operation '{operation}' {needs}.")
    session = Session(model, token_scope, units)
    session.check_images(images)
    whole = session.check_paths(paths, len(images))
    if donor_images is not None:
        _check_donors(session, donor_images, images)
    means = None if reference_images is None else _means_of(session, reference_images)
    checked = session.check_targets(targets, len(images))
    wanted = _target_of(session, target, contrast_class) if return_values else PROBABILITY
    evaluator = Evaluator([intervention], means, target=wanted)
    parts = []
    with session.active():
        for run, micro_batch in chunks(session, images, 1):
            donors = None if donor_images is None else donor_images[run]
            own, subject = None if checked is None else checked[run], Subject(whole[run])
            clean, [measured] = evaluator.measure(session, images[run], own, [subject], micro_batch, donors)
            [logits] = measured.logits
            values = ()
            if return_values:
                values = wanted.before_and_after(clean, logits, clean.argmax(1) if own is None else own)
            parts.append((logits, *values))
    logits, *values = map(torch.cat, zip(*parts, strict=True))
    return (logits, values[0], values[1]) if return_values else logits


def save_head(head: LinearHead, file: str | Path) -> Path:
    """Write a head into a `.safetensors` file, which `load_head` and `head=file head.path=FILE` read; whole or absent.

    Raises:
        NeuronPathError: another ending, or a file that cannot be written.
    """
    path = Path(file).expanduser()
    if path.suffix != ".safetensors":
        raise NeuronPathError(
            f"A head is written as safetensors, not as '{path.name}': name it {path.stem}.safetensors."
        )
    write_bytes(path, head_bytes(head))
    return path


def _check_donors(session: Session, donors: Tensor, images: Tensor) -> None:
    """Raise a NeuronPathError unless there is one donor for each image."""
    session.check_images(donors)
    if donors.shape != images.shape:
        raise NeuronPathError(
            f"Donor images have shape {tuple(donors.shape)}; expected that of the images, {tuple(images.shape)}: "
            f"{_AS['donor_images']}."
        )


def _means_of(session: Session, references: Tensor) -> MeanAblation:
    """The mean-ablation by the mean activations of given images."""
    if not len(references):
        raise NeuronPathError(f"reference_images is empty: {_AS['reference_images']}.")
    session.check_images(references)
    with session.active():
        means = MeanActivations(session)
        means.update(references)
        return means.operation()


def heat_map(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"] | tuple[int, int],
    targets: Targets = None,
    quantity: QuantityName = "effect",
    *,
    block: int | None = None,
    baseline_images: Float[Tensor, "_b c H W"] | None = None,
    quadrature: str | Quadrature = "adaptive",
    n_steps: int | None = None,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
    token_scope: TokenScopeName | None = None,
    units: UnitsName = "ffn",
) -> HeatMap:
    """Where in the picture a path, a block of it or one neuron looks: a number for each patch.

    `effect`: integrated gradients (Sundararajan et al., ICML 2017) of e(h) = f(h) − f(h; path removed), what removing
    the path takes from the target function in the live network, at the tokens h that enter the first block. Along the
    straight line from the tokens h′ of a baseline image, patch t gets Σ_d (h − h′)_td · ∫ ∂e/∂h_td dα. The map sums to
    e(h) − e(h′), and the convergence delta is what is missing from that.
    `activation`: the neurons' own clean activations (of heads the norms of their outputs) at the token of each patch,
    summed over the neurons.

    All is computed in float64, because e is a small difference. An image's map depends on that image only.

    Args:
        model, images, target, contrast_class, token_scope: as for `find_paths`; the path is removed at the tokens in
            scope.
        paths: (B, L) or (B, L, k) neuron indices, −1 stands for none; or (block, neuron), one neuron for all images.
        targets: (B,) class indices, or one for all; None takes the predicted classes.
        quantity: "effect" or "activation".
        block: keep only the path's neurons of this block, 0 … L−1.
        baseline_images: preprocessed, one for all images or one for each; None: zeros, which is a blank image of the
            mean colour that preprocessing takes off.
        quadrature, n_steps: rule and number of nodes of the integral. `adaptive` takes 32 Gauss–Legendre nodes, or
            `n_steps`, and doubles them, up to 256, for images of which more than 1 % of Σ |value| is missing.

    Returns:
        The maps, (B, rows, columns) on the model's device, with effects and convergence deltas.

    Raises:
        NeuronPathError: as for `score_paths`; a model without a grid of patches; a baseline of another shape.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> images, labels = neuron_path.load_digits("test")
    >>> found = neuron_path.find_paths(model, images[:2], labels[:2])
    >>> heat = neuron_path.heat_map(model, images[:2], found.paths, labels[:2])
    >>> heat
    HeatMap(images=2, rows=4, columns=4, quantity='effect')
    >>> bool(torch.allclose(heat.values.sum((1, 2)), heat.effects - heat.baseline_effects, atol=1e-3))
    True
    """
    if quantity not in ("effect", "activation"):
        raise unknown_name("quantity", quantity, ("effect", "activation"))
    if quadrature == "adaptive":
        fewest, most, tolerance = _HEAT_MAP
        fewest = fewest if n_steps is None else n_steps
        quadrature = Quadrature("adaptive", fewest, tolerance, max(fewest, most))
    rule = Quadrature.of(quadrature, n_steps)
    session = Session(model, token_scope, units)
    wanted = _target_of(session, target, contrast_class)
    session.check_images(images)
    checked = session.check_targets(targets, len(images))
    whole = _paths_of(session, paths, block, len(images))
    baseline = _baseline(session, images, baseline_images)
    double = session if session.dtype == torch.float64 else session.double()
    found: list[HeatMap] = []
    with session.active(), double.active():
        device, tokens = double.device, patch_tokens(double)
        grid = patch_grid(double, double.images(images[:1]))
        if tokens is None or grid is None:
            raise NeuronPathError(
                f"The tokens that enter the first block of this model (family '{session.adapter.name}', token scope "
                f"'{session.adapter.scope.name}') are no grid of patches, so nothing can be mapped onto the picture: "
                "take another model, or token_scope='patch' where the class token joins late."
            )
        whole = whole.to(device)
        checked = None if checked is None else checked.to(device)
        for run, micro_batch in chunks(double, images, 1):
            some = double.images(images[run])
            if quantity == "activation":
                values = activation_map(double.adapter, some, whole[run])[:, tokens]
                found.append(HeatMap(values.unflatten(1, grid), "activation"))
                continue
            mine = None if checked is None else checked[run]
            problem = Problem.pose(double.adapter, some, mine, rule, micro_batch, wanted)
            blank = double.images(baseline if len(baseline) == 1 else baseline[run])
            mapped = effect_map(problem, whole[run], blank)
            values = mapped.contributions[:, tokens].unflatten(1, grid)
            delta = values.sum((1, 2)) - (mapped.effects - mapped.baseline_effects)
            found.append(HeatMap(values, "effect", problem.targets, mapped.effects, mapped.baseline_effects, delta))
    return HeatMap.cat(found).to(session.device, session.dtype)


def path_edges(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"],
    targets: Targets = None,
    *,
    target: TargetName | Callable[[Tensor], Tensor] = "probability",
    contrast_class: int | None = None,
    token_scope: TokenScopeName | None = None,
    units: UnitsName = "ffn",
) -> PathEdges:
    """How the effect of each neuron of a path goes on: through which later ones of them, or straight to the output.

    To first order at the clean point, in the graph in which all neurons at the tokens in scope are frozen but the
    path's: of the effect w · ∂f/∂a of neuron i, what passes through the later neuron j and through none of the path in
    between is w_i · (∂a_j/∂a_i) · df/da_j, summed over tokens, df/da_j by all ways on from j. What passes through each
    and what passes through none adds up to the whole effect. One forward pass, and a backward pass for each neuron.

    Args:
        model, images, targets, target, contrast_class, token_scope, units: as for `find_paths`.
        paths: (B, L) or (B, L, k) neuron indices, distinct within a block; −1 stands for none.

    Returns:
        Edges, what goes straight to the output, and the sums; a notebook shows the figure, which `plot` gives.

    Raises:
        NeuronPathError: as for `find_paths`; paths that do not fit the model.

    >>> import neuron_path
    >>> model = neuron_path.load_model("digits_vit")
    >>> images, labels = neuron_path.load_digits("test")
    >>> found = neuron_path.find_paths(model, images[:2], labels[:2])
    >>> ways = neuron_path.path_edges(model, images[:2], found.paths, labels[:2])
    >>> ways
    PathEdges(images=2, blocks=12, top_k=1)
    >>> tuple(ways.edges.shape), tuple(ways.to_output.shape), tuple(ways.totals.shape)
    ((2, 12, 12), (2, 12), (2, 12))
    """
    session = Session(model, token_scope, units)
    wanted = _target_of(session, target, contrast_class)
    session.check_images(images)
    checked = session.check_targets(targets, len(images))
    whole = _distinct(session.check_paths(paths, len(images)))
    shape = torch.as_tensor(paths).shape[1:]
    double = session if session.dtype == torch.float64 else session.double()
    found: list[PathEdges] = []
    with session.active(), double.active():
        whole = whole.to(double.device)
        checked = None if checked is None else checked.to(double.device)
        for run, of_run, edges, to_output in edges_by_chunk(double, images, whole, checked, wanted):
            own = len(of_run), *shape
            mine = edges.view(*own, *shape), to_output.view(own), whole[run].view(own)
            found.append(PathEdges(*mine, of_run, units))
    # No narrower than float32: the effects of single neurons are small.
    return PathEdges.cat(found).to(session.device, torch.promote_types(session.dtype, torch.float32))


def _paths_of(session: Session, paths: Tensor | tuple[int, int], block: int | None, n_images: int) -> Tensor:
    """The paths that were meant, (B, L, k): those of one block only, or one neuron for all images."""
    n_blocks = len(session.adapter.blocks)
    neuron = None
    if isinstance(paths, tuple):
        if len(paths) != 2 or block is not None:
            raise NeuronPathError(f"paths is {paths}; expected paths of neurons, or (block, neuron) without `block`.")
        block, neuron = paths
    if block is not None and not 0 <= block < n_blocks:
        raise NeuronPathError(f"block is {block}; expected one of this model, 0 … {n_blocks - 1}.")
    if neuron is not None:
        paths = torch.full((n_images, n_blocks), -1)
        paths[:, block] = neuron
    assert isinstance(paths, Tensor)
    whole = session.check_paths(paths, n_images)
    if block is None:
        return whole
    here = torch.arange(n_blocks, device=whole.device).view(1, -1, 1) == block
    return session.check_paths(torch.where(here, whole, -1), n_images)


def _baseline(session: Session, images: Tensor, baseline: Tensor | None) -> Tensor:
    """The images from which a heat map starts, one for all or one for each."""
    if baseline is None:
        return torch.zeros_like(images[:1])
    session.check_images(baseline)
    if baseline.shape[1:] != images.shape[1:] or len(baseline) not in (1, len(images)):
        raise NeuronPathError(
            f"Baseline images have shape {tuple(baseline.shape)}; expected one for all or one for each of the images, "
            f"which have shape {tuple(images.shape)}."
        )
    return baseline
