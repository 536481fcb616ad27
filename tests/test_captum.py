"""What captum computes too, computed by captum; float64, on tiny models.

========================  =================================================================================
scorer                    captum
========================  =================================================================================
activation                LayerActivation, summed over the tokens in scope
influence_pattern         InternalInfluence
gradient_x_activation     LayerGradientXActivation
integrated_gradients      IntegratedGradients of the function of a block's in-scope activations. As a layer's,
                          LayerIntegratedGradients takes the activations at a baseline *image* for its start:
                          with a gate before the layer as its input, whose baseline is 0, it is the same
knowledge_neurons         IntegratedGradients of the function of one neuron's in-scope activations
conductance               NeuronConductance of every neuron and token, summed over the image. LayerConductance
                          takes differences of activations for derivatives: it converges to it
ablation                  LayerFeatureAblation, a neuron's in-scope tokens in one group
complete_attribution      IntegratedGradients of the function of the path's and a block's activations, frozen
========================  =================================================================================

It has nothing equal for `joint_attribution` (a product of sums), `guided_influence_pattern` (a product of derivatives
from block to block) and the draws. Its NeuronIntegratedGradients, NeuronGradient and LayerGradCam attribute other
things: to the image, a neuron in place of the class, a map of tokens in place of neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from captum.attr import (
    IntegratedGradients,
    InternalInfluence,
    LayerActivation,
    LayerConductance,
    LayerFeatureAblation,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NeuronConductance,
)
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.scorer import Scorer
from neuron_path.attribution.scorers.ablation import Ablation
from neuron_path.attribution.scorers.knowledge_neurons import KnowledgeNeurons
from neuron_path.types import TokenScopeName
from tests import tiny

pytestmark = pytest.mark.covering

N_STEPS = 5
RULE: dict[str, Any] = {"n_steps": N_STEPS, "method": "gausslegendre"}
# Its IntegratedGradients rounds the weights to float32, where these are exact.
EXACT: dict[str, Any] = {"n_steps": 4, "method": "riemann_middle"}
OUR_EXACT: dict[str, Any] = {"n_steps": 4, "quadrature": "midpoint"}
AT_INPUT: dict[str, Any] = {"attribute_to_layer_input": True}
# The last has no token out of scope.
CASES: list[tuple[str, TokenScopeName, slice]] = [
    ("cls", "cls", slice(0, 1)),
    ("registers", "patch", slice(3, None)),
    ("avg", "patch", slice(1, None)),
    ("avg_no_class_token", "patch", slice(None)),
]


@dataclass
class Subject:
    """A tiny model, images with their targets, and what of it captum needs."""

    name: str
    scope: TokenScopeName
    tokens: slice

    def __post_init__(self) -> None:
        self.model = tiny.make(self.name)
        self.images = tiny.make_images(3)
        self.targets = torch.tensor([3, 0, 4])
        self.layers = [block.get_submodule("mlp.fc2") for block in self.model.blocks]
        self.rows = list(zip(self.images.split(1), self.targets.tolist(), strict=True))

    def probabilities(self, images: Tensor) -> Tensor:
        return self.model(images).softmax(1)

    def ratings(self, scorer: str | Scorer, **options: Any) -> Tensor:
        """(B, L, F) by the package."""
        options = {"n_steps": N_STEPS} | options
        found = neuron_path.find_paths(
            self.model,
            self.images,
            self.targets,
            scorer=scorer,
            token_scope=self.scope,
            keep_candidates=True,
            **options,
        ).candidate_scores
        assert found is not None
        return found

    def in_scope(self, blocks: Sequence[Any]) -> Tensor:
        """(B, L, F) of every block's (B, T, F)."""
        return torch.stack([block[:, self.tokens].sum(1).detach() for block in blocks], 1)

    def activations(self, image: Tensor) -> list[Tensor]:
        """Every block's (1, S, F)."""
        seen: list[Tensor] = []
        with changed(self.layers, [seen.append] * len(self.layers)), torch.no_grad():
            self.model(image)
        return [a[:, self.tokens] for a in seen]

    def overwritten(self, image: Tensor, leaves: dict[int, Tensor]) -> Tensor:
        """(N, C) probabilities with the in-scope activations (N, S, F) of some blocks in place of their own."""

        def put(leaf: Tensor) -> Callable[[Tensor], Tensor]:
            def change(a: Tensor) -> Tensor:
                a = a.clone()
                a[:, self.tokens] = leaf
                return a

            return change

        n = len(next(iter(leaves.values())))
        with changed([self.layers[index] for index in leaves], [put(leaf) for leaf in leaves.values()]):
            return self.probabilities(image.expand(n, -1, -1, -1))


