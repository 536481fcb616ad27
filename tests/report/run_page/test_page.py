"""The report page says what was run and what came out, opens without a network, and keeps text from data text."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.run_page import gallery
from neuron_path.report.run_page.packing import unpack
from neuron_path.report.run_page.page import write_report
from neuron_path.report.style import save_figure
from neuron_path.store.reader import load_effects, load_paths
from neuron_path.store.schema import effect_schema
from neuron_path.store.skipped import write_skipped
from neuron_path.store.writer import write_effects
from tests.report.runs import SCORERS, write_run

HOSTILE = "<img src=x onerror=alert(1)>&amp;'\"</script><script>alert(2)</script>\n`*|$x$ {{ 7*7 }}\u202e"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text of each kind of tag, and whether all are closed."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text_of(self, *tags: str) -> str:
        return " ".join(" ".join(data for tag, data in self.texts if tag in tags).split())

    @property
    def words(self) -> str:
        shown = " ".join(data for tag, data in self.texts if tag not in ("script", "style"))
        return " ".join(shown.split())

    @property
    def scripts(self) -> list[str]:
        return [data for tag, data in self.texts if tag == "script"]


def data_of(page: Page) -> dict[str, Any]:
    return json.loads(page.scripts[0])


def written(run_dir: Path, **options: Any) -> tuple[str, Page]:
    text = write_report(write_run(run_dir, **options)).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module", autouse=True)
def _small_pictures() -> Iterator[None]:
    """No test looks at the pictures: one small one of each figure will do."""
    with patch.object(gallery, "save_figure", partial(save_figure, formats=("png",), dpi=20)):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run_dir = tmp_path_factory.mktemp("report") / "run"
    return run_dir, *written(run_dir)


def test_the_page_is_whole_and_its_policy_allows_its_own_scripts_only(made: tuple[Path, str, Page]) -> None:
    _, text, page = made
    assert text.startswith("<!DOCTYPE html>")
    assert page.open == []
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    policy = next(dict(attrs)["content"] or "" for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none';")
    inline = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    assert len(hashes) == 2
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "connect-src" not in policy
    style = page.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    for needed in ("prefers-color-scheme: dark", "max-width: 46rem"):
        assert needed in style


def test_it_tells_what_was_run(made: tuple[Path, str, Page]) -> None:
    run_dir, _, page = made
    assert page.text_of("h1") == page.text_of("title") == "Neuron paths of made_up_vit"
    facts = dict(zip(_texts(page, "dt"), _texts(page, "dd"), strict=False))
    assert page.words.count("0123456789ab ") == 1
    assert "0123456789abc" not in page.words
    assert "Blocks 5" in page.words
    assert "Neurons of a block 40" in page.words
    assert "Baselines activation, random" in page.words
    assert "Versions neuron_path 0.1.0, torch 2.14.1" in page.words
    assert "Images per second 12.5" in page.words
    assert "preprocessing" not in page.words.lower()
    assert f'load_paths("{run_dir}")' in page.words
    assert facts


def _texts(page: Page, tag: str) -> list[str]:
    return [data.strip() for one, data in page.texts if one == tag and data.strip()]


def test_the_headline_has_a_row_for_each_effect_with_its_interval(made: tuple[Path, str, Page]) -> None:
    text = made[1].replace("\xa0", " ")
    first = re.search(r'<table class="data">.*?</table>', text, re.DOTALL)
    assert first is not None
    rows = re.findall(r"<tr>(.*?)</tr>", first[0], re.DOTALL)[1:]
    cells = [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", row)] for row in rows]
    assert [row[:3] for row in cells] == [
        [scorer.replace("_", " "), operation, "24"] for scorer in SCORERS for operation in ("remove", "enhance")
    ]
    for row in cells:
        assert re.fullmatch(r"[−+]?[\d.]+ % \[[−+]?[\d.]+, [−+]?[\d.]+\](, includes 0)?", row[4])
    assert cells[0][4].startswith("−2")
    assert "Removing the path changes the target probability by −2" in text
    assert "it beats the 2 other methods compared" in text


def test_classes_and_their_test_are_told(made: tuple[Path, str, Page]) -> None:
    words = made[2].words
    assert "Classes are the images' labels: 4 of them in 24 images." in words
    assert re.search(
        r"of the same label \([\d.]+ %\) exceeds that of images of different ones \([\d.]+ %\): difference [\d.]+ "
        r"points \[[\d.]+, [\d.]+\], p = 0\.001 \(999 shuffles of the labels\)",
        words,
    )


def test_the_page_holds_every_path_as_it_is_stored(made: tuple[Path, str, Page]) -> None:
    run_dir, _, page = made
    explorer = data_of(page)["explorer"]
    stored = load_paths(run_dir)
    assert [method["scorer"] for method in explorer["methods"]] == list(SCORERS)
    for method in explorer["methods"]:
        rows = stored.loc[stored["scorer"] == method["scorer"]]
        assert explorer["images"]["id"] == rows["sample_id"].tolist()
        np.testing.assert_array_equal(unpack(method["paths"]).reshape(24, 5), np.stack(rows["path"].tolist()))
        np.testing.assert_allclose(
            unpack(method["margins"]).reshape(24, 5), np.stack(rows["margins"].tolist()), rtol=1e-3, atol=1e-6
        )
        np.testing.assert_allclose(unpack(method["scores"]), rows["score"], rtol=1e-6)
    first = stored.iloc[:24]
    right = first["label"].to_numpy(dtype=int) == first["prediction"].to_numpy(dtype=int)
    np.testing.assert_array_equal(unpack(explorer["images"]["outcome"]), right)
    assert 0 < right.sum() < 24


def test_figures_come_with_their_data(made: tuple[Path, str, Page]) -> None:
    run_dir, _, page = made
    tables = data_of(page)["tables"]
    names = ["effects", "class_distribution", "class_overlap", "usage_heat_map", "class_similarity", "path_flow"]
    assert list(tables) == names
    pictures = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    for name, uri in zip(names, pictures, strict=True):
        file = run_dir / "figures" / f"{name}.png"
        assert uri == "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        assert tables[name] == file.with_suffix(".csv").read_text()
    chosen = pd.read_csv(run_dir / "figures" / "class_distribution.csv")
    np.testing.assert_array_equal(np.bincount(chosen["block"], weights=chosen["images"]), [6] * 5)
    similarity = pd.read_csv(run_dir / "figures" / "class_similarity.csv").set_index("class").to_numpy()
    np.testing.assert_allclose(np.diag(similarity), 1)


def test_the_same_run_gives_the_same_page_wherever_it_is_written(made: tuple[Path, str, Page], tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    assert write_report(made[0], out) == out
    assert out.read_text(encoding="utf-8") == made[1]


def test_text_from_data_stays_text(tmp_path: Path) -> None:
    names = [HOSTILE, *"bcd"]
    ids = [f"{HOSTILE}{index}.png" for index in range(24)]
    text, page = written(tmp_path / "run", names=names, ids=ids)
    assert page.open == []
    assert [
        attributes for tag, attributes in page.tags if attributes.get("src") == "x" or "onerror" in attributes
    ] == []
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert len(re.findall(r"<script", text)) == 3
    assert "49" not in page.text_of("figcaption")
    explorer = data_of(page)["explorer"]
    assert explorer["classNames"] == [name.replace("\u202e", "\ufffd") for name in names]
    assert explorer["images"]["id"] == [name.replace("\u202e", "\ufffd") for name in ids]
    assert "<" not in page.scripts[0]
    assert "images of label <img src=x onerror=alert(1)>&amp;" in page.text_of("figcaption")
    assert "\u202e" not in text  # which would turn round what comes after it
    assert "\\u202e" not in text


def test_skipped_images_are_counted_and_named(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", evidence=0)
    (run_dir / "metrics.json").write_text(json.dumps({"images": 24, "skipped_images": 30}))
    write_skipped(run_dir, 0, 1, [(f"cat{index:02d}.png", "no image <b>") for index in range(30)])
    text = write_report(run_dir).read_text(encoding="utf-8")
    assert "30 images were skipped and not counted" in Page(text).words
    assert "<li>cat19.png: no image &lt;b&gt;</li><li>and 10 more</li>" in text
    assert "cat20.png" not in text


def test_a_run_without_effects_labels_or_evidence_says_so(tmp_path: Path) -> None:
    text, page = written(tmp_path / "run", labelled=False, evaluated=False, evidence=0, scorers=["activation"])
    assert "No intervention was measured in this run" in page.words
    assert "Do the methods differ?" not in page.words
    assert "Predicted correctly" not in page.words
    assert "Classes are the images' targets" in page.words
    assert "evidence=true" in page.words
    data = data_of(page)
    assert data["evidence"] is None
    assert set(unpack(data["explorer"]["images"]["outcome"])) == {2}
    assert "effects" not in data["tables"]
    assert text.count("data:image/png") == 5


def test_a_run_of_one_class_has_a_page(tmp_path: Path) -> None:
    _, page = written(tmp_path / "run", n_classes=1, n_each=3)
    assert "needs two classes or more" in page.words
    assert data_of(page)["order"] is None


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match=r"holds no paths\.parquet"):
        write_report(tmp_path)


def test_paths_of_several_neurons_a_block_have_curves_where_several_sizes_were_measured(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", top_k=3, scorers=["joint_attribution"], evidence=0)
    whole = load_effects(run_dir)
    table = pa.Table.from_pandas(pd.concat([whole, whole.assign(size=1)]), effect_schema(), preserve_index=False)
    write_effects(run_dir, table, whole.attrs["provenance"])
    page = Page(write_report(run_dir).read_text(encoding="utf-8"))
    explorer = data_of(page)["explorer"]
    stored = np.stack(load_paths(run_dir)["path"].tolist())
    assert explorer["topK"] == 3
    np.testing.assert_array_equal(unpack(explorer["methods"][0]["paths"]).reshape(24, 5, 3), stored)
    assert "Necessity and sufficiency" in page.text_of("figcaption")
    curve = pd.read_csv(run_dir / "figures" / "edit_curves.csv").query("operation == 'remove'")
    assert sorted(curve["size"]) == [1, 3]
    assert curve["n"].tolist() == [24, 24]


def test_of_a_margin_page_tiles_and_figures_tell_its_change(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", top_k=2, evidence=0, target="margin")
    whole = load_effects(run_dir)
    schema = effect_schema(valued=True)
    table = pa.Table.from_pandas(pd.concat([whole, whole.assign(size=0)]), schema, preserve_index=False)
    write_effects(run_dir, table, whole.attrs["provenance"])
    text = write_report(run_dir).read_text(encoding="utf-8").replace("\xa0", " ")
    for told in (
        "Removing the path changes the target margin (logits) by −",
        "Change of target margin (logits) [95 % interval]",
        'data-label="Target margin (logits)"',
        "change of the target margin (logits)",
        "Change of the target margin (logits), with 95 % intervals",
        "removing the path of joint attribution changes the target margin (logits) by −",
    ):
        assert told in text
    assert "target probability" not in text
    assert "% [" not in re.sub(r"\[95 % interval\]", "", text.split("<h2", 1)[0])
    curve = pd.read_csv(run_dir / "figures" / "edit_curves.csv").query("scorer == 'joint_attribution'")
    removed = whole.query("scorer == 'joint_attribution' and operation == 'remove'")
    expected = (removed["edited_value"] - removed["clean_value"]).mean()
    found = curve.query("operation == 'remove'")["value_difference"].tolist()
    assert found == pytest.approx([expected] * 2)
