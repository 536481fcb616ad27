"""The table of effects: a row per method and operation, from per-image rows in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.stats.intervals import bootstrap_mean

N = 40
LABELS = {str(index): index % 4 for index in range(N)}


def effects(scorer: str = "joint_attribution", operation: str = "remove", factor: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(len(scorer))
    clean = rng.uniform(0.5, 1, size=N)
    return pd.DataFrame(
        {
            "sample_id": list(LABELS),
            "scorer": scorer,
            "search": "greedy",
            "top_k": 1,
            "operation": operation,
            "size": 1,
            "token_scope": "cls",
            "tokens": "scope",
            "target": list(LABELS.values()),
            "clean_probability": clean,
            "edited_probability": clean * factor * rng.uniform(0.9, 1, size=N),
            "clean_logit": np.log(clean),
            "edited_logit": np.log(clean) - 0.5,
            "kl_divergence": np.linspace(0, 0.2, N),
            "clean_prediction": list(LABELS.values()),
            "edited_prediction": [label if label else 3 for label in LABELS.values()],
        }
    )


def summarise(frame: pd.DataFrame, labels: Any = LABELS) -> pd.DataFrame:
    return summarise_effects(frame, labels, n_resamples=999)


def test_each_method_and_operation_has_its_row() -> None:
    table = summarise(
        pd.concat([effects(), effects(operation="enhance", factor=0.9), effects("activation", factor=0.99)])
    )
    assert table[["scorer", "operation"]].to_numpy().tolist() == [
        ["joint_attribution", "remove"],
        ["joint_attribution", "enhance"],
        ["activation", "remove"],
    ]
    assert table["n"].tolist() == table["n_labelled"].tolist() == [N] * 3


def test_a_row_holds_the_means_and_their_intervals() -> None:
    frame = effects()
    row = summarise(frame).iloc[0]
    frame = frame.sort_values("sample_id")
    deviation = frame["edited_probability"] / frame["clean_probability"] - 1
    interval = bootstrap_mean(deviation, n_resamples=999)
    assert row["probability_deviation"] == pytest.approx(deviation.mean())
    bounds = row["probability_deviation_low"], row["probability_deviation_high"]
    assert bounds == pytest.approx((interval.low, interval.high))
    assert row["clean_probability"] == pytest.approx(frame["clean_probability"].mean())
    assert row["edited_probability"] == pytest.approx(frame["edited_probability"].mean())
    assert not row["includes_zero"]
    assert (row["clean_accuracy"], row["edited_accuracy"], row["accuracy_deviation"]) == (100, 75, -25)
    assert row["accuracy_deviation_low"] < -25 < row["accuracy_deviation_high"] < 0
    assert not row["accuracy_includes_zero"]
    for name, values in (
        ("logit_difference", frame["edited_logit"] - frame["clean_logit"]),
        ("kl_divergence", frame["kl_divergence"]),
    ):
        expected = bootstrap_mean(values, n_resamples=999)
        assert row[name] == expected.mean
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((expected.low, expected.high))


def test_no_effect_includes_zero() -> None:
    frame = effects()
    frame["edited_probability"] = frame["clean_probability"]
    frame["edited_logit"] = frame["clean_logit"]
    frame["edited_prediction"] = frame["clean_prediction"]
    row = summarise(frame).iloc[0]
    assert (row["probability_deviation"], row["accuracy_deviation"]) == (0, 0)
    assert row["logit_difference"] == row["logit_difference_low"] == 0
    assert row["includes_zero"]
    assert row["accuracy_includes_zero"]


def test_labels_join_by_sample_id_whatever_the_order_or_index() -> None:
    frame = effects()
    shuffled = frame.sample(frac=1, random_state=0).set_axis([0] * N)
    by_id = pd.Series(LABELS).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(summarise(frame), summarise(shuffled, by_id), check_exact=True)


def test_unlabelled_images_count_for_probability_only() -> None:
    half: dict[str, Any] = {name: label if index < 20 else None for index, (name, label) in enumerate(LABELS.items())}
    nullable = pd.Series(pd.array(list(half.values()), dtype="Int32"), index=list(half))
    for labels in (half, nullable):
        row = summarise(effects(), labels).iloc[0]
        assert (row["n"], row["n_labelled"], row["clean_accuracy"]) == (N, 20, 100)
    row = summarise(effects(), {}).iloc[0]
    assert row["n_labelled"] == 0
    assert np.isnan([row["clean_accuracy"], row["accuracy_deviation"], row["accuracy_deviation_low"]]).all()
    assert row["accuracy_includes_zero"]


def test_sizes_of_path_and_scopes_are_kept_apart() -> None:
    table = summarise(pd.concat([effects(), effects().assign(top_k=5, size=5), effects().assign(token_scope="patch")]))
    assert table[["top_k", "token_scope"]].to_numpy().tolist() == [[1, "cls"], [5, "cls"], [1, "patch"]]
    both = summarise(pd.concat([effects(), effects().assign(tokens="all")]))
    assert both["tokens"].tolist() == ["scope", "all"]


def test_edits_of_a_part_of_the_path_are_shown_on_demand() -> None:
    whole, part = effects().assign(top_k=5, size=5), effects(factor=0.9).assign(top_k=5, size=2)
    frame = pd.concat([part, whole])
    assert summarise(frame)["size"].tolist() == [5]
    table = summarise_effects(frame, LABELS, headline=False, n_resamples=99)
    assert table["size"].tolist() == [2, 5]
    assert table["probability_deviation"].iloc[0] > table["probability_deviation"].iloc[1]
    with pytest.raises(NeuronPathError, match="no effects"):
        summarise(part)


def test_each_class_has_its_row() -> None:
    frame = effects()
    table = summarise_effects(frame, LABELS, by="class", n_resamples=99)
    assert table[["class_kind", "class", "n"]].to_numpy().tolist() == [["label", index, 10] for index in range(4)]
    assert table["accuracy_deviation"].tolist() == [-100, 0, 0, 0]
    own = frame.loc[frame["target"] == 2]
    expected = (own["edited_probability"] / own["clean_probability"] - 1).mean()
    assert table["probability_deviation"].iloc[2] == pytest.approx(expected)
    with pytest.raises(NeuronPathError, match="not summarised by 'label'"):
        summarise_effects(frame, LABELS, by="label")  # type: ignore[arg-type]


def test_without_all_labels_a_class_is_the_target() -> None:
    frame = effects().assign(target=[0] * 30 + [1] * 10)
    table = summarise_effects(frame, {"0": 3}, by="class", n_resamples=99)
    assert table[["class_kind", "class", "n"]].to_numpy().tolist() == [["target", 0, 30], ["target", 1, 10]]


def test_an_image_twice_in_a_group_is_refused() -> None:
    with pytest.raises(NeuronPathError, match="Image '0' appears more than once"):
        summarise(pd.concat([effects(), effects()]))


def test_tables_without_effects_are_refused() -> None:
    with pytest.raises(NeuronPathError, match="no effects"):
        summarise(effects().iloc[:0])
    with pytest.raises(NeuronPathError, match=r"column\(s\) operation"):
        summarise(effects().drop(columns="operation"))


def test_the_target_functions_own_values_are_averaged_too() -> None:
    frame = effects().assign(clean_value=np.arange(N) / 3, edited_value=np.arange(N) / 3 - np.linspace(1, 2, N))
    (row,) = summarise(frame).to_dict("records")
    assert row["clean_value"] == pytest.approx((N - 1) / 6)
    assert row["edited_value"] == pytest.approx((N - 1) / 6 - 1.5)
    images = frame.sort_values("sample_id")
    expected = bootstrap_mean(images["edited_value"] - images["clean_value"], n_resamples=999)
    found = [row[f"value_difference{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([expected.mean, expected.low, expected.high])
    assert not any("value" in name for name in summarise(effects()).columns)