@contextmanager
def changed(layers: Sequence[nn.Module], changes: Sequence[Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """Show every layer's input to its change, which may return another."""

    def hook(change: Callable[[Tensor], Tensor | None]) -> Callable[[nn.Module, Any], Tensor | None]:
        return lambda _, args: change(args[0])

    handles = [layer.register_forward_pre_hook(hook(change)) for layer, change in zip(layers, changes, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case[:2]))
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(*request.param)


def attribute(algorithm: Any, *args: Any, **options: Any) -> Any:
    """Captum's attributions. It makes weights of the default type, whatever the model's is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return algorithm.attribute(*args, **options)
    finally:
        torch.set_default_dtype(before)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-13)


def test_activation_is_layer_activation(subject: Subject) -> None:
    theirs = [
        attribute(LayerActivation(subject.probabilities, layer), subject.images, **AT_INPUT) for layer in subject.layers
    ]
    assert_same(subject.ratings("activation"), subject.in_scope(theirs))


def test_influence_pattern_is_internal_influence(subject: Subject) -> None:
    options: dict[str, Any] = {"target": subject.targets} | RULE | AT_INPUT
    theirs = [
        attribute(InternalInfluence(subject.probabilities, layer), subject.images, **options)
        for layer in subject.layers
    ]
    assert_same(subject.ratings("influence_pattern"), subject.in_scope(theirs))


def test_gradient_x_activation_is_layer_gradient_x_activation(subject: Subject) -> None:
    options: dict[str, Any] = {"target": subject.targets} | AT_INPUT
    theirs = [
        attribute(LayerGradientXActivation(subject.probabilities, layer), subject.images, **options)
        for layer in subject.layers
    ]
    assert_same(subject.ratings("gradient_x_activation"), subject.in_scope(theirs))


def test_integrated_gradients_is_theirs_of_the_activations_in_scope(subject: Subject) -> None:
    ours = subject.ratings("integrated_gradients", **OUR_EXACT)
    for row, (image, target) in enumerate(subject.rows):
        for index, w in enumerate(subject.activations(image)):
            method = IntegratedGradients(lambda a, image=image, index=index: subject.overwritten(image, {index: a}))
            theirs = attribute(method, w, target=target, **EXACT)
            assert_same(ours[row, index], theirs[0].sum(0))


def test_integrated_gradients_is_layer_integrated_gradients_of_a_gate(subject: Subject) -> None:
    ours = subject.ratings("integrated_gradients", **OUR_EXACT)
    for index, layer in enumerate(subject.layers):
        gated = nn.Identity()

        def forward(gate: Tensor, images: Tensor, layer: nn.Module = layer, gated: nn.Module = gated) -> Tensor:
            def scale(a: Tensor) -> Tensor:
                a = a.clone()
                a[:, subject.tokens] = gated(gate.view(-1, 1, 1) * a[:, subject.tokens])
                return a

            with changed([layer], [scale]):
                return subject.probabilities(images)

        method = LayerIntegratedGradients(forward, gated)
        theirs: Any = attribute(
            method,
            torch.ones(3, 1).to(ours),
            torch.zeros(3, 1).to(ours),
            subject.targets,
            additional_forward_args=subject.images,
            **EXACT,
        )
        assert_same(ours[:, index], theirs.sum(1).detach())


def test_knowledge_neurons_is_theirs_of_one_neurons_activations(subject: Subject) -> None:
    ours = subject.ratings(KnowledgeNeurons(None, n_steps=None), **OUR_EXACT)
    image, target = subject.rows[1]
    for index, w in enumerate(subject.activations(image)):
        for neuron in range(0, w.shape[2], 5):

            def forward(a: Tensor, w: Tensor = w, index: int = index, neuron: int = neuron) -> Tensor:
                leaf = w.repeat(len(a), 1, 1)
                leaf[:, :, neuron] = a
                return subject.overwritten(image, {index: leaf})

            theirs = attribute(IntegratedGradients(forward), w[:, :, neuron], target=target, **EXACT)
            assert_same(ours[1, index, neuron], theirs.sum())


def test_conductance_is_neuron_conductance_summed_over_the_image(subject: Subject) -> None:
    ours = subject.ratings("conductance")
    tokens = range(subject.activations(subject.images[:1])[0].shape[1])
    first = subject.tokens.start or 0
    for index, layer in enumerate(subject.layers):
        method = NeuronConductance(subject.probabilities, layer)
        for neuron in range(index, 24, 5):
            theirs = sum(
                attribute(
                    method,
                    subject.images,
                    (first + token, neuron),
                    target=subject.targets,
                    attribute_to_neuron_input=True,
                    **RULE,
                )
                .flatten(1)
                .sum(1)
                for token in tokens
            )
            assert_same(ours[:, index, neuron], torch.as_tensor(theirs))


def test_layer_conductance_converges_to_conductance(subject: Subject) -> None:
    # With n steps it is Σ_k ∂f/∂a(α_k) · (a(α_k₊₁) − a(α_k)), α_k = k/n: a left sum, whose error is c/n + O(1/n²). So
    # it halves when n doubles, and 2·A(2n) − A(n) is free of c. At n = 200 the rest is at most 3e-4 of the largest.
    exact = subject.ratings("conductance", n_steps=100)

    def theirs(n: int) -> Tensor:
        options: dict[str, Any] = {"target": subject.targets, "n_steps": n, "method": "riemann_trapezoid"} | AT_INPUT
        blocks = [
            attribute(LayerConductance(subject.probabilities, layer), subject.images, **options)
            for layer in subject.layers
        ]
        return subject.in_scope(blocks)

    coarse, fine = theirs(200), theirs(400)
    assert (fine - exact).norm() / (coarse - exact).norm() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(2 * fine - coarse, exact, rtol=0, atol=5e-4 * float(exact.abs().max()))


def test_ablation_is_layer_feature_ablation(subject: Subject) -> None:
    ours = subject.ratings(Ablation(shortlist=None))
    n_neurons = ours.shape[2]
    n_tokens = attribute(LayerActivation(subject.model, subject.layers[0]), subject.images, **AT_INPUT).shape[1]
    groups = torch.full((1, n_tokens, n_neurons), n_neurons)  # a last group: all that is out of scope
    groups[:, subject.tokens] = torch.arange(n_neurons)
    options: dict[str, Any] = {"target": subject.targets, "layer_mask": groups} | AT_INPUT
    theirs = [
        attribute(LayerFeatureAblation(subject.probabilities, layer), subject.images, **options)
        for layer in subject.layers
    ]
    # Every token of a group has the effect of the whole group.
    token = subject.tokens.start or 0
    assert_same(ours, torch.stack([block[:, token] for block in theirs], 1))


def test_complete_attribution_is_theirs_of_the_frozen_activations(subject: Subject) -> None:
    options: dict[str, Any] = {"token_scope": subject.scope} | OUR_EXACT
    found = neuron_path.find_paths(
        subject.model,
        subject.images,
        subject.targets,
        scorer="complete_attribution",
        top_k=2,
        keep_candidates=True,
        **options,
    )
    assert found.candidate_scores is not None
    scores, deltas = neuron_path.score_paths(
        subject.model,
        subject.images,
        subject.targets,
        found.paths,
        measure="complete",
        return_convergence_delta=True,
        **options,
    )
    for row, (image, target) in enumerate(subject.rows):
        w, path = subject.activations(image), found.paths[row].tolist()
        chosen = [a[:, :, neurons] for a, neurons in zip(w, path, strict=True)]

        def forward(*inputs: Tensor, w: list[Tensor] = w, path: Any = path, image: Tensor = image) -> Tensor:
            leaves = {}
            for index, given in enumerate(inputs):
                leaves[index] = w[index].repeat(len(given), 1, 1)
                neurons = path[index] if given.shape[2] == 2 else slice(None)
                leaves[index][:, :, neurons] = given
            return subject.overwritten(image, leaves)

        method = IntegratedGradients(forward)
        for index in range(len(w)):
            # The path's neurons of earlier blocks and all neurons of this one move together.
            theirs = attribute(method, (*chosen[:index], w[index]), target=target, **EXACT)
            assert_same(found.candidate_scores[row, index], theirs[index][0].sum(0))
        # The finished path, and the sign of the delta: what is attributed less what there is to attribute.
        theirs, delta = attribute(method, tuple(chosen), target=target, return_convergence_delta=True, **EXACT)
        assert_same(scores[row], torch.stack([part.sum() for part in theirs]).sum())
        assert_same(deltas[row], delta[0])
