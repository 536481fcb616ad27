"""The summary of the paper's protocol, from records made by hand; and the paper's own numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from neuron_path.models.imagenet import imagenet_classes
from pruning_protocol.page import protocol_page
from pruning_protocol.summary import SETTING, beside_published, published_as, published_numbers, summarise_protocol
from tests.evaluation.test_pruning_summary import RECORDS


def test_a_setting_of_the_protocol_is_a_row() -> None:
    records = pd.concat(
        RECORDS.loc[RECORDS["method"] == method].assign(model="m", protocol="corrected", top_k=1, depth=3, share=share)
        for method, share in (("original", 0.0), ("path", 0.5))
    )
    summary = summarise_protocol(records)
    assert summary[SETTING].to_numpy().tolist() == [["m", "corrected", 1, 3, 0.0], ["m", "corrected", 1, 3, 0.5]]
    assert summary["accuracy"].tolist() == pytest.approx([100, 95])
    assert summary["probability"].tolist() == pytest.approx([0.75, 0.725])
    assert (summary["accuracy_low"].iloc[1], summary["accuracy_high"].iloc[1]) != (95, 95)


def test_the_published_numbers_are_the_paper_s() -> None:
    published = published_numbers()
    own = published.loc[(published["model"] == "vit_b_32") & (published["top_k"] == 5) & (published["depth"] == 12)]
    assert own.set_index("share")["probability"].to_dict() == {0.5: 0.529465, 1.0: 0.540702}
    assert set(published["status"]) == {"exact", "read_off_figure"}
    assert published.loc[published["top_k"].isna(), "share"].tolist() == [0, 0]


def test_they_compare_with_the_paper_s_weights_on_imagenet_only() -> None:
    known = imagenet_classes(["n01440764"], 1000)
    assert known is not None
    synsets = [f"n{number:08d}" for number in range(1000)]
    google = {"model": "vit_base_patch32_224", "config": {"model": {"checkpoint": "/files/ViT-B_32.npz"}}}
    hub = {"model": "vit_base_patch16_224.orig_in21k_ft_in1k", "config": {"model": {"checkpoint": None}}}
    for classes in (synsets, known[1]):  # by the folders, and by their names as a run stores them
        assert published_as(google | {"classes": classes}) == "vit_b_32"
        assert published_as(hub | {"classes": classes}) == "vit_b_16"
        assert published_as(google | {"classes": classes[:999]}) is None
        assert published_as({"model": "vit_base_patch32_224", "classes": classes}) is None
        assert published_as({**google, "config": {"model": {"checkpoint": "mine.npz"}}, "classes": classes}) is None
    assert published_as(google | {"classes": [f"class {number}" for number in range(1000)]}) is None


def test_a_published_number_is_within_an_interval_or_not_and_on_the_same_side_or_not() -> None:
    setting = {"model": "m", "protocol": "corrected", "top_k": 5, "n": 7}
    ours = [(12, 0.0, 0.50, 0.45), (3, 0.5, 0.51, 0.40), (6, 0.5, 0.49, 0.40), (9, 0.5, 0.55, 0.53), (3, 0.3, 0.5, 0.4)]
    summary = pd.DataFrame(
        setting
        | {"depth": depth, "share": share, "probability": mean, "probability_low": low, "probability_high": mean + 0.02}
        for depth, share, mean, low in ours
    )
    beside = beside_published(summary, {"m": "vit_b_32", "other": None})
    assert len(beside) == 23
    found = beside.loc[beside["n"] > 0]
    # By the paper 0.5196 unmasked (read off a figure), then 0.518661, 0.522223 and 0.526388 with half masked.
    told = [tuple(row) for row in found[["depth", "share", "verdict", "direction"]].to_numpy().tolist()]
    assert told[:3] == [(3, 0.5, "within", "opposite"), (6, 0.5, "outside", "opposite"), (9, 0.5, "outside", "same")]
    assert found["verdict"].tolist()[3:] == ["within"]
    assert found["direction"].tolist()[3:] == [""]
    assert beside.loc[beside["n"] == 0, ["verdict", "direction"]].to_numpy().ravel().tolist() == [""] * 38
    page = protocol_page(
        summary.assign(**{"n_seeds": 1, **_same("accuracy")}), {"m": "vit_b_32"}, {"m": "m.png"}, beside
    )
    assert "Of the 23 numbers that the paper has of these models, 4 were measured: 2 lie within our interval" in page
    assert "the same side in 1 of 3. The others ask for top_k=1, 10, 20, 50 or other shares and depths." in page
    assert "0.520 (read off)" in page


def _same(name: str) -> dict[str, float]:
    return {name: 50.0, f"{name}_low": 40.0, f"{name}_high": 60.0}
