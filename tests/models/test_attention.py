"""Attention heads as units, against a literal oracle: timm's own forward pass with hooks on its output projections."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from captum.attr import LayerFeatureAblation, LayerGradientXActivation, NeuronConductance
from scipy.special import roots_legendre
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.scorer import scorers
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.searches import Exhaustive, Linearized
from tests import tiny, zoo
from tests.test_captum import AT_INPUT, attribute

Edit = Callable[[Tensor], Tensor]
SPECIMENS = [
    "vit-layer_scale",
    "vit-inner_norms",
    "vit-res_post",
    "eva-rope-swiglu_norm",
    "eva-post_norm",
    "beit-both_biases",
    "relpos-shared",
]
CASES = [(name, scope) for name in SPECIMENS for scope in zoo.SPECIMENS[name].scopes]
UNITS = ["heads", "ffn+heads"]
N_STEPS = 3
pytestmark = pytest.mark.covering  # every specimen by default, each in one of its scopes, with either units


class Layer(NamedTuple):
    """A layer whose input the units write: a block's output projection, or its FFN's second layer."""

    module: nn.Module
    n_units: int
    channels: int


class Case(NamedTuple):
    """A model with what its paths consist of, and the tokens that count."""

    model: Any
    images: Tensor
    targets: Tensor
    tokens: slice
    n_tokens: int
    layers: list[Layer]
    options: dict[str, Any]

    def logits(self, edits: Mapping[int, Edit] | None = None) -> Tensor:
        """Of timm's forward pass, with layers' inputs edited."""
        with ExitStack() as stack:
            for index, edit in (edits or {}).items():
                stack.enter_context(hooked(self.layers[index].module, edit))
            return self.model(self.images)

    def probabilities(self, edits: Mapping[int, Edit] | None = None) -> Tensor:
        return self.logits(edits).softmax(1).gather(1, self.targets.unsqueeze(1)).squeeze(1)

    def clean(self) -> list[Tensor]:
        """What every layer reads in the untouched network."""
        seen: list[Tensor] = []

        def record(x: Tensor) -> Tensor:
            seen.append(x)
            return x

        with torch.no_grad():
            self.logits(dict.fromkeys(range(len(self.layers)), record))
        return seen

    def factors(self, index: int, values: Tensor, paths: Tensor | None = None) -> Tensor:
        """(B, S, W) what each activation is multiplied by: `values`, (B or 1, S or 1, n_units), once for each channel;
        with paths, where a unit is none of these, 1."""
        layer = self.layers[index]
        values = values.expand(len(self.images), self.n_tokens, layer.n_units)
        if paths is not None:
            chosen = torch.zeros(len(self.images), 1, layer.n_units, dtype=torch.bool)
            for image, units in enumerate(paths[:, index].tolist()):
                chosen[image, 0, [unit for unit in units if unit >= 0]] = True
            values = torch.where(chosen, values, 1.0)
        return values.repeat_interleave(layer.channels, 2)

    def scale(self, index: int, values: Tensor, paths: Tensor | None = None) -> Edit:
        """Multiplies at the tokens in scope."""
        factors = self.factors(index, values, paths)
        return lambda x: self.put(x, x[:, self.tokens] * factors)

    def put(self, x: Tensor, scoped: Tensor) -> Tensor:
        """x with other values at the tokens in scope."""
        start = self.tokens.indices(x.shape[1])[0]
        return torch.cat((x[:, :start], scoped, x[:, start + scoped.shape[1] :]), 1)

    def frozen_edits(self, gates: list[Tensor], paths: Tensor) -> dict[int, Edit]:
        """Every layer reads its clean input at the tokens in scope, the paths' units times their gates."""
        clean = [a[:, self.tokens].detach() for a in self.clean()]

        def edit(index: int) -> Edit:
            return lambda x: self.put(x, clean[index] * self.factors(index, gates[index], paths))

        return {index: edit(index) for index in range(len(self.layers))}

    def frozen(self, gates: list[Tensor], paths: Tensor) -> Tensor:
        """f with these edits."""
        return self.probabilities(self.frozen_edits(gates, paths))

    def ones(self, index: int, value: float = 1.0) -> Tensor:
        shape = (len(self.images), self.n_tokens, self.layers[index].n_units)
        return torch.full(shape, value, dtype=torch.float64, requires_grad=True)

    def path_scores(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        """The joint and the complete score."""
        joint, complete = torch.zeros(2, len(self.images), dtype=torch.float64)
        nodes, weights = roots_legendre(N_STEPS)
        weight = (paths >= 0).sum((1, 2))
        for node, omega in zip(nodes, weights, strict=True):
            gates = [self.ones(index, (node + 1) / 2) for index in range(len(self.layers))]
            slopes = torch.autograd.grad(self.frozen(gates, paths).sum(), gates)
            slope = torch.stack([part.sum(2) for part in slopes]).sum(0)  # (B, S): only gates of the path have a slope
            joint += omega / 2 * (weight.unsqueeze(1) * slope).mean(1)
            complete += omega / 2 * slope.sum(1)
        return joint, complete


@contextmanager
def hooked(module: nn.Module, edit: Edit) -> Iterator[None]:
    handle = module.register_forward_pre_hook(lambda _, inputs: (edit(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


def make(name: str, scope: Any, units: str, n: int = 2) -> Case:
    specimen = zoo.SPECIMENS[name]
    model: Any = specimen.make().double().eval().requires_grad_(False)
    layers = []
    for block in model.blocks:
        width = block.attn.proj.in_features
        if units != "ffn":
            layers.append(Layer(block.attn.proj, block.attn.num_heads, width // block.attn.num_heads))
        if units != "heads":
            layers.append(Layer(block.mlp.fc2, block.mlp.fc2.in_features, 1))
    images = specimen.images(n)
    targets = torch.arange(n) % zoo.N_CLASSES
    adapter = adapt(model, scope)
    tokens = adapter.scope.tokens
    n_tokens = adapter.embed(images)[:, tokens].shape[1]
    return Case(model, images, targets, tokens, n_tokens, layers, {"token_scope": scope, "units": units})


@pytest.fixture(params=[pytest.param((*case, units), id="-".join((*case, units))) for case in CASES for units in UNITS])
def case(request: pytest.FixtureRequest) -> Case:
    return make(*request.param)


def random_paths(case: Case, k: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.stack([torch.randperm(layer.n_units, generator=generator)[:k] for layer in case.layers])
        for _ in case.images
    ]
    paths = torch.stack(rows)
    paths[0, 1, 0] = -1  # none
    return paths


def test_edits_are_those_of_the_heads_outputs(case: Case) -> None:
    paths, every = random_paths(case), range(len(case.layers))

    def edited(operation: Any, **options: Any) -> Tensor:
        return neuron_path.intervene(case.model, case.images, paths, operation, **case.options, **options)

    zero, two, one = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (0.0, 2.0, 1.0))
    removed = case.logits({index: case.scale(index, zero, paths) for index in every})
    enhanced = case.logits({index: case.scale(index, two, paths) for index in every})
    torch.testing.assert_close(edited("remove"), removed, rtol=0, atol=1e-9)
    torch.testing.assert_close(edited("enhance"), enhanced, rtol=0, atol=1e-9)

    def only(index: int) -> Edit:
        kept = one - case.factors(index, zero, paths)  # 1 for the path's own
        return lambda x: case.put(x, x[:, case.tokens] * kept)

    torch.testing.assert_close(
        edited("keep_only"), case.logits({index: only(index) for index in every}), rtol=0, atol=1e-9
    )

    others = case.images.flip(0)
    lent = [a[:, case.tokens] for a in case._replace(images=others).clean()]

    def exchanged(values: list[Tensor]) -> dict[int, Edit]:
        def edit(index: int) -> Edit:
            keeps = case.factors(index, zero, paths)
            return lambda x: case.put(x, x[:, case.tokens] * keeps + values[index] * (1 - keeps))

        return {index: edit(index) for index in every}

    resampled = edited("resample_ablation", donor_images=others)
    torch.testing.assert_close(resampled, case.logits(exchanged(lent)), rtol=0, atol=1e-9)
    means = [a.mean((0, 1), keepdim=True) for a in lent]
    averaged = edited("mean_ablation", reference_images=others)
    torch.testing.assert_close(averaged, case.logits(exchanged(means)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2])
def test_scores_are_those_of_gates_on_the_heads(case: Case, k: int) -> None:
    paths = random_paths(case, k)
    options: Any = {"n_steps": N_STEPS, **case.options}
    joint, complete = case.path_scores(paths)
    found = neuron_path.score_paths(case.model, case.images, case.targets, paths, measure="complete", **options)
    torch.testing.assert_close(found, complete, rtol=0, atol=1e-9)
    found = neuron_path.score_paths(case.model, case.images, case.targets, paths, **options)
    torch.testing.assert_close(found, joint, rtol=0, atol=1e-9)


def test_the_complete_score_is_what_removing_the_path_takes_in_the_frozen_graph(case: Case) -> None:
    paths = random_paths(case)
    gates = [[case.ones(index, value) for index in range(len(case.layers))] for value in (1.0, 0.0)]
    whole, zeroed = (case.frozen(part, paths) for part in gates)
    found, delta = neuron_path.score_paths(
        case.model,
        case.images,
        case.targets,
        paths,
        measure="complete",
        n_steps=24,
        return_convergence_delta=True,
        **case.options,
    )
    torch.testing.assert_close(found - delta, (whole - zeroed).detach(), rtol=0, atol=1e-9)
    assert delta.abs().max() < 2e-3


def ratings(case: Case, scorer: str, **options: Any) -> list[Tensor]:
    """What a scorer makes of every unit."""
    found = neuron_path.find_paths(
        case.model,
        case.images,
        case.targets,
        scorer=scorers.create(scorer, **options),
        n_steps=N_STEPS,
        keep_candidates=True,
        **case.options,
    )
    assert found.candidate_scores is not None
    return [found.candidate_scores[:, index, : layer.n_units] for index, layer in enumerate(case.layers)]


def test_gradient_and_activation(case: Case) -> None:
    gates = [case.ones(index) for index in range(len(case.layers))]
    edits = {index: case.scale(index, gate) for index, gate in enumerate(gates)}
    slopes = torch.autograd.grad(case.probabilities(edits).sum(), gates)
    for found, slope in zip(ratings(case, "gradient_x_activation"), slopes, strict=True):
        torch.testing.assert_close(found, slope.sum(1), rtol=0, atol=1e-9)
    parts = zip(ratings(case, "activation"), case.clean(), case.layers, strict=True)
    for found, a, layer in parts:
        of_units = a[:, case.tokens].unflatten(2, (layer.n_units, layer.channels))
        expected = of_units.sum((1, 3)) if layer.channels == 1 else of_units.square().sum(3).sqrt().sum(1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def captums(case: Case, algorithm: Any, index: int, target: Tensor, **options: Any) -> Tensor:
    """(B, S, W) what captum makes of a layer's input, at the tokens in scope."""
    method = algorithm(lambda images: case.model(images).softmax(1), case.layers[index].module)
    return attribute(method, case.images, target=target, **AT_INPUT, **options).detach()[:, case.tokens]


def test_gradient_x_activation_is_captums_summed_over_a_heads_channels(case: Case) -> None:
    for index, (found, layer) in enumerate(zip(ratings(case, "gradient_x_activation"), case.layers, strict=True)):
        theirs = captums(case, LayerGradientXActivation, index, case.targets)
        expected = theirs.unflatten(2, (layer.n_units, layer.channels)).sum((1, 3))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


def test_ablation_is_captums_of_a_heads_channels_together(case: Case) -> None:
    for index, (found, layer, a) in enumerate(
        zip(ratings(case, "ablation", shortlist=None), case.layers, case.clean(), strict=True)
    ):
        groups = torch.full_like(a[:1], layer.n_units, dtype=torch.int64)  # a last group: all that is out of scope
        groups[:, case.tokens] = torch.arange(layer.n_units).repeat_interleave(layer.channels)
        theirs = captums(case, LayerFeatureAblation, index, case.targets, layer_mask=groups)
        # Every token and channel of a group has the effect of the whole group.
        torch.testing.assert_close(found, theirs[:, 0, :: layer.channels], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["vit-layer_scale", "eva-rope-swiglu_norm", "beit-both_biases"])
@pytest.mark.parametrize("scope", ["cls", "patch"])
def test_conductance_is_captums_summed_over_a_heads_channels(name: str, scope: str) -> None:
    case, head = make(name, scope, "heads"), 1
    for found, layer, a in zip(ratings(case, "conductance"), case.layers, case.clean(), strict=True):
        method = NeuronConductance(lambda images: case.model(images).softmax(1), layer.module)
        expected = torch.zeros(len(case.images), dtype=torch.float64)
        for token in range(*case.tokens.indices(a.shape[1])):
            for channel in range(head * layer.channels, (head + 1) * layer.channels):
                theirs = attribute(
                    method,
                    case.images,
                    (token, channel),
                    target=case.targets,
                    attribute_to_neuron_input=True,
                    n_steps=N_STEPS,
                    method="gausslegendre",
                )
                expected += theirs.flatten(1).sum(1)
        torch.testing.assert_close(found[:, head], expected, rtol=1e-9, atol=1e-13)


def test_integrated_gradients_and_ablation(case: Case) -> None:
    nodes, weights = roots_legendre(N_STEPS)
    clean = case.probabilities()
    integrated, ablated = (
        ratings(case, name, **one) for name, one in (("integrated_gradients", {}), ("ablation", {"shortlist": None}))
    )
    for index, layer in enumerate(case.layers):
        expected = torch.zeros(len(case.images), layer.n_units, dtype=torch.float64)
        for node, omega in zip(nodes, weights, strict=True):
            gate = case.ones(index, (node + 1) / 2)
            (slope,) = torch.autograd.grad(case.probabilities({index: case.scale(index, gate)}).sum(), gate)
            expected += omega / 2 * slope.sum(1)
        torch.testing.assert_close(integrated[index], expected, rtol=0, atol=1e-9)
        for unit in range(layer.n_units):
            gate = case.ones(index).detach()
            gate[..., unit] = 0
            fallen = clean - case.probabilities({index: case.scale(index, gate)})
            torch.testing.assert_close(ablated[index][:, unit], fallen, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scorer", ["joint_attribution", "complete_attribution"])
def test_the_greedy_search_takes_the_best_head_after_those_chosen(scorer: str) -> None:
    for scope in ("cls", "patch"):
        case = make("vit-layer_scale", scope, "heads")
        found = neuron_path.find_paths(
            case.model, case.images, case.targets, scorer=scorer, n_steps=N_STEPS, keep_candidates=True, **case.options
        )
        assert found.candidate_scores is not None
        chosen = torch.full((len(case.images), len(case.layers), 1), -1)
        nodes, weights = roots_legendre(N_STEPS)
        for index, layer in enumerate(case.layers):
            every = chosen.clone().expand(-1, -1, layer.n_units).clone()
            every[:, :, 1:] = -1
            every[:, index] = torch.arange(layer.n_units)
            scores = torch.zeros(len(case.images), layer.n_units, dtype=torch.float64)
            for node, omega in zip(nodes, weights, strict=True):
                gates = [case.ones(at, (node + 1) / 2) for at in range(len(case.layers))]

                # Blocks after this one are live.
                edits = dict(list(case.frozen_edits(gates, every).items())[: index + 1])
                slopes = torch.autograd.grad(case.probabilities(edits).sum(), gates[: index + 1])
                before = sum((part.sum(2) for part in slopes[:index]), torch.zeros(1))
                if scorer == "complete_attribution":
                    scores += omega / 2 * slopes[index].sum(1)
                else:
                    joint = (index + 1) * (torch.as_tensor(before).unsqueeze(-1) + slopes[index])
                    scores += omega / 2 * joint.mean(1)
            torch.testing.assert_close(found.candidate_scores[:, index, : layer.n_units], scores, rtol=0, atol=1e-9)
            chosen[:, index, 0] = scores.argmax(1)
        assert torch.equal(found.paths, chosen[..., 0])
        joint, _ = case.path_scores(chosen)
        torch.testing.assert_close(found.scores, joint, rtol=0, atol=1e-9)


@pytest.mark.parametrize("search", [Exhaustive(measure="effect"), Linearized(measure="effect", polish=True)])
def test_the_path_with_the_largest_effect_is_found(search: Any) -> None:
    case = make("vit-layer_scale", "cls", "heads", n=4)
    found = neuron_path.find_paths(case.model, case.images, case.targets, search=search, **case.options)
    zero, clean = torch.zeros(1, 1, 1, dtype=torch.float64), case.probabilities()
    falls = {}
    for path in itertools.product(*(range(layer.n_units) for layer in case.layers)):
        paths = torch.tensor(path).view(1, -1, 1).expand(len(case.images), -1, -1)
        falls[path] = clean - case.probabilities({at: case.scale(at, zero, paths) for at in range(len(path))})
    best = torch.stack(list(falls.values())).argmax(0)
    expected = torch.tensor([list(falls)[place] for place in best.tolist()])
    assert torch.equal(found.paths, expected)
    assert found.objectives is not None
    torch.testing.assert_close(found.objectives, torch.stack(list(falls.values())).amax(0), rtol=0, atol=1e-9)


def test_a_result_does_not_depend_on_the_batch() -> None:
    case = make("vit-layer_scale", "patch", "ffn+heads", n=5)
    model = case.model.float()
    options: Any = {"search": Linearized(measure="effect"), "top_k": 2, **case.options}
    whole = neuron_path.find_paths(model, case.images, case.targets, **options)
    for at in range(5):
        one = neuron_path.find_paths(model, case.images[at : at + 1], case.targets[at : at + 1], **options)
        assert torch.equal(one.paths[0], whole.paths[at])


@pytest.mark.parametrize("units", UNITS)
def test_a_model_in_train_mode_gives_the_same(units: Any) -> None:
    model: Any = tiny.make(attn_drop_rate=0.5, proj_drop_rate=0.5)
    images, paths = tiny.make_images(2), torch.zeros(2, 3 if units == "heads" else 6, dtype=torch.int64)
    expected = neuron_path.intervene(model, images, paths, units=units)
    found = neuron_path.intervene(model.train(), images, paths, units=units)
    assert torch.equal(found, expected)
    assert model.blocks[0].attn.training


def test_a_hook_on_the_output_projection_is_refused() -> None:
    model: Any = tiny.make()
    model.blocks[1].attn.proj.register_forward_hook(lambda _, __, out: 2 * out)
    with pytest.raises(NeuronPathError, match=r"attention of block 1 adds something else .* on its output projection"):
        neuron_path.find_paths(model, tiny.make_images(1), units="heads")


@pytest.mark.parametrize(
    "name", ["xcit-cls", "cait-token", "convit-cls", "sam-neck", "vit-parallel_scaling", "hiera-plain"]
)
def test_a_family_whose_heads_are_not_known_is_refused(name: str) -> None:
    with pytest.raises(NeuronPathError, match=r"heads .*use units=ffn\.$"):
        adapt(zoo.SPECIMENS[name].make(), None, "heads")


def test_a_scorer_that_follows_single_activations_refuses_heads() -> None:
    case = make("vit-layer_scale", "cls", "heads")
    with pytest.raises(NeuronPathError, match=r"'influence_pattern' .* use another scorer"):
        neuron_path.find_paths(case.model, case.images, scorer="influence_pattern", **case.options)


def test_units_that_do_not_exist_are_refused() -> None:
    with pytest.raises(NeuronPathError, match=r"No choice of units is named 'head'\. Did you mean 'heads'\?"):
        adapt(zoo.SPECIMENS["vit-cls"].make(), None, "head")
