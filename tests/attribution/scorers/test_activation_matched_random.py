"""The activation-matched null: near the reference in rank, never the reference itself, fair, and on its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import Scorer, scorers
from neuron_path.attribution.scorers.activation_matched_random import ActivationMatchedRandom
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder
from neuron_path.search.method import Method
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult, TokenScopeName
from tests import oracle, tiny

BAND = 0.25
WIDTH = 6  # ranks: a quarter of 24 neurons
N_DRAWS = 600
CASES: list[tuple[str, TokenScopeName]] = [("cls", "cls"), ("avg", "patch")]

both_cases = pytest.mark.parametrize(("name", "scope"), CASES, ids=["cls", "patch"])


def find(name: str, scorer: Scorer, images: Tensor, names: list[str], k: int = 1, micro_batch: int = 64) -> PathResult:
    settings = SearchSettings(Quadrature("midpoint", 1), top_k=k, micro_batch=micro_batch)
    method = Method(scorer, searches.create("greedy"))
    finder = PathFinder(Session(tiny.make(name)), method, settings, keep_candidates=True)
    return finder.find(images, torch.full((len(images),), 3), sample_ids=names, progress=False)[0]


def paths_of(name: str, scorer: Scorer, images: Tensor, names: list[str], k: int = 1, micro_batch: int = 64) -> Tensor:
    """(B, L, k)."""
    return find(name, scorer, images, names, k, micro_batch).paths.reshape(len(images), -1, k)


def ranks(name: str, scope: str, image: Tensor) -> Tensor:
    """(L, F) every neuron's place in its block when they are sorted by activation, the largest first."""
    rows = []
    for w in oracle.clean_activations(tiny.literal(tiny.make(name), scope), image):
        places = torch.empty(w.shape[1], dtype=torch.long)
        places[w.sum(0).argsort(descending=True, stable=True)] = torch.arange(w.shape[1])
        rows.append(places)
    return torch.stack(rows)


@cache
def drawn(name: str, scope: TokenScopeName, reference: str = "joint_attribution") -> tuple[Tensor, Tensor]:
    """(N, L) ranks that were drawn for one image under many names, and (L,) the reference's."""
    image = tiny.make_images(1)
    theirs = paths_of(name, scorers.create(reference), image, ["any"])[0]
    names = [str(row) for row in range(N_DRAWS)]
    scorer = ActivationMatchedRandom(band=BAND, reference=reference)
    ours = paths_of(name, scorer, image.expand(N_DRAWS, -1, -1, -1), names)
    place = ranks(name, scope, image[0])
    return place.expand(N_DRAWS, -1, -1).gather(2, ours).squeeze(2), place.gather(1, theirs).squeeze(1)


@both_cases
@pytest.mark.parametrize("reference", ["joint_attribution", "gradient_x_activation"])
def test_draws_are_uniform_over_the_window(name: str, scope: TokenScopeName, reference: str) -> None:
    places, centres = drawn(name, scope, reference)
    for block, centre in zip(places.T.tolist(), centres.tolist(), strict=True):
        found, counts = np.unique(block, return_counts=True)
        assert centre not in found
        # The window is this many ranks with the reference's own in the middle; one that an end would cut moves inwards.
        window = sorted({*found.tolist(), centre})
        assert window == list(range(window[0], window[0] + WIDTH))
        if WIDTH // 2 <= centre < 24 - WIDTH // 2:
            assert abs(np.mean(window) - centre) <= 0.5
        else:
            assert window[0] == 0 or window[-1] == 23
        expected = N_DRAWS / len(found)
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert statistic < 22  # the 99.98 % quantile of chi-squared with 4 degrees of freedom; the draw is fixed


def test_a_path_depends_on_seed_and_sample_only() -> None:
    images, names = tiny.make_images(6), list("abcdef")
    scorer = ActivationMatchedRandom(band=BAND)
    whole = paths_of("cls", scorer, images, names, k=2)
    for micro_batch in (1, 5):
        assert paths_of("cls", scorer, images, names, 2, micro_batch).tolist() == whole.tolist()
    order = [4, 0, 3]
    some = paths_of("cls", scorer, images[order], [names[row] for row in order], k=2)
    assert some.tolist() == whole[order].tolist()
    assert paths_of("cls", scorer, images, list("ghijkl"), k=2).tolist() != whole.tolist()
    assert paths_of("cls", ActivationMatchedRandom(seed=1, band=BAND), images, names, k=2).tolist() != whole.tolist()


@both_cases
def test_several_neurons_are_distinct_and_none_is_the_references(name: str, scope: TokenScopeName) -> None:
    n, k = 60, 3
    images = tiny.make_images(3).repeat(n // 3, 1, 1, 1)
    references = paths_of(name, scorers.create("joint_attribution"), images, ["any"] * n, k)
    places = [ranks(name, scope, image) for image in images[:3]]
    for band in (0.01, 0.1, BAND):
        ours = paths_of(name, ActivationMatchedRandom(band=band), images, [str(row) for row in range(n)], k)
        for row in range(n):
            blocks = zip(places[row % 3], ours[row].tolist(), references[row].tolist(), strict=True)
            for place, mine, theirs in blocks:
                assert len(set(mine)) == k
                assert not set(mine) & set(theirs)
                away = (place[mine].unsqueeze(1) - place[theirs]).abs().amin(1)
                assert int(away.max()) <= max(round(band * 24), 2 * k)


def test_it_draws_on_its_own() -> None:
    # Were it the best of `random`'s draws within the window, or the worst, both would agree in every image.
    image, n = tiny.make_images(1), 300
    names = [str(row) for row in range(n)]
    places, centres = drawn("cls", "cls")
    rated = find("cls", scorers.create("random"), image.expand(n, -1, -1, -1), names).candidate_scores
    assert rated is not None
    place = ranks("cls", "cls", image[0])
    for index in range(len(centres)):
        window = places[:, index].unique()
        by_rank = rated[:, index][:, place[index].argsort()][:, window]
        for picked in (by_rank.argmax(1), by_rank.argmin(1)):
            share = (window[picked] == places[:n, index]).double().mean().item()
            expected = 1 / len(window)
            assert abs(share - expected) < 4 * (expected * (1 - expected) / n) ** 0.5


def test_the_reference_is_any_scorers_path() -> None:
    options: dict[str, Any] = {"quadrature": "midpoint", "n_steps": 1}
    images, targets = tiny.make_images(3), torch.tensor([3, 0, 4])
    model = tiny.make()
    for reference in ("activation", "conductance"):
        scorer = ActivationMatchedRandom(reference=reference)
        ours = neuron_path.find_paths(model, images, targets, scorer=scorer, **options)
        theirs = neuron_path.find_paths(model, images, targets, scorer=reference, **options)
        assert (ours.paths != theirs.paths).all()
