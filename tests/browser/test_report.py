"""The report in a browser: it shows what is stored, and each way to look at it works by mouse, keyboard and link."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

from neuron_path.classes.grouping import group_paths
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.report.run_page.page import write_report
from neuron_path.store.reader import load_paths
from tests.browser.conftest import Opener
from tests.report.runs import write_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(run_dir: Path) -> Path:
    return run_dir / "report.html"


@pytest.fixture(scope="module")
def paths(run_dir: Path) -> pd.DataFrame:
    return load_paths(run_dir)


def rows_of(paths: pd.DataFrame, scorer: str = "joint_attribution") -> pd.DataFrame:
    return paths.loc[paths["scorer"] == scorer].reset_index(drop=True)


def stacked(rows: pd.DataFrame) -> np.ndarray:
    return np.stack(rows["path"].tolist())


def panel(page: Page, side: str) -> Locator:
    return page.locator(f".panel.{side}")


def choose(page: Page, side: str, role: str, value: int | str) -> None:
    panel(page, side).locator(f"[data-role={role}]").select_option(str(value))


def cells(table: Locator) -> list[list[str]]:
    return [row.split("\t") for row in table.locator("tbody").evaluate(
        "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent).join('\\t'))"
    )]  # fmt: skip


def download(page: Page, button: Locator) -> bytes:
    with page.expect_download() as started:
        button.click()
    return Path(started.value.path()).read_bytes()


def table_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"))))


def top_neurons(rows: pd.DataFrame) -> list[list[Any]]:
    """For each block the most frequent neuron (ties: the lowest) and in how many paths it is, by counting."""
    found = []
    for chosen in stacked(rows).T.tolist():
        best = min(set(chosen), key=lambda neuron: (-chosen.count(neuron), neuron))
        found.append([best, chosen.count(best)])
    return found


def test_it_opens_without_complaint_and_shows_the_largest_class(
    report: Path, paths: pd.DataFrame, open_page: Opener
) -> None:
    page = open_page(report)
    assert page.title() == "Neuron paths of made_up_vit"
    rows = rows_of(paths)
    own = rows.loc[rows["label"] == 0]
    right = int((own["label"] == own["prediction"]).sum())
    expect(panel(page, "a").locator("[data-role=subject]")).to_have_text(
        f"6 images of label 0 class 0, {right} of 6 predicted correctly."
    )
    expect(panel(page, "b")).to_be_hidden()
    panel(page, "a").locator("details summary").click()
    shown = cells(panel(page, "a").locator("table"))
    assert [[int(row[1]), row[2]] for row in shown] == [[best, f"{n} of 6"] for best, n in top_neurons(own)]


def test_an_image_is_picked_and_its_path_is_the_stored_one(
    report: Path, paths: pd.DataFrame, open_page: Opener
) -> None:
    page = open_page(report)
    rows = rows_of(paths, "activation")
    choose(page, "a", "method", 1)
    choose(page, "a", "class", 2)
    choose(page, "a", "image", 14)
    row = rows.iloc[14]
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text(row["sample_id"])
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label class 2, predicted class 3: wrong")
    panel(page, "a").locator("details summary").click()
    shown = cells(panel(page, "a").locator("table"))
    assert [int(cells[1]) for cells in shown] == row["path"].tolist()
    margins = [float(cells[2]) for cells in shown]
    np.testing.assert_allclose(margins, row["margins"], rtol=0.01)
    assert "a=image%3Aclass_002%2F00014.png" in page.url
    assert "a.method=activation" in page.url


def test_two_methods_are_compared_side_by_side(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    page.get_by_label("Compare two views").check()
    expect(panel(page, "b")).to_be_visible()
    left, right = (panel(page, side).bounding_box() for side in "ab")
    assert left is not None
    assert right is not None
    assert abs(left["y"] - right["y"]) < 1
    assert right["x"] > left["x"] + 300
    one, other = (rows_of(paths, scorer).query("label == 0") for scorer in ("joint_attribution", "activation"))
    common = np.mean(stacked(one) == stacked(other))
    same = sum(a[0] == b[0] for a, b in zip(top_neurons(one), top_neurons(other), strict=True))
    told = page.locator("#comparison")
    expect(told).to_contain_text(f"The most frequent neuron is the same in {same} of 5 blocks")
    expect(told).to_contain_text(f"have {100 * common:.0f}\u00a0% in common, on average")
    rows = table_of(download(page, page.locator("#comparison-csv")))
    assert sum(int(row["images_a"]) for row in rows) == sum(int(row["images_b"]) for row in rows) == 30
    page.get_by_label("Compare two views").uncheck()
    expect(panel(page, "b")).to_be_hidden()


def test_two_classes_are_compared_from_the_list_of_pairs(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    page.locator("#classes").scroll_into_view_if_needed()
    grouped = group_paths(paths, scorer="joint_attribution")
    similarity = class_similarity(count_usage(grouped))
    one, other = np.unravel_index(np.argmax(np.triu(similarity, 1)), similarity.shape)
    first = page.locator(".pairs li").first
    expect(first).to_have_text(f"{one} class {one} and {other} class {other}: {similarity[one, other]:.2g}")
    first.locator("button").click()
    expect(panel(page, "b").locator("[data-role=subject]")).to_contain_text(f"class {other}")
    expect(page.locator("#comparison")).to_contain_text(f"cosine similarity of usage {similarity[one, other]:.2g}")
    rows = rows_of(paths)
    own, others = stacked(rows.loc[rows["label"] == one]), stacked(rows.loc[rows["label"] == other])
    overlap = np.mean(own[:, None] == others[None])
    expect(page.locator("#comparison")).to_contain_text(
        f"have {100 * overlap:.0f}\u00a0% in common, on average over 36 pairs"
    )


def test_similarities_are_those_of_the_package(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    page.locator("#classes").scroll_into_view_if_needed()
    for place, scorer in enumerate(("joint_attribution", "activation", "random")):
        page.locator("#similarity-method").select_option(str(place))
        rows = table_of(download(page, page.locator("#similarity-csv")))
        order = [int(row["class"]) for row in rows]
        found = np.array([[float(row[str(index)]) for index in order] for row in rows])
        expected = class_similarity(count_usage(group_paths(paths, scorer=scorer)))
        np.testing.assert_allclose(found, expected[np.ix_(order, order)], rtol=1e-9)


@pytest.mark.parametrize("kind", ["correct", "wrong"])
def test_images_are_filtered_by_their_prediction(
    kind: str, report: Path, paths: pd.DataFrame, open_page: Opener
) -> None:
    page = open_page(report)
    page.get_by_label(re.compile(f"^{kind} prediction")).check()
    rows = rows_of(paths)
    right = rows["label"] == rows["prediction"]
    own = rows.loc[(rows["label"] == 0) & (right if kind == "correct" else ~right)]
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text(f"{len(own)} image")
    listed = panel(page, "a").locator("[data-role=image] option").all_text_contents()
    mark = "✓ " if kind == "correct" else "✗ "
    assert listed[1:] == [mark + name for name in own["sample_id"]]
    data = table_of(download(page, panel(page, "a").get_by_role("button", name="Data (CSV)")))
    usage = {(int(row["block"]), int(row["neuron"])): int(row["images"]) for row in data}
    expected: dict[tuple[int, int], int] = {}
    for path in own["path"]:
        for block, neuron in enumerate(path.tolist()):
            expected[block, neuron] = expected.get((block, neuron), 0) + 1
    assert usage == expected
    assert {row["predictions"] for row in data} == {kind}
    assert f"filter={kind}" in page.url


def test_a_link_leads_to_its_view_and_back(report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A2&a.method=random&b=image%3Aclass_001%2F00008.png&filter=correct&neuron=3.17")
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label 2 class 2 (correct predictions)")
    assert panel(page, "a").locator("[data-role=method]").input_value() == "2"
    expect(panel(page, "b").locator("[data-role=subject]")).to_contain_text("class_001/00008.png")
    expect(page.locator("#neuron h3")).to_have_text("Neuron 17 of block 3")
    assert page.get_by_label(re.compile("^correct prediction")).is_checked()
    assert page.locator("#explorer").evaluate("part => Math.abs(part.getBoundingClientRect().top)") < 60
    choose(page, "a", "class", 3)
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label 3")
    page.go_back()
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label 2")
    address = page.locator("#link").evaluate("link => link.href")
    page.goto("about:blank")
    page.goto(address)
    expect(panel(page, "b").locator("[data-role=subject]")).to_contain_text("class_001/00008.png")
    expect(page.locator("#neuron h3")).to_have_text("Neuron 17 of block 3")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("#a=image%3Anone.png", "the image “none.png”"),
        ("#a=class%3A77&filter=odd", "the filter “odd”, the class “77”"),
        ("#a=class%3A1&a.method=other&neuron=1.9999", "the neuron “1.9999”, the method “other”"),
        ("#a=%3Cscript%3Ealert(1)%3C/script%3E", "the view “<script>alert(1)</script>”"),
    ],
)
def test_a_link_to_what_is_not_there_says_so(address: str, told: str, report: Path, open_page: Opener) -> None:
    page = open_page(report, address)
    expect(page.locator("#status")).to_contain_text(f"This report does not hold {told}")
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("images of label")


def test_a_link_to_a_section_changes_no_view(report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A3")
    page.get_by_role("link", name="Figures").click()
    expect(page.locator("#status")).to_have_text("")
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label 3")


def marker(page: Page, side: str, place: int) -> tuple[float, float]:
    """Where on the screen a neuron's mark is."""
    box = panel(page, side).locator(".scatterlayer .trace:nth-child(2) .point").nth(place).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_pointing_at_a_neuron_tells_about_it(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    panel(page, "a").scroll_into_view_if_needed()
    page.mouse.move(*marker(page, "a", 0))
    best, times = top_neurons(rows_of(paths).query("label == 0"))[0]
    expect(page.locator(".hoverlayer")).to_contain_text(f"on the path of {times} of 6 images")
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {best} of block 0")
    everywhere = stacked(rows_of(paths))[:, 0].tolist().count(best)
    expect(page.locator("#neuron")).to_contain_text(f"{everywhere} of 24")
    page.mouse.click(*marker(page, "a", 0))
    expect(page).to_have_url(re.compile(rf"neuron=0\.{best}$"))


def test_the_arrow_keys_move_among_neurons(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A1")
    own = rows_of(paths).query("label == 1")
    tops = [best for best, _ in top_neurons(own)]
    panel(page, "a").locator("[data-role=plot]").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {tops[0]} of block 0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {tops[1]} of block 1")
    chosen = sorted(set(stacked(own)[:, 1].tolist()))
    above = [neuron for neuron in chosen if neuron > tops[1]]
    below = [neuron for neuron in chosen if neuron < tops[1]]
    key, expected = ("ArrowUp", above[0]) if above else ("ArrowDown", below[-1])
    page.keyboard.press(key)
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {expected} of block 1")
    assert panel(page, "a").locator("[data-role=plot]").evaluate("plot => plot === document.activeElement")


def test_the_keyboard_keeps_its_place(report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A0&b=class%3A1")
    panel(page, "a").locator("[data-role=class]").focus()
    page.keyboard.press("ArrowDown")
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("label 1")
    assert page.evaluate("document.activeElement.dataset.role") == "class"
    page.locator("#comparison summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {first} of block 0")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    second = page.evaluate("document.activeElement.textContent")
    expect(page.locator("#neuron h3")).to_have_text(f"Neuron {second} of block 0")
    panel(page, "b").locator(".strip button").nth(2).focus()
    page.keyboard.press("Space")
    expect(panel(page, "b").locator("[data-role=subject]")).to_contain_text("class_001/")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_everything_can_be_reached_and_has_a_name(report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A1&b=class%3A2")
    page.locator("#classes").scroll_into_view_if_needed()
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => { const now = document.activeElement;
            return now === document.body ? null : now.dataset?.role ?? now.id ?? now.tagName }"""
        )
        if name is None:
            break
        reached.add(name)
    assert {"class", "image", "method", "plot", "csv", "png", "compare", "similarity-csv", "link"} <= reached
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, a, [tabindex]")]
        .filter(one => one.offsetParent && !(one.getAttribute("aria-label") || one.textContent.trim()
            || one.labels?.length)).map(one => one.outerHTML)"""
    )
    assert unnamed == []


def test_evidence_is_shown_with_its_patches(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    neuron = page.locator("#neuron")
    expect(neuron).to_contain_text("Patches by this neuron's activation at patch tokens")
    assert neuron.locator(".evidence figure").count() == 10
    assert neuron.locator(".evidence img").count() == 10
    boxes = neuron.locator(".evidence i").evaluate_all("marks => marks.map(mark => mark.style.width)")
    np.testing.assert_allclose([float(box.rstrip("%")) for box in boxes], [25] * 5, atol=0.1)
    name = neuron.locator(".evidence button").first.get_attribute("title") or ""
    neuron.locator(".evidence button").first.click()
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text(name)


def test_a_map_of_an_image_s_neuron_is_shown(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    row = rows_of(paths).iloc[14]
    neuron = int(row["path"][2])
    expect(page.locator("#neuron canvas")).to_have_count(0)
    page.goto(f"{report.as_uri()}#a=image%3Aclass_002%2F00014.png&a.method=joint_attribution&neuron=2.{neuron}")
    canvas = page.locator("#neuron canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile(r"highest 15 in row 3, column 3, lowest −15$"))
    seen = canvas.evaluate("it => [...it.getContext('2d').getImageData(0, 0, it.width, it.height).data]")
    colours = np.array(seen).reshape(4, 4, 4)
    assert colours[0, 0].tolist() == pytest.approx([0, 114, 178, 184], abs=2)
    assert colours[3, 3].tolist() == pytest.approx([213, 94, 0, 184], abs=2)
    rows = table_of(download(page, page.locator("#neuron figure").get_by_role("button", name="Data (CSV)")))
    values = [15 * (byte - 128) / 127 for byte in [*range(1, 255, 17), 255]]
    np.testing.assert_allclose([float(each["activation"]) for each in rows], values)
    assert [rows[6][name] for name in ("row", "column", "block", "neuron")] == ["1", "2", "2", str(neuron)]
    other = next(
        one for one in range(40) if one not in stacked(paths.loc[paths["sample_id"] == row["sample_id"]])[:, 2]
    )
    page.goto(f"{page.url.partition('&neuron')[0]}&neuron=2.{other}")
    expect(page.locator("#neuron .maps")).to_have_text(
        f"No map of {row['sample_id']}: the neuron is not on its path, or sees no patch there."
    )


def arcs(page: Page, side: str = "a") -> Locator:
    return panel(page, side).locator(".shapelayer path")


def test_edges_of_an_image_s_path_are_drawn(report: Path, paths: pd.DataFrame, open_page: Opener) -> None:
    page = open_page(report)
    caption, toggle = panel(page, "a").locator("[data-role=caption]"), page.get_by_label("Edges of an image's path")
    expect(caption).to_contain_text("Edges between neurons are kept of 12 images, on their paths by joint attribution")
    expect(arcs(page)).to_have_count(0)
    page.goto(f"{report.as_uri()}#a=image%3Aclass_002%2F00014.png")
    expect(arcs(page)).to_have_count(4)
    # Of 15, 7.5, 3.75 and 1.875 the strongest is drawn last; every other one lowers the target.
    widths = arcs(page).evaluate_all("all => all.map(one => parseFloat(getComputedStyle(one).strokeWidth))")
    assert widths == pytest.approx([0.75, 1.5, 3, 6])
    colours = arcs(page).evaluate_all("all => all.map(one => getComputedStyle(one).stroke)")
    assert colours == ["rgb(0, 105, 166)", "rgb(194, 78, 0)"] * 2
    expect(caption).to_contain_text("4 of 50 edges are drawn, the largest, with 75\u00a0% of all magnitudes.")
    panel(page, "a").locator("details summary").click()
    path = rows_of(paths).iloc[14]["path"].tolist()
    shown = cells(panel(page, "a").locator("table").nth(1))
    values = ["1.5e+1", "−7.5e+0", "3.8e+0", "−1.9e+0"]
    assert shown == [[f"{i}: {path[i]}", f"{i + 1}: {path[i + 1]}", value] for i, value in enumerate(values)]
    toggle.focus()
    page.keyboard.press("Space")
    expect(arcs(page)).to_have_count(0)
    expect(page).to_have_url(re.compile("edges=off"))
    page.reload()
    expect(toggle).not_to_be_checked()
    expect(arcs(page)).to_have_count(0)
    toggle.check()
    expect(arcs(page)).to_have_count(4)


def test_an_image_without_edges_leads_to_one_with(report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=image%3Aclass_002%2F00014.png")
    expect(arcs(page)).to_have_count(4)
    choose(page, "a", "image", 15)
    expect(arcs(page)).to_have_count(0)
    panel(page, "a").get_by_role("button", name="show one").click()
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text("class_002/00016.png")
    expect(arcs(page)).to_have_count(4)
    choose(page, "a", "method", 1)
    expect(arcs(page)).to_have_count(0)


def test_charts_and_figures_can_be_saved(report: Path, run_dir: Path, open_page: Opener) -> None:
    page = open_page(report)
    picture = download(page, panel(page, "a").get_by_role("button", name="Picture (PNG)"))
    assert picture.startswith(b"\x89PNG")
    for name in ("effects", "class_similarity"):
        saved = download(page, page.locator(f"[data-table={name}]"))
        assert saved == (run_dir / "figures" / f"{name}.csv").read_bytes()
        saved = download(page, page.locator(f"[data-picture={name}]"))
        assert saved == (run_dir / "figures" / f"{name}.png").read_bytes()


@pytest.mark.parametrize("width", [320, 390, 800, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_every_screen_in_light_and_dark(width: int, dark: bool, report: Path, open_page: Opener) -> None:
    page = open_page(report, "#a=class%3A1&b=image%3Aclass_001%2F00008.png&neuron=3.17", width=width, dark=dark)
    page.locator("#classes").scroll_into_view_if_needed()
    expect(page.locator("#similarity-map .main-svg").first).to_be_visible()
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """width => [...document.querySelectorAll("main *")].filter(one => !one.closest("svg, .hoverlayer, pre"))
        .filter(one => one.getBoundingClientRect().right > width + 1).map(one => one.outerHTML.slice(0, 80))""",
        width,
    )
    assert wide == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper)[:3])) < 60) == dark
    faint = page.evaluate(CONTRAST)
    assert faint == []


CONTRAST = """() => {
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("h1, h2, h3, h4, p, dt, dd, li, td, th, summary, a, button, label, legend")]
    .filter((one) => one.offsetParent && one.textContent.trim() && !one.closest(".skip, .disabled"))
    .map((one) => {
      const [high, low] = [light(numbers(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
      return [(high + 0.05) / (low + 0.05), one.outerHTML.slice(0, 60)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


def test_names_from_the_data_stay_text(tmp_path: Path, open_page: Opener) -> None:
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script> <b>bold</b> &amp; %{y}"
    ids = [f"{index} {hostile}" for index in range(24)]
    run_dir = write_run(tmp_path / "run", names=[hostile] * 4, ids=ids)
    page = open_page(write_report(run_dir))
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text(f"label 0 {hostile}")
    choose(page, "a", "image", 3)
    expect(panel(page, "a").locator("[data-role=subject]")).to_contain_text(ids[3])
    page.get_by_label("Compare two views").check()
    page.locator("#classes").scroll_into_view_if_needed()
    expect(page.locator("#similarity-map .xtick text").first).to_contain_text("0 <img src=x")
    page.locator("#similarity-map .nsewdrag").hover(position={"x": 5, "y": 150})
    expect(page.locator("#similarity-map .hoverlayer")).to_contain_text("<b>bold</b> &amp; %{y}")
    assert page.locator("img[src=x]").count() == 0
    rows = table_of(download(page, panel(page, "a").get_by_role("button", name="Data (CSV)")))
    assert {row["sample_id"] for row in rows} == {ids[3]}


def test_paths_of_several_neurons_and_runs_without_labels(tmp_path: Path, open_page: Opener) -> None:
    run_dir = write_run(tmp_path / "run", top_k=3, labelled=False, evaluated=False, evidence=0, scorers=["activation"])
    page = open_page(write_report(run_dir))
    expect(page.locator("#filter")).to_be_hidden()
    expect(page.locator("#edges")).to_have_count(0)
    expect(page.locator("#explorer")).to_contain_text("evidence=true")
    choose(page, "a", "image", 2)
    panel(page, "a").locator("details summary").click()
    shown = [int(row[1]) for row in cells(panel(page, "a").locator("table"))]
    stored = load_paths(run_dir)["path"].iloc[2]
    assert shown == stored.ravel().tolist()
    page.get_by_label("Compare two views").check()
    expect(page.locator("#comparison")).to_contain_text("in common")
    one, other = stacked(load_paths(run_dir))[2], stacked(load_paths(run_dir).query("target == 1"))
    jaccard = [
        np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in zip(one.tolist(), path, strict=True)])
        for path in other.tolist()
    ]
    expect(page.locator("#comparison")).to_contain_text(f"have {100 * np.mean(jaccard):.0f}\u00a0% in common")
