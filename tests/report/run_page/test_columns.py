"""What goes into the page fits into it, and what is left out is drawn fairly."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from neuron_path.report.run_page import evidence, explorer, figures
from neuron_path.report.run_page.evidence import edges_data, evidence_data, maps_data, picture_uris
from neuron_path.report.run_page.explorer import draw, explorer_data
from neuron_path.report.run_page.figures import show_figures
from neuron_path.report.run_page.gallery import Entry
from neuron_path.report.run_page.packing import pack_floats, pack_integers, unpack
from neuron_path.report.run_page.render import resource
from neuron_path.store.evidence import EDGE, load_evidence, thumbnails_of
from neuron_path.store.reader import load_paths
from tests.report.runs import picture_of, write_run


@given(nps.arrays(np.int64, nps.array_shapes(max_dims=2, min_side=0), elements=st.integers(-(2**31), 2**31 - 1)))
def test_integers_come_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack(pack_integers(values)), values.ravel())


def test_the_narrowest_type_is_taken() -> None:
    kinds = [pack_integers([value])["type"] for value in (255, 256, 65_535, 65_536, -1)]
    assert kinds == ["uint8", "uint16", "uint16", "int32", "int32"]
    with pytest.raises(OverflowError):
        pack_integers([2**31])


@given(nps.arrays(np.float64, 7, elements=st.floats(-60_000, 60_000)))
def test_floats_come_back_in_as_many_digits_as_promised(values: np.ndarray) -> None:
    np.testing.assert_allclose(unpack(pack_floats(values)), values, rtol=1e-6, atol=1e-40)
    np.testing.assert_allclose(unpack(pack_floats(values, half=True)), values, rtol=1e-3, atol=1e-7)


def test_numbers_that_are_none_stay_so() -> None:
    found = unpack(pack_floats([np.nan, np.inf, 1e9], half=True))
    assert np.isnan(found[0])
    assert np.isinf(found[1:]).all()


def test_a_draw_takes_each_class_alike_and_does_not_see_the_order() -> None:
    rng = np.random.default_rng(0)
    members = rng.permutation(np.repeat([0, 1, 2], [600, 300, 1]))
    names = [f"image {index}" for index in rng.permutation(901)]
    chosen = draw(names, members, 90)
    counts = np.bincount(members[chosen])
    assert counts.sum() == 90
    assert abs(counts[0] - 2 * counts[1]) <= 2
    assert counts[2] == 1
    order = rng.permutation(901)
    again = draw([names[place] for place in order], members[order], 90)
    assert {names[place] for place in chosen} == {names[order[place]] for place in again}
    assert draw(names, members, 2).size == 3
    assert draw(names, members, 901).tolist() == list(range(901))
    assert set(draw(names, members, 90, seed=1).tolist()) != set(chosen.tolist())


def test_of_more_images_than_fit_some_are_drawn(tmp_path: Path) -> None:
    paths = load_paths(write_run(tmp_path / "run", n_classes=4, n_each=50, evidence=0, evaluated=False))
    whole = explorer_data(paths)
    part = explorer_data(paths, most_bytes=len(json.dumps(whole)) // 4)
    assert len(whole["images"]["id"]) == whole["total"] == part["total"] == 200
    shown = len(part["images"]["id"])
    assert 20 < shown < 60
    assert np.ptp(np.bincount(unpack(part["images"]["member"]))) <= 1
    assert part["sizes"] == [50] * 4
    assert len(json.dumps(part)) < len(json.dumps(whole)) / 3
    rows = paths.loc[paths["scorer"] == "random"].set_index("sample_id").loc[part["images"]["id"]]
    found = unpack(part["methods"][2]["paths"]).reshape(shown, -1)
    np.testing.assert_array_equal(found, np.stack(rows["path"].tolist()))


def test_images_that_one_method_lacks_are_left_out(tmp_path: Path) -> None:
    paths = load_paths(write_run(tmp_path / "run", evidence=0, evaluated=False))
    lacking = (paths["scorer"] == "random") & (paths["sample_id"] == paths["sample_id"].iloc[0])
    data = explorer_data(paths.loc[~lacking], own="activation")
    assert data["total"] == len(data["images"]["id"]) == 23
    assert data["methods"][0]["scorer"] == "activation"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load_evidence(write_run(tmp_path_factory.mktemp("evidence") / "run", evaluated=False))


def test_evidence_comes_back_row_by_row(seen: pd.DataFrame) -> None:
    data = evidence_data(seen.sample(frac=1, random_state=0))
    rows = seen.sort_values(["block", "neuron", "kind", "rank"])
    assert (data["nTop"], data["shown"]) == (5, 5)
    assert np.array(data["ids"])[unpack(data["image"])].tolist() == rows["sample_id"].tolist()
    for name in ("block", "neuron"):
        assert unpack(data[name]).tolist() == rows[name].tolist()
    assert np.array(data["kinds"])[unpack(data["kind"])].tolist() == rows["kind"].tolist()
    np.testing.assert_allclose(unpack(data["patchActivation"]), rows["patch_activation"], rtol=1e-6)
    boxes = unpack(data["box"]).reshape(-1, 4) / 65_535
    np.testing.assert_allclose(boxes, rows[["left", "top", "right", "bottom"]], atol=1e-4)


def test_of_too_much_evidence_the_highest_ranks_are_taken(seen: pd.DataFrame) -> None:
    data = evidence_data(seen, most_rows=len(seen) // 2)
    assert data["shown"] == 2
    assert unpack(data["block"]).size == np.count_nonzero(seen["rank"] < 2)


def test_a_place_in_no_grid_has_an_empty_box(seen: pd.DataFrame) -> None:
    lacking = seen.assign(left=np.nan, patch_activation=np.nan)
    data = evidence_data(lacking)
    assert not unpack(data["box"]).any()
    assert np.isnan(unpack(data["patchActivation"])).all()


def test_maps_come_back_neuron_by_neuron(seen: pd.DataFrame) -> None:
    rows = seen.loc[seen["maps"].notna()]
    data = maps_data(seen)
    assert data is not None
    assert (data["rows"], data["columns"], data["ids"]) == (4, 4, rows["sample_id"].tolist())
    ids = np.array(data["ids"])[unpack(data["image"])].tolist()
    found = zip(ids, *(unpack(data[name]).tolist() for name in ("block", "neuron", "largest")), strict=True)
    expected = [
        (name, one["block"], one["neuron"], one["largest"])
        for name, maps in zip(rows["sample_id"], rows["maps"], strict=True)
        for one in maps
    ]
    assert list(found) == expected
    whole = unpack(data["values"]).tobytes()
    assert whole == b"".join(one["values"] for maps in rows["maps"] for one in maps)


def test_maps_fit_and_what_is_of_another_grid_is_left_out(seen: pd.DataFrame) -> None:
    whole = maps_data(seen)
    half = maps_data(seen, most_bytes=len(json.dumps(whole)) // 2)
    assert whole is not None
    assert half is not None
    assert half["ids"] == whole["ids"][: len(half["ids"])]
    assert 0.3 < len(half["ids"]) / len(whole["ids"]) < 0.6
    assert len(json.dumps(half)) < len(json.dumps(whole)) / 2 + 400  # the names of the columns
    other = seen.copy()
    for told in (None, [3, 4]):
        other.attrs = {"provenance": {"evidence": {"patch_grid": told}}}
        assert maps_data(other) is None
    assert maps_data(seen.assign(maps=None)) is None


def test_edges_come_back_image_by_image(seen: pd.DataFrame) -> None:
    rows = seen.loc[seen["edges"].notna()]
    data = edges_data(seen)
    assert data is not None
    assert data["ids"] == rows["sample_id"].tolist()
    assert unpack(data["n"]).tolist() == [own["n"] for own in rows["edges"]]
    assert unpack(data["magnitude"]).tolist() == [own["magnitude"] for own in rows["edges"]]
    ids = np.array(data["ids"])[unpack(data["image"])].tolist()
    found = zip(ids, *(unpack(data[name]).tolist() for name in EDGE), strict=True)
    expected = [
        (name, *edge.values()) for name, own in zip(rows["sample_id"], rows["edges"], strict=True)
        for edge in own["strongest"]
    ]  # fmt: skip
    assert list(found) == expected
    assert edges_data(seen.assign(edges=None)) is None


def test_pictures_fit_and_the_first_come_first(seen: pd.DataFrame) -> None:
    pictures = thumbnails_of(seen)
    names = sorted(pictures)
    uris = picture_uris(pictures, ["unknown", *names])
    assert list(uris) == names
    for uri in uris.values():
        kind, _, data = uri.partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert f"data:image/{(picture.format or '').lower()}" == kind
            assert max(picture.size) <= 96
    half = picture_uris(pictures, names, most_bytes=sum(map(len, uris.values())) // 2)
    assert list(half) == names[: len(half)]
    assert 0 < len(half) < len(names)


def test_small_pictures_stay_and_what_is_none_is_left_out() -> None:
    small = picture_of(0, side=8)
    uris = picture_uris({"a": small, "b": b"<svg onload=alert(1)>", "c": picture_of(1, side=200)}, "abc")
    assert list(uris) == ["a", "c"]
    assert base64.b64decode(uris["a"].partition(",")[2]) == small
    assert uris["c"].startswith("data:image/webp")


def test_all_parts_together_stay_below_fifteen_megabytes() -> None:
    evidence_rows = evidence.MOST_ROWS * 36
    parts = [explorer.MOST_BYTES, evidence_rows, evidence.MOST_PICTURE_BYTES, figures.MOST_BYTES]
    own = sum(len(resource(name)) for name in ("vendor/plotly-cartesian.min.js", "report.js", "report.css"))
    assert sum(parts) + own < 14_900_000


def test_figures_that_do_not_fit_are_named_only(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.png").write_bytes(b"x" * 300)
        (folder / f"{name}.csv").write_text("y" * 200)
    shown = show_figures(tmp_path, [Entry("a", "A"), Entry("b", "B"), Entry("c", "C")], most_bytes=1010)
    assert [(bool(figure.uri), len(figure.table)) for figure in shown] == [(True, 200), (True, 0), (False, 0)]
