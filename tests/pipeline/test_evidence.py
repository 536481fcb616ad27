"""`evidence=true`: the search also writes what the neurons on its paths answer to."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neuron_path
from neuron_path.data.digits import DigitsDataset, load_digits
from neuron_path.pipeline import evidence
from neuron_path.store.evidence import EVIDENCE_FILE, load_evidence, thumbnails_of
from neuron_path.store.reader import load_paths
from tests.command import Outcome, run_in

LIMIT = 9


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    run_dir = tmp_path_factory.mktemp("evidence") / "run"
    return run_in(run_dir, "search", f"data.limit={LIMIT}", "data.batch_size=4", "evidence=true")


def test_every_neuron_on_a_path_has_its_rows(searched: Outcome) -> None:
    assert (searched.code, searched.err) == (0, "")
    frame, paths = load_evidence(searched.run_dir), load_paths(searched.run_dir)
    on_paths = {(block, int(neuron)) for path in paths["path"] for block, neuron in enumerate(path)}
    assert set(zip(frame["block"].tolist(), frame["neuron"].tolist(), strict=True)) == on_paths
    assert set(frame["kind"]) == {"image", "patch"}
    assert len(frame) == len(on_paths) * 2 * 5
    assert set(frame["sample_id"]) <= set(paths["sample_id"])
    for _, rows in frame.groupby(["block", "neuron", "kind"]):
        by = "activation" if rows["kind"].iloc[0] == "image" else "patch_activation"
        assert rows["rank"].tolist() == [0, 1, 2, 3, 4]
        assert np.diff(rows[by].to_numpy()).max() <= 1e-9
        assert len(set(rows["sample_id"])) == 5
    told = frame.attrs["provenance"]["evidence"]
    assert told["patch_grid"] == [4, 4]
    assert sum(told["n_neurons"]) == len(on_paths)
    assert frame.attrs["provenance"]["model"] == "digits_vit"


def test_thumbnails_are_the_images(searched: Outcome) -> None:
    frame = load_evidence(searched.run_dir)
    files = thumbnails_of(frame)
    assert set(files) == set(frame["sample_id"])
    images, _ = load_digits("test")
    paths = load_paths(searched.run_dir)
    first = paths["sample_id"].tolist()[0]
    pixels = np.asarray(Image.open(io.BytesIO(files[first])))
    assert pixels.shape == (8, 8)
    provenance = paths.attrs["provenance"]["preprocessing"]
    mean, std = (np.ravel(provenance[name])[0] for name in ("mean", "std"))
    expected = images[0, 0].numpy() * std + mean
    np.testing.assert_allclose(pixels / 255, expected, atol=0.003)


def test_maps_are_of_the_neurons_on_an_image_s_own_paths(searched: Outcome) -> None:
    frame, paths = load_evidence(searched.run_dir), load_paths(searched.run_dir).set_index("sample_id")
    held = frame.loc[frame["maps"].notna()].set_index("sample_id")["maps"]
    assert sorted(held.index) == sorted(thumbnails_of(frame))
    images, model = load_digits("test")[0], neuron_path.load_model("digits_vit")
    places = {name: place for place, name in enumerate(DigitsDataset("test").sample_ids)}
    name = held.index[-1]
    for block, one in enumerate(held[name]):
        neuron = int(paths.loc[name, "path"][block])
        assert (one["block"], one["neuron"]) == (block, neuron)
        image = images[places[name] : places[name] + 1]
        expected = neuron_path.heat_map(model, image, (block, neuron), quantity="activation").values[0].numpy()
        found = (np.frombuffer(one["values"], dtype=np.uint8).reshape(4, 4).astype(float) - 128) / 127 * one["largest"]
        np.testing.assert_allclose(found, expected, atol=one["largest"] / 254 * 1.01)


def test_maps_are_of_as_many_images_as_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAP_BYTES", 2 * 12 * 16 + 5)  # of two images
    outcome = run_in(tmp_path / "run", "search", "data.limit=4", "evidence=true")
    frame, names = load_evidence(outcome.run_dir), load_paths(outcome.run_dir)["sample_id"].tolist()
    assert set(frame["sample_id"]) == set(names)
    assert set(frame.loc[frame["maps"].notna(), "sample_id"]) == {names[0], names[-1]}


def test_edges_are_those_of_path_edges(searched: Outcome) -> None:
    frame, paths = load_evidence(searched.run_dir), load_paths(searched.run_dir)
    own = paths.loc[paths["scorer"] == paths.attrs["provenance"]["scorer"]].set_index("sample_id")
    held = frame.loc[frame["edges"].notna()].set_index("sample_id")["edges"]
    assert sorted(held.index) == sorted(own.index)
    images, labels = load_digits("test")
    places = {name: place for place, name in enumerate(DigitsDataset("test").sample_ids)}
    places = [places[name] for name in held.index]
    slots = torch.from_numpy(np.stack(own.loc[held.index, "path"].tolist()).astype(np.int64))
    expected = neuron_path.path_edges(neuron_path.load_model("digits_vit"), images[places], slots, labels[places])
    for path, edges, found in zip(slots.tolist(), expected.edges.numpy(), held, strict=True):
        assert found["n"] == np.count_nonzero(edges) == 66
        assert found["magnitude"] == pytest.approx(np.abs(edges).sum(), rel=1e-5)
        values = [edge["value"] for edge in found["strongest"]]
        assert np.abs(values).tolist() == pytest.approx(np.sort(np.abs(edges), axis=None)[::-1][:24], rel=1e-5)
        for edge in found["strongest"]:
            assert edge["value"] == pytest.approx(edges[edge["block"], edge["later_block"]], rel=1e-5)
            assert path[edge["block"]] == edge["neuron"]
            assert path[edge["later_block"]] == edge["later_neuron"]


def test_edges_take_no_more_passes_than_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "EDGE_PASSES", 2 * 12 * 2 + 5)  # of two images
    monkeypatch.setattr(evidence, "MAP_BYTES", 5)  # of none
    outcome = run_in(tmp_path / "run", "search", "data.limit=4", "evidence=true", "top_k=2")
    assert outcome.code == 0
    frame, names = load_evidence(outcome.run_dir), load_paths(outcome.run_dir)["sample_id"].tolist()
    assert set(frame.loc[frame["edges"].notna(), "sample_id"]) == {names[0], names[-1]}
    assert frame["maps"].tolist() == [None] * len(frame)


def test_without_being_asked_it_writes_none(finished: Outcome) -> None:
    assert not (finished.run_dir / EVIDENCE_FILE).exists()


def test_batches_leave_no_trace(searched: Outcome, tmp_path: Path) -> None:
    outcome = run_in(tmp_path / "run", "search", f"data.limit={LIMIT}", "data.batch_size=2", "evidence=true")
    assert outcome.code == 0
    one, other = load_evidence(searched.run_dir), load_evidence(outcome.run_dir)
    exact = [name for name in one.columns if "activation" not in name]
    assert one[exact].equals(other[exact])
    for name in ("activation", "patch_activation"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
