"""The random null: keyed by seed and sample, fair, and independent of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.models.session import Session
from neuron_path.search.finder import PathFinder, digests
from neuron_path.search.method import Method
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings
from tests import tiny


def find(model: VisionTransformer, images: Tensor, names: list[str] | None, seed: int = 0, k: int = 1) -> Tensor:
    method = Method(scorers.create("random", seed=seed), searches.create("greedy"))
    finder = PathFinder(Session(model), method, SearchSettings(Quadrature("midpoint", 1), top_k=k))
    return finder.find(images, sample_ids=names, progress=False)[0].paths


def test_a_path_depends_on_seed_and_sample_only(model: VisionTransformer) -> None:
    images, names = tiny.make_images(4), ["a", "b", "c", "d"]
    whole = find(model, images, names)
    assert find(model, images[[2, 0]], ["c", "a"]).tolist() == whole[[2, 0]].tolist()
    assert find(model, images.flip(0), names).tolist() == whole.tolist()  # by name, not by pixels
    assert find(model.float(), images, names).tolist() == whole.tolist()
    assert find(model, images, names, seed=1).tolist() != whole.tolist()
    assert find(model, images, list("efgh")).tolist() != whole.tolist()


def test_names_default_to_the_pixels(model: VisionTransformer) -> None:
    images = tiny.make_images(3)
    whole = find(model, images, None)
    assert find(model, images.flip(0), None).flip(0).tolist() == whole.tolist()
    names = digests(images)
    assert len(set(names)) == 3
    assert names == digests(images.contiguous(memory_format=torch.channels_last)) == digests(images.float())


def test_one_is_not_drawn_more_often_than_another(model: VisionTransformer) -> None:
    images = tiny.make_images(1).expand(600, -1, -1, -1)
    paths = find(model, images, [str(row) for row in range(600)], k=2)
    assert (paths[..., 0] != paths[..., 1]).all()
    counts = np.bincount(paths.flatten().numpy(), minlength=24)
    expected = paths.numel() / 24
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 55  # the 99.98 % quantile of chi-squared with 23 degrees of freedom; the draw is fixed


def test_ratings_already_in_float64_are_not_settled_again(
    model: VisionTransformer, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = tiny.make(mlp_ratio=128, dtype=torch.float32)  # 2048 neurons: the two best draws are close as a rule
    monkeypatch.setattr(Session, "double", lambda _: pytest.fail("run again in float64"))
    find(wide, images.repeat(4, 1, 1, 1), [str(row) for row in range(12)])
