"""The report page says what was run, what came out, and where nothing was shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.page import render_report
from tests.report.tables import effects


def page(summary: pd.DataFrame | None = None, **changed: object) -> str:
    arguments = {
        "title": "Neuron paths of digits_vit",
        "provenance": {
            "seed": 0,
            "model": "digits_vit",
            "weight_hash": "0123456789abcdef",
            "data": "digits, test split",
            "n_images": 359,
            "scorer": ["joint_attribution", "activation", "random"],
            "search": "greedy",
            "quadrature": "gauss_legendre",
            "n_steps": 8,
            "token_scope": "cls",
            "git_commit": "fedcba9876543210",
            "versions": {"torch": "2.14.1", "timm": "1.0.31"},
            "config": {"secret": "not shown"},
            "preprocessing": "none",
            "checkpoint": None,
        },
        "summary": effects() if summary is None else summary,
        "metrics": {"mean_score": np.float64(0.0123456), "wall_seconds": 59.87654, "images_per_second": 31.0},
        "figures": [("Path of image 3", "figures/image 3.png")],
    } | changed
    return render_report(**arguments)  # type: ignore[arg-type]


def cells(text: str, first: str, second: str | None = None) -> list[str]:
    """The cells of the one table row that begins with these cells."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines() if line.startswith("|")
    ]
    return next(row for row in rows if row[0] == first and second in (None, row[1]))


def test_what_was_run_comes_in_order_and_short() -> None:
    text = page()
    assert text.startswith("# Neuron paths of digits_vit\n")
    assert cells(text, "Weights (hash)")[1] == "0123456789ab"
    assert cells(text, "Commit")[1] == "fedcba987654"
    assert cells(text, "Scorer")[1] == "joint_attribution, activation, random"
    assert cells(text, "Versions")[1] == "torch 2.14.1, timm 1.0.31"
    assert cells(text, "Preprocessing")[1] == "none"
    assert text.index("| Model") < text.index("| Quadrature") < text.index("| Seed") < text.index("| Preprocessing")
    assert "secret" not in text
    assert "heckpoint" not in text


def test_effects_have_intervals_and_say_where_zero_is_included() -> None:
    text = page()
    assert cells(text, "joint attribution", "remove")[2:] == [
        "359", "0.950 → 0.920", "−3.1 % [−3.9, −2.4]", "−1.2 [−2.1, −0.4]",
    ]  # fmt: skip
    assert cells(text, "random", "remove")[4:] == [
        "+0.04 % [−0.12, +0.21], includes 0",
        "0.0 [0.0, 0.0], includes 0",
    ]
    assert cells(text, "activation", "enhance")[4] == "+0.004 % [+0.001, +0.007]"
    assert cells(text, "random", "enhance")[4] == "+0.2 % (no interval)"
    assert sum("includes 0" in line for line in text.splitlines() if line.startswith("|")) == 4


def test_sentences_claim_only_what_the_intervals_show() -> None:
    text = page()
    assert (
        "- Removing the path changes the target probability by −3.1 % [−3.9, −2.4] for joint attribution, "
        "−1.2 % [−1.8, −0.6] for activation and +0.04 % [−0.12, +0.21] for random "
        "(interval includes 0: no effect shown).\n" in text
    )
    assert "+0.2 % (no interval) for random (n = 1: no effect shown)." in text
    assert "paired difference" in text


def test_accuracy_is_left_out_without_labels() -> None:
    unlabelled = effects().assign(
        accuracy_deviation=np.nan, accuracy_deviation_low=np.nan, accuracy_deviation_high=np.nan
    )
    assert "accuracy" not in page(unlabelled)
    assert "accuracy" not in page(effects().iloc[:, :7])


def test_searches_are_named_when_there_are_several() -> None:
    beam = effects().iloc[:1].assign(search="beam")
    text = page(pd.concat([effects(), beam]))
    assert cells(text, "joint attribution (beam)")[1] == "remove"
    assert cells(text, "joint attribution (greedy)")[1] == "remove"


def test_a_run_without_interventions_says_so() -> None:
    assert "No intervention was measured" in page(effects().iloc[:0])


def test_speed_figures_and_how_to_go_on() -> None:
    text = page(directory="runs/demo")
    assert text.index("| Images per second") < text.index("| Wall time (s)") < text.index("| Mean score")
    measured = [cells(text, name)[1] for name in ("Images per second", "Wall time (s)", "Mean score")]
    assert measured == ["31", "59.88", "0.01235"]
    assert "![Path of image 3](figures/image%203.png)\n\n*Path of image 3*" in text
    assert 'neuron_path.load_paths("runs/demo")' in text
    assert text.endswith("```\n")


def test_skipped_images_are_counted_and_named() -> None:
    assert "skipped" not in page()
    assert "**1 image was skipped**" in page(n_skipped=1)
    text = page(n_skipped=30, errors=[f"cat{i}.png: no image" for i in range(30)])
    assert "**30 images were skipped**" in text
    assert "- cat19.png: no image\n- and 10 more\n" in text
    assert "cat20.png" not in text


def test_text_from_data_stays_text() -> None:
    text = page(
        title="a <script>alert(1)</script>\n# b",
        provenance={"model": "x|y\n|z|"},
        figures=[("[c](http://d) `e`", "f(1).png")],
        errors=["<img src=x>"],
    )
    assert "<script>" not in text
    assert "<img" not in text
    assert text.startswith("# a &lt;script&gt;alert(1)&lt;/script&gt; # b\n")
    assert "x\\|y \\|z\\|" in text
    assert "![\\[c\\](http://d) \\`e\\`](f%281%29.png)" in text


def test_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(NeuronPathError, match="lacks the column operation"):
        page(effects().drop(columns="operation"))
