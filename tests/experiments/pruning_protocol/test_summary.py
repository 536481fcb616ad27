"""The summary of the paper's protocol, from records made by hand; and the paper's own numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from pruning_protocol.summary import SETTING, published_as, published_numbers, summarise_protocol
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


def test_they_compare_with_the_paper_s_model_on_imagenet_only() -> None:
    imagenet = [f"n{number:08d}" for number in range(1000)]
    model = "vit_base_patch32_224.orig_in21k_ft_in1k"
    assert published_as({"model": model, "classes": imagenet}) == "vit_b_32"
    assert published_as({"model": model, "classes": imagenet[:999]}) is None
    assert published_as({"model": model, "classes": [f"class {number}" for number in range(1000)]}) is None
    assert published_as({"model": "vit_base_patch32_224", "classes": imagenet}) is None
