"""Linearised search: its gradients against plain autograd, its paths against every path there is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.attribution.linear import Sum
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.errors import NeuronPathError
from neuron_path.models.session import Session
from neuron_path.search.goal import Effect, Goal, Rating, Score
from neuron_path.search.searches.exhaustive import Exhaustive
from neuron_path.search.searches.linearized import Linearized
from neuron_path.types import PathResult
from tests import oracle, tiny

pytestmark = pytest.mark.covering

RULE = Quadrature("gauss_legendre", 5)
EDITS = ("remove", "mean_ablation", "resample_ablation", "enhance")
GOALS: list[dict[str, Any]] = [
    {"measure": "joint"},
    {"measure": "complete"},
    *({"measure": "effect", "operation": operation} for operation in EDITS),
]


def small(name: str = "cls", seed: int = 0, dtype: torch.dtype = torch.float64) -> VisionTransformer:
    """3 blocks of 12 neurons."""
    return tiny.make(name, seed, dtype, mlp_ratio=0.75, depth=3)


def references(images: Tensor) -> Tensor:
    """Whose means an ablation takes, whatever the batch."""
    return tiny.make_images(4, seed=9, dtype=images.dtype)


def find(model: VisionTransformer, images: Tensor, targets: Tensor, search: Any, **options: Any) -> PathResult:
    lent: dict[str, Tensor] = {}
    if search.borrows == "reference_images":
        lent = {"reference_images": references(images)}
    elif search.borrows == "donor_images":
        lent = {"donor_images": images.flip(3)}
    options = {"quadrature": RULE} | lent | options
    return neuron_path.find_paths(model, images, targets, search=search, **options)


def effects(model: VisionTransformer, images: Tensor, targets: Tensor, paths: Tensor, operation: Any) -> Tensor:
    """(B,) how much the target's probability changes, as it counts."""
    lent = {"mean_ablation": "reference_images", "resample_ablation": "donor_images"}
    others = references(images) if operation == "mean_ablation" else images.flip(3)
    given: Any = {lent[operation]: others} if operation in lent else {}
    scope: Any = None
    edited = neuron_path.intervene(model, images, paths, operation, scope, **given).softmax(1)
    clean = model(images).softmax(1)
    change = (edited - clean).gather(1, targets.unsqueeze(1)).squeeze(1)
    return change if operation == "enhance" else -change


def literal_gains(
    setting: oracle.Setting,
    image: Tensor,
    target: int,
    path: list[list[int]],
    t: float,
    change: Sequence[Tensor] | float,
) -> list[Tensor]:
    """Per block (F,): Σ_tokens (b − a) ∂f/∂a where the path's neurons are at a + t (b − a), by plain autograd.

    Args:
        change: b per block (S, F), or what all are multiplied by less 1.
    """
    seen: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def edit(index: int, where: slice, a: Tensor) -> Tensor:
        on_path = torch.tensor([neuron in path[index] for neuron in range(where.start, where.stop)])
        scope = oracle.in_scope(setting, a.shape[1]).unsqueeze(1)
        inside = a[:, scope.squeeze(1)]
        wanted = inside * change if isinstance(change, int | float) else change[index][:, where] - inside
        delta = torch.zeros_like(a)
        delta[:, scope.squeeze(1)] = wanted
        edited = torch.where(scope & on_path, a + t * delta, a)
        if not edited.requires_grad:
            edited.requires_grad_()
        edited.retain_grad()
        seen[index, where.start] = (edited, delta.detach())
        return edited

    with oracle.hooked(setting, edit), torch.enable_grad():
        value = oracle.target_values(setting, setting.model(image.unsqueeze(0)), target).sum()
        value.backward()
    found = []
    for index in range(len(oracle.counted_blocks(setting))):
        parts = [(a, delta) for (block, _), (a, delta) in sorted(seen.items()) if block == index]
        gains = []
        for a, delta in parts:
            assert a.grad is not None
            gains.append((a.grad * delta)[0].sum(0))
        found.append(torch.cat(gains))
    return found


