"""The public functions: what they return, that nothing but image and target matters, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.scorers.activation import Activation
from neuron_path.attribution.scorers.random import Random
from neuron_path.search.searches.greedy import Greedy
from tests import tiny, zoo

pytestmark = pytest.mark.covering
SCORERS = ("joint_attribution", "activation", "influence_pattern", "random")


def assert_same(ours: neuron_path.PathResult, theirs: neuron_path.PathResult) -> None:
    """Whole numbers equal, floats to rounding."""
    for name, value in vars(ours).items():
        expected = getattr(theirs, name)
        if not isinstance(value, Tensor):
            assert expected == value
        elif not value.is_floating_point():
            assert value.tolist() == expected.tolist(), name
        else:
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("k", [1, 3])
def test_shapes_and_meaning(scorer: str, k: int, model: VisionTransformer, images: Tensor, targets: Tensor) -> None:
    result = neuron_path.find_paths(model, images, targets, scorer=scorer, top_k=k, keep_candidates=True)
    assert len(result) == 3
    assert result.paths.shape == ((3, 3) if k == 1 else (3, 3, 3))
    assert result.paths.dtype == result.targets.dtype == result.predictions.dtype == torch.int64
    assert result.scores.shape == result.target_probabilities.shape == (3,)
    assert result.margins.shape == (3, 3)
    assert (result.margins > 0).all()
    assert result.targets.tolist() == targets.tolist()
    logits = model(images)
    assert result.predictions.tolist() == logits.argmax(1).tolist()
    expected = logits.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(result.target_probabilities, expected, rtol=1e-12, atol=0)
    assert result.candidate_scores is not None
    assert result.candidate_scores.shape == (3, 3, 24)
    best = result.candidate_scores.sort(dim=2, descending=True, stable=True).indices[:, :, :k]
    assert result.paths.view(3, 3, k).tolist() == best.tolist()
    assert neuron_path.find_paths(model, images, targets, scorer=scorer).candidate_scores is None


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("scope", ["cls", "patch"])
@pytest.mark.parametrize("k", [1, 3])
def test_scores_are_those_of_the_paths(
    scorer: str, scope: Any, k: int, model: VisionTransformer, images: Tensor, targets: Tensor
) -> None:
    result = neuron_path.find_paths(model, images, targets, scorer=scorer, token_scope=scope, top_k=k)
    scores = neuron_path.score_paths(model, images, targets, result.paths, token_scope=scope)
    assert isinstance(scores, Tensor)
    if result.score_errors is None:
        torch.testing.assert_close(result.scores, scores, rtol=1e-10, atol=1e-14)
    else:  # as many nodes as were needed; an estimate
        assert ((result.scores - scores).abs() <= 10 * result.score_errors + 1e-5 * scores.abs()).all()


def test_without_targets_the_predicted_class_is_attributed(model: VisionTransformer, images: Tensor) -> None:
    predicted = model(images).argmax(1)
    result = neuron_path.find_paths(model, images)
    assert result.targets.tolist() == predicted.tolist()
    assert_same(result, neuron_path.find_paths(model, images, predicted))
    scores = neuron_path.score_paths(model, images, None, result.paths)
    torch.testing.assert_close(scores, result.scores, rtol=1e-10, atol=0)


@pytest.mark.parametrize("form", [list, tuple, np.array, lambda t: torch.tensor(t, dtype=torch.int32)])
def test_targets_may_be_lists_or_arrays(form: Callable, model: VisionTransformer, images: Tensor) -> None:
    expected = neuron_path.find_paths(model, images, torch.tensor([3, 0, 4]))
    assert_same(neuron_path.find_paths(model, images, form([3, 0, 4])), expected)


def test_the_target_matters(model: VisionTransformer, images: Tensor) -> None:
    paths = [neuron_path.find_paths(model, images, [y] * 3).paths.tolist() for y in range(5)]
    assert len({str(path) for path in paths}) == 5


def test_parts_may_be_objects(model: VisionTransformer, images: Tensor) -> None:
    by_name = neuron_path.find_paths(
        model, images, scorer="activation", search="greedy", quadrature="riemann_left", n_steps=3
    )
    by_object = neuron_path.find_paths(
        model, images, scorer=Activation(), search=Greedy(), quadrature=neuron_path.Quadrature("riemann_left", 3)
    )
    assert_same(by_object, by_name)
    seeds = [neuron_path.find_paths(model, images, scorer=Random(seed=seed)).paths.tolist() for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_rule_matters_and_converges(model: VisionTransformer, images: Tensor) -> None:
    def scores(rule: str, m: int) -> Tensor:
        paths = tiny.random_paths(model, 3, 1)
        found = neuron_path.score_paths(model, images, None, paths, quadrature=rule, n_steps=m)
        assert isinstance(found, Tensor)
        return found

    exact = scores("gauss_legendre", 40)
    torch.testing.assert_close(scores("gauss_legendre", 24), exact, rtol=1e-8, atol=1e-12)
    errors = [(scores("riemann_left", m) - exact).abs().max() for m in (10, 20, 40)]
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2] > 0  # of first order


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("name", ["cls", "avg"])
def test_batch_and_passes_change_nothing(scorer: str, name: str) -> None:
    model = tiny.make(name, dtype=torch.float32)
    images, targets = tiny.make_images(5, dtype=torch.float32), torch.tensor([3, 0, 4, 1, 1])
    options: dict[str, Any] = {"scorer": scorer, "n_steps": 4, "keep_candidates": True}
    whole = neuron_path.find_paths(model, images, targets, **options)
    for micro_batch in (1, 3, 7, 64):
        assert_same(neuron_path.find_paths(model, images, targets, micro_batch=micro_batch, **options), whole)
    parts = [neuron_path.find_paths(model, images[rows], targets[rows], **options) for rows in ([0], [1, 2], [3, 4])]
    assert_same(neuron_path.PathResult.cat(parts), whole)
    order = torch.tensor([4, 1, 3, 0, 2])
    shuffled = neuron_path.find_paths(model, images[order], targets[order], **options)
    assert_same(tiny.select(shuffled, order.argsort()), whole)


def test_float64_agrees_with_float32_and_keeps_its_dtype(device: torch.device) -> None:
    images = tiny.make_images(3)
    single = neuron_path.find_paths(tiny.make(dtype=torch.float32).to(device), images).cpu()
    assert single.scores.dtype == single.margins.dtype == torch.float32
    double = neuron_path.find_paths(tiny.make(), images)
    assert double.scores.dtype == double.margins.dtype == torch.float64
    assert single.paths.tolist() == double.paths.tolist()
    torch.testing.assert_close(single.scores.double(), double.scores, rtol=1e-4, atol=1e-6)


def test_results_lie_on_the_models_device(device: torch.device) -> None:
    model = tiny.make(dtype=torch.float32).to(device)
    result = neuron_path.find_paths(model, tiny.make_images(2), keep_candidates=True)
    assert {value.device.type for value in vars(result).values() if isinstance(value, Tensor)} == {device.type}
    scores = neuron_path.score_paths(model, tiny.make_images(2), result.targets.cpu(), result.paths.cpu())
    logits = neuron_path.intervene(model, tiny.make_images(2), result.paths.cpu())
    assert isinstance(scores, Tensor)
    assert scores.device.type == logits.device.type == device.type
    assert {value.device.type for value in vars(result.cpu()).values() if isinstance(value, Tensor)} == {"cpu"}


def test_half_precision_runs(images: Tensor) -> None:
    model = tiny.make(dtype=torch.bfloat16)
    result = neuron_path.find_paths(model, images)
    assert result.scores.dtype == torch.bfloat16
    assert torch.isfinite(result.scores).all()


def test_the_convergence_delta_is_captums_definition(model: VisionTransformer, images: Tensor, targets: Tensor) -> None:
    paths = tiny.random_paths(model, 3, 2)
    deltas = []
    for m in (1, 4, 32):
        options: dict[str, Any] = {"n_steps": m, "measure": "complete"}
        scores, delta = neuron_path.score_paths(model, images, targets, paths, return_convergence_delta=True, **options)
        alone = neuron_path.score_paths(model, images, targets, paths, **options)
        assert isinstance(alone, Tensor)
        assert torch.equal(alone, scores)
        deltas.append(delta.abs().max().item())
    assert deltas[0] > 1e-3 > deltas[2]
    assert deltas[2] < 1e-10


PATHS = torch.zeros(3, 3, dtype=torch.int64)
BAD_IMAGES = [
    (lambda x: x[0], "shape (3, 8, 8); expected preprocessed floating-point images of shape (B, channels"),
    (lambda x: (x * 255).to(torch.uint8), "Images are a uint8 tensor"),
    (lambda x: x[:, :1], "1, 8, 8), but this model takes (B, 3, 8, 8)"),
    (lambda x: x[..., :4], "but this model takes (B, 3, 8, 8): resize them"),
    (lambda x: x.numpy(), "Images are a ndarray; expected a torch tensor"),
    (lambda x: x[0], "of shape (B, channels, height, width). A single image makes a batch of one: image[None]."),
    (lambda x: x.to(torch.uint8), "as in training: ((images.float() / 255) - mean) / std."),
    (lambda x: x.to(torch.int8), "Dequantise them"),
    (lambda x: x.to_sparse(), "Images are a sparse tensor"),
    (lambda x: x.to("meta"), "Images are on the meta device"),
    (lambda x: x.to(torch.complex64), "such as their magnitudes: images.abs()."),
    (lambda x: x[:0], "the batch is empty"),
    (lambda x: x.index_fill(0, torch.tensor([1]), torch.nan), "Image 1 of the batch holds NaN or infinity"),
    (lambda x: x.index_fill(0, torch.tensor([2]), torch.inf), "Image 2 of the batch holds NaN or infinity"),
]
CALLS: dict[str, Callable[[VisionTransformer, Tensor], Any]] = {
    "find_paths": neuron_path.find_paths,
    "score_paths": lambda model, images: neuron_path.score_paths(model, images, None, PATHS[: len(images)]),
    "intervene": lambda model, images: neuron_path.intervene(model, images, PATHS[: len(images)]),
}


def assert_one_line(error: pytest.ExceptionInfo[neuron_path.NeuronPathError], told: str) -> None:
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spoil", "told"), BAD_IMAGES)
@pytest.mark.parametrize("call", CALLS)
def test_bad_images(call: str, spoil: Callable, told: str, model: VisionTransformer, images: Tensor) -> None:
    with pytest.raises(neuron_path.NeuronPathError) as error:
        CALLS[call](model, spoil(images))
    assert_one_line(error, told)


def test_one_target_for_all_images(model: VisionTransformer, images: Tensor) -> None:
    expected = neuron_path.find_paths(model, images, [3, 3, 3], scorer="activation")
    assert_same(neuron_path.find_paths(model, images, 3, scorer="activation"), expected)
    scores = neuron_path.score_paths(model, images, 3, expected.paths)
    assert isinstance(scores, Tensor)
    torch.testing.assert_close(scores, expected.scores, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("call", CALLS)
def test_pixels_are_warned_of(call: str, model: VisionTransformer, images: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"as pixels of 0 … 255 do: preprocess them as in training, by images / 255"):
        CALLS[call](model, 255 * images.sigmoid())


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_any_number_of_channels(channels: int) -> None:
    model = tiny.make(in_chans=channels)
    images = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = neuron_path.find_paths(model, images, scorer="activation")
    assert found.predictions.tolist() == model(images).argmax(1).tolist()


def test_quantised_models_are_told_to_be_dequantised(images: Tensor) -> None:
    model = tiny.make()
    layer: Any = model.blocks[1].get_submodule("mlp.fc2")
    layer.weight = nn.Parameter(torch.zeros(16, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(model, images)
    assert_one_line(
        error, "layer 'blocks.1.mlp.fc2' is a Linear with int8 weights: quantised models have no gradients."
    )


@pytest.mark.parametrize("call", CALLS)
def test_bad_weights(call: str, model: VisionTransformer, images: Tensor) -> None:
    with torch.no_grad():
        model.blocks[0].get_parameter("attn.qkv.weight")[0, 0] = torch.nan
    with pytest.raises(neuron_path.NeuronPathError) as error:
        CALLS[call](model, images)
    assert_one_line(error, "'blocks.0.attn.qkv.weight' holds NaN or infinity")


@pytest.mark.parametrize("call", CALLS)
def test_unsupported_models(call: str, images: Tensor) -> None:
    other: Any = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).double()
    with pytest.raises(neuron_path.NeuronPathError) as error:
        CALLS[call](other, images)
    assert_one_line(error, "Sequential are not supported: no list of transformer blocks was found in them.")


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ([0, 5, 1], "Target 5 of image 1 is not a class of this model: expected 0 … 4"),
        ([0, 1, -1], "Target -1 of image 2"),
        ([0, 1], "shape (2,)"),
        (3.0, "expected 3 integer class indices, one per image, or one for all"),
        (5, "Target 5 of image 0 is not a class"),
        ([0.0, 1.0, 2.0], "dtype torch.float32"),
        ([[0], [1], [2]], "shape (3, 1)"),
        (["cat", "dog", "cow"], "Targets are no integer class indices, one per image: "),
        ([[0], [1, 2], [3]], "Targets are no integer class indices, one per image: "),
    ],
)
def test_bad_targets(targets: Any, told: str, model: VisionTransformer, images: Tensor) -> None:
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(model, images, targets)
    assert_one_line(error, told)
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.score_paths(model, images, targets, PATHS)
    assert_one_line(error, told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scorer": "activations"}, "No scorer is named 'activations'. Did you mean 'activation'?"),
        ({"search": "greedi"}, "No search is named 'greedi'. Did you mean 'greedy'?"),
        ({"quadrature": "rieman_left"}, "No quadrature rule is named 'rieman_left'. Did you mean 'riemann_left'?"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"quadrature": "trapezoid", "n_steps": 1}, "needs at least 2"),
        ({"top_k": 0}, "top_k is 0; expected 1 … 24"),
        ({"top_k": 25}, "top_k is 25; expected 1 … 24"),
        ({"micro_batch": 0}, "micro_batch is 0; expected at least 1"),
        ({"token_scope": "class"}, "No token scope is named 'class'. Known: cls, patch"),
        ({"images": None}, "Images are a NoneType; expected a torch tensor"),
        ({"scorer": Random}, "The scorer is the class Random; expected a name or an object of it: Random()"),
        ({"scorer": ["random"]}, "No scorer is named '['random']'"),
        ({"search": Greedy}, "The search is the class Greedy"),
        ({"quadrature": None}, "No quadrature rule is named 'None'"),
        ({"n_steps": "8"}, "n_steps is '8'; the rule 'gauss_legendre' needs at least 1"),
        ({"per_block": "no"}, "per_block is 'no'; expected True or False"),
        ({"target": "contrast", "contrast_class": "cat"}, "contrast_class is 'cat'; expected a class of this model"),
        ({"target": "contrast", "contrast_class": 1.5}, "contrast_class is 1.5; expected a class of this model"),
    ],
)
def test_bad_options(options: dict[str, Any], told: str, model: VisionTransformer, images: Tensor) -> None:
    given: dict[str, Any] = {"images": images} | options
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(model, **given)
    assert_one_line(error, told)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (PATHS[:2], "Paths have shape (2, 3)"),
        (PATHS[:, :2], "expected integers of shape (3, 3) or (3, 3, k)"),
        (PATHS[0], "Paths have shape (3,)"),
        (PATHS[:2].tolist(), "Paths have shape (2, 3)"),
        (PATHS.double(), "dtype torch.float64"),
        (PATHS + 24, "names neuron 24 in block 0, which has neurons 0 … 23"),
        (PATHS - 2, "names neuron -2 in block 0"),
        (PATHS > 0, "dtype torch.bool"),
        (None, "Paths are a NoneType of no integers"),
        ([[0], [0, 1], [0]], "Paths are a list of no integers"),
    ],
)
def test_bad_paths(paths: Any, told: str, model: VisionTransformer, images: Tensor) -> None:
    for call in (
        lambda: neuron_path.score_paths(model, images, None, paths),
        lambda: neuron_path.intervene(model, images, paths),
        lambda: neuron_path.path_edges(model, images, paths),
    ):
        with pytest.raises(neuron_path.NeuronPathError) as error:
            call()
        assert_one_line(error, told)


def test_the_callers_inference_mode_changes_nothing(images: Tensor) -> None:
    model, paths = tiny.make(dtype=torch.float32), tiny.random_paths(tiny.make(), 3, 1)
    references = images.flip(0)

    def every() -> list[Tensor]:
        return [
            neuron_path.intervene(model, images, paths, "mean_ablation", reference_images=references),
            neuron_path.heat_map(model, images, paths).values,
            neuron_path.path_edges(model, images, paths).edges,
        ]

    expected = every()
    with torch.inference_mode():
        found = every()
    assert all(map(torch.equal, found, expected))


def test_a_neuron_cannot_be_counted_twice(model: VisionTransformer, images: Tensor) -> None:
    paths = tiny.random_paths(model, 3, 3)
    paths[1, 2, 0] = paths[1, 2, 2]
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.score_paths(model, images, None, paths)
    assert_one_line(error, "the same neuron twice in one block")


def test_bad_measures_and_operations(model: VisionTransformer, images: Tensor) -> None:
    unknown: Any = "joined"
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.score_paths(model, images, None, PATHS, measure=unknown)
    assert_one_line(error, "No measure is named 'joined'")
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.score_paths(model, images, None, PATHS, return_convergence_delta=True)
    assert_one_line(error, "use measure='complete'")
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.intervene(model, images, PATHS, unknown)
    assert_one_line(error, "No operation is named 'joined'")


def test_class_scope_needs_a_class_token(images: Tensor) -> None:
    model = tiny.make("avg_no_class_token")
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(model, images, token_scope="cls")
    assert_one_line(error, "needs a class token that the logits depend on, and this model has none: use 'patch'")


def test_the_target_function_decides_what_is_attributed(model: VisionTransformer, images: Tensor) -> None:
    targets: list[int] = [1, 2, 3]
    options: Any = {"measure": "complete", "n_steps": 48, "return_convergence_delta": True}
    paths = tiny.random_paths(model, n=3, k=2)
    p = model(images).softmax(1)
    scores = set()
    functions: Any = ("probability", "logit", "margin")
    for target in functions:
        _, delta = neuron_path.score_paths(model, images, targets, paths, target=target, **options)
        assert delta.abs().max() < 1e-9
        found = neuron_path.find_paths(model, images, targets, target=target)
        torch.testing.assert_close(found.target_probabilities, p.diagonal(1))  # whatever is attributed
        scores.add(tuple(found.scores.tolist()))
    assert len(scores) == 3


@pytest.mark.parametrize("function", [neuron_path.find_paths, neuron_path.score_paths])
def test_unknown_target_function(function: Callable, model: VisionTransformer, images: Tensor) -> None:
    unknown: Any = "logits"
    given = [None, tiny.random_paths(model, n=3, k=1)][: 2 * (function is neuron_path.score_paths)]
    with pytest.raises(neuron_path.NeuronPathError) as error:
        function(model, images, *given, target=unknown)
    assert_one_line(error, "No target function is named 'logits'. Did you mean 'logit'?")


def test_a_name_is_no_model(images: Tensor) -> None:
    name: Any = "vit"
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(name, images)
    assert_one_line(error, "Expected a model, found a str: load one with neuron_path.load_model(NAME).")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top_k": 1.5}, "top_k is 1.5; expected 1 … 24"),
        ({"micro_batch": 2.5}, "micro_batch is 2.5"),
        ({"n_steps": 2.5}, "n_steps is 2.5"),
        ({"n_steps": 10**6}, "n_steps is 1000000; expected at most 4096"),
        ({"scorer": None}, "No scorer is named 'None'"),
        ({"target": None}, "No target function is named 'None'"),
        ({"targets": torch.tensor([True, False, True])}, "dtype torch.bool"),
    ],
)
def test_arguments_of_odd_types(options: dict[str, Any], told: str, model: VisionTransformer, images: Tensor) -> None:
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(model, images, **options)
    assert_one_line(error, told)


@pytest.mark.parametrize("name", ["naflex-cls", "qwen3-avg", "gemma4-avg", "vit-dynamic"])
def test_images_that_no_patch_fills(name: str) -> None:
    with pytest.raises(neuron_path.NeuronPathError) as error:
        neuron_path.find_paths(zoo.SPECIMENS[name].make(), torch.zeros(1, 3, 10, 12, dtype=torch.float64))
    assert_one_line(error, "(3, 10, 12)" if name != "vit-dynamic" else "patches of 4 × 4 pixels")


def test_threads_take_turns() -> None:
    specimen = zoo.SPECIMENS["eva-rope-swiglu"]
    model = specimen.make()
    batches = [specimen.images(2, seed=seed) for seed in range(6)]
    expected = [neuron_path.find_paths(model, images, n_steps=2).paths.tolist() for images in batches]
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda images: neuron_path.find_paths(model, images, n_steps=2).paths.tolist(), batches)
    assert list(found) == expected
