"""Edges of paths, against a literal oracle: timm's own forward pass with hooks on the layers that units write to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.errors import NeuronPathError
from tests import tiny
from tests.models.test_attention import Case, Edit, make, random_paths

CASES = [
    (name, scope, units)
    for name in ("vit-layer_scale", "eva-post_norm", "beit-both_biases")
    for scope in ("cls", "patch")
    for units in ("ffn", "heads", "ffn+heads")
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return make(*request.param)


class Graph:
    """All units in scope stay as they are, but for the path's in the layers that are live; δ is added to these."""

    def __init__(self, case: Case, paths: Tensor) -> None:
        self.case, self.n_layers = case, len(case.layers)
        self.clean = [a[:, case.tokens].detach() for a in case.clean()]
        zero = torch.zeros(1, 1, 1, dtype=torch.float64)
        self.on_path = [1 - case.factors(index, zero, paths) for index in range(self.n_layers)]
        self.deltas = [torch.zeros_like(a, requires_grad=True) for a in self.clean]
        self.seen: dict[int, Tensor] = {}

    def f(self, live: set[int], given: dict[int, Tensor] | None = None) -> Tensor:
        """The target function; `given` are values of whole layers in scope."""

        def edit(index: int) -> Edit:
            def put(x: Tensor) -> Tensor:
                own, clean = x[:, self.case.tokens], self.clean[index]
                self.seen[index] = own
                if given is not None and index in given:
                    return self.case.put(x, given[index])
                kept = self.on_path[index] * (index in live)
                return self.case.put(x, clean + kept * (own - clean) + self.on_path[index] * self.deltas[index])

            return put

        return self.case.probabilities({index: edit(index) for index in range(self.n_layers)})

    def per_image(self, index: int, gradient: Tensor) -> Tensor:
        """(B,) of a path with one unit a layer."""
        return (self.on_path[index] * self.clean[index] * gradient).sum((1, 2))


def test_edges_are_those_of_timms_graph(case: Case) -> None:
    paths = random_paths(case)
    found = neuron_path.path_edges(case.model, case.images, paths[..., 0], case.targets, **case.options)
    graph = Graph(case, paths)
    every = set(range(graph.n_layers))
    straight = torch.autograd.grad(graph.f(set()).sum(), graph.deltas)
    by_all = torch.autograd.grad(graph.f(every).sum(), graph.deltas)
    for index in every:
        expected = graph.per_image(index, straight[index])
        torch.testing.assert_close(found.to_output[:, index], expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.totals[:, index], graph.per_image(index, by_all[index]), rtol=0, atol=1e-9)
    for later in every:
        graph.f(set())
        through = (graph.on_path[later] * by_all[later] * graph.seen[later]).sum()
        parts = [None] * graph.n_layers
        if later:
            parts = torch.autograd.grad(through, graph.deltas, allow_unused=True)
        for earlier, part in enumerate(parts):
            expected = torch.zeros(2, dtype=torch.float64) if part is None else graph.per_image(earlier, part)
            torch.testing.assert_close(found.edges[:, earlier, later], expected, rtol=0, atol=1e-9)


def test_an_edge_is_what_patching_its_way_alone_does_to_a_little_of_the_neuron() -> None:
    case = make("vit-layer_scale", "patch", "ffn", n=1)
    paths = random_paths(case)
    paths[0, 1, 0] = 7
    found = neuron_path.path_edges(case.model, case.images, paths[..., 0], case.targets, **case.options)
    graph, epsilon = Graph(case, paths), 1e-4
    every = set(range(graph.n_layers))

    def patched(earlier: int, later: int, share: float) -> Tensor:
        """f where the later neuron, and whoever reads it, sees so much more of the earlier one; nobody else does."""
        scaled = graph.clean[earlier] * (1 + share * graph.on_path[earlier])
        graph.f(set(), {earlier: scaled})
        own, clean = graph.on_path[later], graph.clean[later]
        return graph.f({index for index in every if index > later}, {later: clean + own * (graph.seen[later] - clean)})

    with torch.no_grad():
        for earlier in every:
            for later in range(earlier + 1, graph.n_layers):
                more, less = (patched(earlier, later, share) for share in (epsilon, -epsilon))
                expected = (more - less) / (2 * epsilon)
                torch.testing.assert_close(found.edges[:, earlier, later], expected, rtol=1e-5, atol=1e-10)


def test_several_neurons_of_a_block_are_parted() -> None:
    case = make("vit-layer_scale", "cls", "ffn+heads")
    paths = random_paths(case, 2)
    found = neuron_path.path_edges(case.model, case.images, paths, case.targets, **case.options)
    n_layers = len(case.layers)
    assert found.edges.shape == (2, n_layers, 2, n_layers, 2)
    assert found.to_output.shape == (2, n_layers, 2)
    graph = Graph(case, paths)
    by_all = torch.autograd.grad(graph.f(set(range(n_layers))).sum(), graph.deltas)
    for index, layer in enumerate(case.layers):
        whole = (graph.clean[index] * by_all[index]).unflatten(2, (layer.n_units, layer.channels)).sum((1, 3))
        expected = whole.gather(1, paths[:, index].clamp(min=0)) * (paths[:, index] >= 0)
        torch.testing.assert_close(found.totals[:, index], expected, rtol=0, atol=1e-9)
    swapped = neuron_path.path_edges(case.model, case.images, paths.flip(2), case.targets, **case.options)
    torch.testing.assert_close(swapped.edges, found.edges.flip((2, 4)), rtol=0, atol=1e-12)


def test_edges_do_not_depend_on_the_batch_and_are_in_the_targets_unit() -> None:
    model = tiny.make(dtype=torch.float32)
    images, paths = tiny.make_images(4, dtype=torch.float32), tiny.random_paths(model, 4, 1)[..., 0]
    options: dict[str, Any] = {"target": "margin"}
    whole = neuron_path.path_edges(model, images, paths, 2, **options)
    for row in range(4):
        one = neuron_path.path_edges(model, images[row : row + 1], paths[row : row + 1], 2, **options)
        torch.testing.assert_close(one.edges[0], whole.edges[row], rtol=1e-6, atol=0)
    assert whole.targets.tolist() == [2] * 4
    other = neuron_path.path_edges(model, images, paths, 2)
    assert not torch.allclose(other.to_output, whole.to_output)


def test_edges_of_a_model_in_half_precision_keep_their_digits() -> None:
    model, paths = tiny.make(dtype=torch.float16), torch.zeros(1, 3, dtype=torch.int64)
    found = neuron_path.path_edges(model, tiny.make_images(1), paths)
    assert found.edges.dtype == torch.float32
    assert (found.to_output != 0).all()


def test_paths_without_neurons_have_no_edges() -> None:
    model = tiny.make()
    found = neuron_path.path_edges(model, tiny.make_images(2), torch.zeros(2, 3, 0, dtype=torch.int64))
    assert (found.edges.shape, found.to_output.shape, found.totals.shape) == ((2, 3, 0, 3, 0), (2, 3, 0), (2, 3, 0))


def test_a_neuron_twice_in_a_block_is_refused() -> None:
    model = tiny.make()
    paths = tiny.random_paths(model, 1, 1).repeat(1, 1, 2)
    with pytest.raises(NeuronPathError, match="the same neuron twice in one block"):
        neuron_path.path_edges(model, tiny.make_images(1), paths)