@pytest.mark.parametrize("operation", EDITS)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_what_each_neuron_adds_to_an_edit_is_as_plain_autograd_has_it(
    case: tiny.Case, operation: str, n_steps: int, images: Tensor, targets: Tensor
) -> None:
    model, scope = case
    setting = tiny.literal(model, scope)
    session = Session(model, scope)  # type: ignore[arg-type]
    nodes = {1: ([1.0], [1.0]), 2: ([1 / 3, 1.0], [0.75, 0.25])}.get(n_steps)
    if nodes is None:
        root = 6**0.5
        nodes = ([(4 - root) / 10, (4 + root) / 10, 1.0], [(16 - root) / 36, (16 + root) / 36, 1 / 9])
    paths, rows = tiny.random_paths(model, 4, 2), torch.tensor([2, 0, 0, 1])
    donors = [oracle.clean_activations(setting, image.flip(2)) for image in images]
    with session.active():
        problem = Problem.pose(session.adapter, images, targets, RULE, 3)
        if operation == "mean_ablation":
            replacements = [torch.stack(values).mean((0, 1)).view(1, 1, -1) for values in zip(*donors, strict=True)]
        else:
            replacements = [torch.stack(values) for values in zip(*donors, strict=True)]
        object.__setattr__(problem, "replacements", replacements)
        goal = Effect(problem, operation, n_steps)
        values, found, _ = goal.rate(rows, paths)
        start = next(goal.starts())
    assert isinstance(found, Sum)
    assert isinstance(start, Sum)
    for at, row in enumerate(rows.tolist()):
        changes: dict[str, Sequence[Tensor] | float] = {
            "remove": -1.0,
            "enhance": 1.0,
            "mean_ablation": [values[0].expand_as(own) for values, own in zip(replacements, donors[row], strict=True)],
            "resample_ablation": donors[row],
        }
        change = changes[operation]
        options = (setting, images[row], int(targets[row]))
        path = paths[at].tolist()
        by_node = [literal_gains(*options, path, t, change) for t in nodes[0]]
        clean = literal_gains(*options, [[]] * len(path), 0.0, change)
        for block in range(len(path)):
            expected = sum(weight * gains[block] for weight, gains in zip(nodes[1], by_node, strict=True))
            torch.testing.assert_close(found.gains[block][at], goal.sign * expected, rtol=1e-9, atol=1e-13)
            torch.testing.assert_close(start.gains[block][row], goal.sign * clean[block], rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(goal.exactly(rows, paths), values, rtol=1e-10, atol=1e-14)


def test_the_gains_along_an_edit_add_up_to_its_effect(images: Tensor, targets: Tensor) -> None:
    """The identity, by many nodes of Gauss and Legendre between the ones that the search takes."""
    model = tiny.make()
    setting = tiny.literal(model, "cls", n_steps=24)
    paths = tiny.random_paths(model, 3, 2)
    expected = effects(model, images, targets, paths, "remove")
    for row, path in enumerate(paths.tolist()):
        total = torch.zeros((), dtype=torch.float64)
        for t, weight in zip(setting.alpha.tolist(), setting.weights, strict=True):
            gains = literal_gains(setting, images[row], int(targets[row]), path, t, -1.0)
            total -= weight * torch.stack([gains[block][neurons].sum() for block, neurons in enumerate(path)]).sum()
        torch.testing.assert_close(total, expected[row], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [*GOALS[:3], *(pytest.param(options, marks=pytest.mark.slow) for options in GOALS[3:])],
    ids=lambda options: options.get("operation", options["measure"]),
)
@pytest.mark.parametrize("n_models", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_the_best_path_of_all_is_found(options: dict[str, Any], n_models: int) -> None:
    """Over five images of each model the exhaustive search finds more, by a thousandth, for at most one in twenty."""
    n_steps = 1 if options["measure"] == "effect" else 3
    ratios = []
    for seed in range(n_models):
        model, images = small("cls" if seed % 2 else "avg", seed), tiny.make_images(5, seed)
        targets = torch.arange(5) % tiny.N_CLASSES
        best, found = (
            find(model, images, targets, search, quadrature=Quadrature("gauss_legendre", 3), micro_batch=4096)
            for search in (Exhaustive(**options), Linearized(n_steps=n_steps, polish=True, **options))
        )
        assert best.objectives is not None
        assert found.objectives is not None
        assert (found.objectives <= best.objectives + 1e-3 * best.objectives.abs()).all()
        ratios.append(found.objectives / best.objectives)
    assert (torch.cat(ratios) > 1 - 1e-3).double().mean() >= 0.95


@pytest.mark.parametrize("options", GOALS[:3], ids=lambda options: options["measure"])
@pytest.mark.core
def test_the_exhaustive_search_is_the_literal_one(options: dict[str, Any], images: Tensor, targets: Tensor) -> None:
    model = tiny.make(depth=2, mlp_ratio=0.375)  # 6 neurons
    setting = tiny.literal(model, "cls")
    found = find(model, images, targets, Exhaustive(**options))
    assert found.objectives is not None
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        scores = {}
        for path in product(range(6), repeat=2):
            own = [[neuron] for neuron in path]
            if options["measure"] == "joint":
                scores[path] = float(oracle.joint_score(setting, image, target, own))
            elif options["measure"] == "complete":
                scores[path] = float(oracle.complete_score(setting, image, target, own)[0])
            else:
                clean, edited = (
                    oracle.intervened(setting, image, own, factor).softmax(0)[target] for factor in (1.0, 0.0)
                )
                scores[path] = float(clean - edited)
        best = max(scores, key=lambda path: scores[path])
        assert tuple(found.paths[row].tolist()) == best
        assert found.objectives[row].item() == pytest.approx(scores[best], rel=1e-3)


@pytest.mark.parametrize("options", GOALS, ids=lambda options: options.get("operation", options["measure"]))
@pytest.mark.parametrize("k", [1, 2])
def test_the_result_says_what_was_maximised(options: dict[str, Any], k: int, images: Tensor, targets: Tensor) -> None:
    model = small()
    found = find(model, images, targets, Linearized(**options), top_k=k)
    assert found.objectives is not None
    assert found.passes is not None
    if options["measure"] == "effect":
        expected = effects(model, images, targets, found.paths, options["operation"])
        assert found.measure == f"effect of {options['operation']}"
        torch.testing.assert_close(found.objectives, expected, rtol=1e-9, atol=1e-13)
    else:
        measure: Any = options["measure"]
        expected = neuron_path.score_paths(model, images, targets, found.paths, n_steps=32, measure=measure)
        assert found.measure == measure
        torch.testing.assert_close(found.objectives, expected, rtol=2e-2, atol=1e-9)
    joint = neuron_path.score_paths(model, images, targets, found.paths, n_steps=32)
    torch.testing.assert_close(found.scores, joint, rtol=2e-2, atol=1e-9)
    assert (found.passes >= 1).all()


@pytest.mark.parametrize("options", [*GOALS, {"polish": True}, {"measure": "effect", "polish": True, "n_steps": 2}])
@pytest.mark.parametrize("name", ["cls", "avg"])
def test_no_image_depends_on_the_others(options: dict[str, Any], name: str) -> None:
    model = small(name, dtype=torch.float32)
    images, targets = tiny.make_images(3, dtype=torch.float32), torch.tensor([3, 0, 4])
    search = Linearized(**options)
    settings: Any = {"top_k": 2}
    together = find(model, images, targets, search, micro_batch=25, **settings)
    backwards = find(model, images.flip(0), targets.flip(0), search, micro_batch=7, **settings)
    for row in range(3):
        alone = find(model, images[row : row + 1], targets[row : row + 1], search, micro_batch=2, **settings)
        for other in (tiny.select(together, slice(row, row + 1)), tiny.select(backwards, slice(2 - row, 3 - row))):
            assert torch.equal(other.paths, alone.paths)
            torch.testing.assert_close(other.scores, alone.scores, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(other.passes, alone.passes)


@pytest.mark.parametrize("gain", [1.0, 60.0])
@pytest.mark.parametrize("options", GOALS[:3], ids=lambda options: options["measure"])
def test_float32_finds_the_paths_of_float64(options: dict[str, Any], gain: float) -> None:
    """Also where the logits are large, and rounding with them."""
    model, single = (small("registers", 3, dtype) for dtype in (torch.float64, torch.float32))
    for one in (model, single):
        tiny.classifier(one).weight.data *= gain
    images = tiny.make_images(8)
    targets = model(images).argmax(1)
    exact = find(model, images, targets, Linearized(**options))
    found = find(single, images.float(), targets, Linearized(**options))
    assert torch.equal(found.paths, exact.paths)
    torch.testing.assert_close(found.scores.double(), exact.scores, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("polish", [False, True])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("measure", ["complete", "effect"])
def test_ratings_that_were_not_close_are_taken_over(
    measure: str, k: int, polish: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 made a hundred times as rough: what is close by as much is rated again, and paths are float64's."""
    rated = assert_found_in_rough_float32(Linearized(measure=measure, polish=polish), k, 1, 3e-5, 1e-3, monkeypatch)
    assert 0 < rated[torch.float64] < rated[torch.float32] / 2


def test_what_is_taken_over_may_become_close_on_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a choice turns out otherwise, it leads to calls that float32 has not come to."""
    assert_found_in_rough_float32(Linearized(measure="effect", polish=True), 1, 10, 1e-2, 2e-2, monkeypatch)


def test_the_order_within_a_block_is_a_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_found_in_rough_float32(Linearized(measure="effect"), 8, 5, 1e-4, 2e-4, monkeypatch)


def assert_found_in_rough_float32(
    search: Linearized, k: int, seed: int, noise: float, clear: float, monkeypatch: pytest.MonkeyPatch
) -> dict[torch.dtype, int]:
    """Float64's paths are found although float32's ratings are off by half of `noise`, where calls below `clear` are
    close. How many paths are rated in each type."""
    model, single = (tiny.make("cls", seed, dtype, mlp_ratio=1.5, depth=5) for dtype in (torch.float64, torch.float32))
    images = tiny.make_images(16)
    targets = model(images).argmax(1)
    exact = find(model, images, targets, search, top_k=k)
    generator, rated = torch.Generator().manual_seed(seed), {torch.float32: 0, torch.float64: 0}

    def shaken(values: Tensor) -> Tensor:
        off = torch.rand(values.shape, generator=generator, dtype=values.dtype) - 0.5
        return values + noise * values.abs().amax(-1, keepdim=True) * off

    def rough(rate: Any) -> Any:
        def rated_roughly(goal: Goal, rows: Tensor, paths: Tensor) -> Rating:
            rating = rate(goal, rows, paths)
            rated[rating.values.dtype] += len(rows)
            if rating.values.dtype == torch.float64:
                return rating
            assert isinstance(rating.model, Sum)
            values = rating.values * (1 + noise * (torch.rand(len(rows), generator=generator) - 0.5))
            return rating._replace(values=values, model=Sum([shaken(gains) for gains in rating.model.gains]))

        return rated_roughly

    for kind in (Score, Effect):
        monkeypatch.setattr(kind, "rate", rough(kind.rate))
    monkeypatch.setattr("neuron_path.attribution.exactness._CLEAR", clear)
    found = find(single, images.float(), targets, search, top_k=k)
    assert torch.equal(found.paths, exact.paths)
    assert torch.equal(found.passes, exact.passes)  # pyright: ignore[reportArgumentType]
    return rated


def test_passes_are_kept_to_and_more_of_them_find_no_less(images: Tensor, targets: Tensor) -> None:
    model = tiny.make(depth=8)
    before = torch.full((3,), -torch.inf, dtype=torch.float64)
    for most in (2, 4, 10, 80):
        for polish in (False, True):
            # Two nodes: by one alone a path may seem better than it is.
            found = find(model, images, targets, Linearized(n_steps=2, max_passes=most, polish=polish))
            assert found.passes is not None
            assert (found.passes <= most).all()
        assert found.objectives is not None
        assert (found.objectives >= before * (1 - 1e-3)).all()
        before = found.objectives


def test_polish_finds_no_less(images: Tensor, targets: Tensor) -> None:
    for name, scope in tiny.CASES[::3]:
        model = small(name)
        plain, more = (
            find(model, images, targets, Linearized(polish=polish), token_scope=scope) for polish in (False, True)
        )
        assert (more.scores >= plain.scores * (1 - 2e-2)).all()


def test_the_adaptive_rule_scores_to_its_tolerance(images: Tensor, targets: Tensor) -> None:
    model = small()
    exact = neuron_path.find_paths(model, images, targets, search="linearized", n_steps=64)
    found = neuron_path.find_paths(model, images, targets, search="linearized", quadrature="adaptive")
    assert found.score_errors is not None
    assert torch.equal(found.paths, exact.paths)
    scores = neuron_path.score_paths(model, images, targets, found.paths, n_steps=64)
    torch.testing.assert_close(found.scores, scores, rtol=1e-3, atol=0)


def test_margins_and_candidates_tell_what_swaps_would_cost(images: Tensor, targets: Tensor) -> None:
    found = find(small(), images, targets, Linearized(measure="complete"), keep_candidates=True)
    assert found.candidate_scores is not None
    paths = found.paths.unsqueeze(2)
    best = found.candidate_scores.scatter(2, paths, -torch.inf).amax(2)
    value = found.candidate_scores.gather(2, paths).amax(2)
    torch.testing.assert_close(found.margins, (value - best) / value.abs(), rtol=1e-6, atol=1e-9)


def test_one_block_is_enough(images: Tensor, targets: Tensor) -> None:
    model = tiny.make("cls", 0, torch.float64, mlp_ratio=0.75, depth=1)
    best = find(model, images, targets, Exhaustive())
    found = find(model, images, targets, Linearized(polish=True))
    assert found.paths.shape == (3, 1)
    torch.testing.assert_close(found.scores, best.scores)


def test_all_neurons_of_a_block_can_be_chosen(images: Tensor, targets: Tensor) -> None:
    model = tiny.make(depth=2, mlp_ratio=0.375)
    for options in GOALS:
        found = find(model, images, targets, Linearized(**options), top_k=6)
        assert found.paths.sort(2).values.tolist() == [[list(range(6))] * 2] * 3


ANYWHERE = [GOALS[0], GOALS[1], GOALS[2], GOALS[3]]


@pytest.mark.parametrize("options", ANYWHERE, ids=lambda options: options.get("operation", options["measure"]))
def test_the_best_set_of_any_blocks_is_found(options: dict[str, Any]) -> None:
    """Of all pairs of 36 neurons, for 17 images in 20 and for none by much; what they are worth is told by
    `score_paths` and `intervene`."""
    n_steps = 1 if options["measure"] == "effect" else 3
    rule = Quadrature("gauss_legendre", 3)
    pairs = torch.tensor(list(combinations(range(36), 2)))
    sets = torch.full((len(pairs), 3, 2), -1)
    sets[torch.arange(len(pairs)).unsqueeze(1), pairs // 12, torch.arange(2)] = pairs % 12
    ratios = []
    for seed in range(4):
        model, images = small("cls" if seed % 2 else "avg", seed), tiny.make_images(5, seed)
        targets = torch.arange(5) % tiny.N_CLASSES
        search = Linearized(n_steps=n_steps, polish=True, **options)
        found, best = (
            find(model, images, targets, one, top_k=2, per_block=False, quadrature=rule)
            for one in (search, Exhaustive(**options))
        )
        assert ((found.paths >= 0).flatten(1).sum(1) == 2).all()
        assert found.objectives is not None
        assert best.objectives is not None
        ratios.append(found.objectives / best.objectives)
        every, own = images[:1].expand(len(sets), -1, -1, -1), targets[:1].expand(len(sets))
        if options["measure"] == "effect":
            values = effects(model, every, own, sets, options["operation"])
        else:
            scores: Any = neuron_path.score_paths(model, every, own, sets, n_steps=3, measure=options["measure"])
            values = scores
        chosen = sets[values.argmax()].sort(1).values
        assert torch.equal(best.paths[0].sort(1).values, chosen)
    assert (torch.cat(ratios) > 1 - 1e-3).double().mean() >= 0.85
    assert torch.cat(ratios).min() > 0.9


@pytest.mark.parametrize("options", ANYWHERE[:3], ids=lambda options: options["measure"])
def test_sets_of_any_blocks_depend_on_no_other_image_nor_on_rounding(options: dict[str, Any]) -> None:
    single, double = (small("registers", 3, dtype) for dtype in (torch.float32, torch.float64))
    images = tiny.make_images(5)
    targets, search = double(images).argmax(1), Linearized(**options)
    settings: dict[str, Any] = {"top_k": 9, "per_block": False}
    exact = find(double, images, targets, search, **settings)
    together = find(single, images.float(), targets, search, **settings)
    assert torch.equal(together.paths, exact.paths)
    for row in range(5):
        only = slice(row, row + 1)
        alone = find(single, images[only].float(), targets[only], search, micro_batch=3, **settings)
        assert torch.equal(alone.paths[0], together.paths[row])


@pytest.mark.parametrize("scorer", ["gradient_x_activation", "activation", "conductance", "random"])
def test_scorers_of_single_blocks_pick_the_best_of_all(scorer: str, images: Tensor, targets: Tensor) -> None:
    options: dict[str, Any] = {"top_k": 7, "per_block": False, "keep_candidates": True}
    found = neuron_path.find_paths(small(), images, targets, scorer=scorer, **options)
    assert found.candidate_scores is not None
    for path, scores in zip(found.paths, found.candidate_scores, strict=True):
        expected = {divmod(place, 12) for place in scores.flatten().topk(7).indices.tolist()}
        assert {(block, neuron) for block, row in enumerate(path.tolist()) for neuron in row if neuron >= 0} == expected


def test_scorers_that_follow_a_path_pick_no_neurons_of_any_blocks(images: Tensor, targets: Tensor) -> None:
    for scorer in (
        "joint_attribution",
        "complete_attribution",
        "guided_influence_pattern",
        "activation_matched_random",
    ):
        with pytest.raises(NeuronPathError, match=r"use search=linearized .* without it, or one of ablation, acti"):
            neuron_path.find_paths(small(), images, targets, scorer=scorer, top_k=3, per_block=False)
    with pytest.raises(NeuronPathError, match="top_k is 37; expected 1 … 36, the neurons of all blocks together"):
        neuron_path.find_paths(small(), images, targets, search="linearized", top_k=37, per_block=False)


@pytest.mark.parametrize("name", ["cls", "avg"])
def test_a_path_with_empty_blocks_is_scored_and_edited_as_literally(name: str, images: Tensor, targets: Tensor) -> None:
    model = small(name)
    setting = tiny.literal(model, "cls" if name == "cls" else "patch")
    ragged = [[[3, 7], [], [0]], [[], [11, 2], []], [[5], [5], [1, 4]]]
    paths = torch.tensor([[[*neurons, -1, -1][:2] for neurons in path] for path in ragged])
    scores = {
        measure: neuron_path.score_paths(model, images, targets, paths, quadrature=RULE, measure=measure)
        for measure in ("joint", "complete")
    }
    edited = {what: neuron_path.intervene(model, images, paths, what) for what in ("remove", "enhance", "keep_only")}
    for row, path in enumerate(ragged):
        one = images[row], int(targets[row]), path
        torch.testing.assert_close(scores["joint"][row], oracle.joint_score(setting, *one), rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(
            scores["complete"][row], oracle.complete_score(setting, *one)[0], rtol=1e-9, atol=1e-15
        )
        others = [[neuron for neuron in range(12) if neuron not in neurons] for neurons in path]
        for what, own, factor in (("remove", path, 0.0), ("enhance", path, 2.0), ("keep_only", others, 0.0)):
            torch.testing.assert_close(edited[what][row], oracle.intervened(setting, images[row], own, factor))


def test_digits_gain_by_it() -> None:
    model, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    greedy = neuron_path.find_paths(model, images[:12], labels[:12])
    found = neuron_path.find_paths(model, images[:12], labels[:12], search="linearized")
    assert found.scores.mean() > 1.1 * greedy.scores.mean()
    assert found.passes is not None
    assert found.passes.double().mean() < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "sum"}, "No measure is named 'sum'"),
        ({"operation": "remove"}, "search.operation is remove, but measure=joint edits nothing"),
        ({"measure": "effect", "operation": "keep_only"}, "No operation is named 'keep_only'"),
        ({"measure": "effect", "factor": 3.0}, "The operation 'remove' takes no factor"),
        ({"measure": "effect", "operation": "enhance", "factor": float("nan")}, "factor is nan"),
        ({"n_steps": 0}, "search.n_steps is 0; expected 1 … 64"),
        ({"n_steps": True}, "search.n_steps is True; expected 1 … 64"),
        ({"measure": "effect", "n_steps": 4}, "search.n_steps is 4; expected 1 … 3"),
        ({"max_passes": 0}, "search.max_passes is 0; expected at least 1"),
        ({"max_passes": 2, "n_steps": 4}, "search.max_passes is 2; expected at least 4"),
        ({"max_passes": 1.5}, "search.max_passes is 1.5; expected at least 1"),
        ({"polish": 3}, "search.polish is 3; expected True or False"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(neuron_path.NeuronPathError, match=message):
        Linearized(**options)


def test_what_does_not_go_with_it_is_refused(images: Tensor, targets: Tensor) -> None:
    model = small()
    with pytest.raises(neuron_path.NeuronPathError, match="asks no scorer, but 'activation' is given"):
        neuron_path.find_paths(model, images, targets, scorer="activation", search="linearized")
    search = Linearized(measure="effect", operation="mean_ablation")
    with pytest.raises(neuron_path.NeuronPathError, match="'effect of mean_ablation' needs reference_images"):
        neuron_path.find_paths(model, images, targets, search=search)
    with pytest.raises(neuron_path.NeuronPathError, match="'joint' takes no donor_images"):
        neuron_path.find_paths(model, images, targets, donor_images=images)
    with pytest.raises(neuron_path.NeuronPathError, match=r"search=exhaustive would rate .* use search=linearized"):
        neuron_path.find_paths(neuron_path.load_model(), torch.zeros(1, 1, 8, 8), search="exhaustive")
