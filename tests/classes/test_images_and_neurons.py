"""What is known of a neuron and of an image, counted literally."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from neuron_path.classes.class_paths import ClassPaths, make_class_paths
from neuron_path.classes.images import describe_image, image_table
from neuron_path.classes.neurons import neuron_classes, neuron_table
from neuron_path.classes.overlap import overlap_test
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from tests.classes.runs import literal_overlap, literal_usage, small_runs


@given(small_runs())
def test_neurons_are_counted_class_by_class(paths: ClassPaths) -> None:
    usage = count_usage(paths)
    literal = literal_usage(paths)
    n = dict(zip(paths.classes.tolist(), paths.counts.tolist(), strict=True))
    table = neuron_table(usage)
    neurons = sorted({(block, neuron) for _, block, neuron in literal})
    assert list(zip(table["block"], table["neuron"], strict=True)) == neurons
    for row in table.to_dict("records"):
        own = {
            c: count
            for (c, block, neuron), count in literal.items()
            if (block, neuron) == (row["block"], row["neuron"])
        }
        assert (row["n_images"], row["n_classes"]) == (sum(own.values()), len(own))
        ranked = sorted(own, key=lambda c: (-own[c] / n[c], c))
        assert row["top_class"] == ranked[0]
        assert row["top_frequency"] == pytest.approx(own[ranked[0]] / n[ranked[0]])
        assert row["mean_frequency"] == pytest.approx(sum(own[c] / n[c] for c in own) / len(n))
        listed = neuron_classes(usage, int(row["block"]), int(row["neuron"]))
        assert listed["class"].tolist() == ranked
        assert listed["count"].tolist() == [own[c] for c in ranked]


def test_a_neuron_on_no_path_has_no_class_and_one_that_is_not_there_is_refused() -> None:
    usage = count_usage(make_class_paths([[0], [1]], [0, 1], n_neurons=4))
    assert len(neuron_classes(usage, 0, 3)) == 0
    with pytest.raises(NeuronPathError, match="no block 1; expected 0 to 0"):
        neuron_classes(usage, 1, 0)
    with pytest.raises(NeuronPathError, match="no neuron 4; expected 0 to 3"):
        neuron_classes(usage, 0, 4)


@given(small_runs(min_classes=2))
def test_images_are_set_against_their_class(paths: ClassPaths) -> None:
    usage, test = count_usage(paths), overlap_test(paths, n_permutations=1)
    table = image_table(paths, usage, test)
    literal = literal_usage(paths)
    for row, record in enumerate(table.to_dict("records")):
        own = int(paths.classes[paths.members[row]])
        assert (record["sample_id"], record["class"]) == (paths.images[row], own)
        means = {}
        for c in paths.classes.tolist():
            others = [j for j in range(paths.n_images) if j != row and paths.classes[paths.members[j]] == c]
            if others:
                means[c] = np.mean([literal_overlap(paths.paths[row], paths.paths[j]) for j in others])
        best = max(means.values())
        assert record["nearest_class"] == min(c for c in means if means[c] > best - 1e-9)
        favourites = []
        for block in range(paths.n_blocks):
            counts = {neuron: n for (c, b, neuron), n in literal.items() if (c, b) == (own, block)}
            favourites.append(min(counts, key=lambda neuron: (-counts[neuron], neuron)))
        differs = [favourite not in paths.paths[row, b].tolist() for b, favourite in enumerate(favourites)]
        assert record["n_differing"] == sum(differs)
        told = describe_image(paths, usage, str(paths.images[row]))
        assert told["neuron"].tolist() == paths.paths[row].ravel().tolist()
        assert told["differs"].tolist() == list(np.repeat(differs, paths.top_k))
        assert told["class_neuron"].tolist() == list(np.repeat(favourites, paths.top_k))
        for one in told.to_dict("records"):
            shares = {}
            for c in paths.classes.tolist():
                members = [j for j in range(paths.n_images) if j != row and paths.classes[paths.members[j]] == c]
                has = [one["neuron"] in paths.paths[j, one["block"]].tolist() for j in members]
                shares[c] = np.mean(has) if members else np.nan
            assert one["frequency"] == pytest.approx(shares[own], nan_ok=True)
            known = {c: share for c, share in shares.items() if not np.isnan(share)}
            assert one["top_frequency"] == pytest.approx(max(known.values()))
            assert one["top_class"] == min(c for c in known if known[c] > max(known.values()) - 1e-9)


def test_an_unknown_image_is_refused_with_the_nearest_name() -> None:
    paths = make_class_paths([[0], [1]], [0, 1], images=["cat/1.png", "dog/1.png"])
    with pytest.raises(NeuronPathError, match=r"Did you mean 'cat/1\.png'"):
        describe_image(paths, count_usage(paths), "cat/2.png")
