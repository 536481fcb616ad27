"""The page of `neuron-path app` in a browser: a picture is dropped, its path edited, and its command run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

import neuron_path
from neuron_path.app.workbench import Choice, Workbench
from neuron_path.cli.hydra_app import compose_config
from tests.browser.app import app
from tests.command import call

pytestmark = pytest.mark.browser
SETTINGS = ["trainer=cpu", "data.limit=12"]
FIRST = "digits/0021"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    here = tmp_path_factory.mktemp("here")
    with app(SETTINGS, here) as (address, _):
        yield address
    assert list(here.iterdir()) == []  # nothing is written where it was started


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page; when the test ends, nothing may have been fetched from elsewhere."""
    strangers: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    own = (address, address.replace("http", "ws", 1), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else strangers.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert strangers == []


def drop(page: Page, file: Path) -> None:
    page.locator("#choose input[type=file]").set_input_files(file)


def pick(page: Page, place: int) -> None:
    """One of the data's pictures."""
    page.locator("#choose select[name=sample]").select_option(index=place + 1)


def test_a_dropped_picture_has_a_path_that_is_edited_and_found_again(page: Page, tmp_path: Path) -> None:
    image = neuron_path.load_digits("test")[0][7, 0]
    file = tmp_path / "mine" / "seven.png"
    file.parent.mkdir()
    Image.fromarray(((image / 2 + 0.5) * 255).round().to(torch.uint8).numpy()).save(file)

    drop(page, file)
    expect(page.get_by_role("img", name="Neuron path of seven.png")).to_be_visible()
    model = neuron_path.load_model("digits_vit")
    input_ = torch.from_numpy(np.asarray(Image.open(file), dtype=np.float32) / 255 * 2 - 1)[None, None]
    expected = neuron_path.find_paths(model, input_, search="linearized")
    clean = model(input_).softmax(1)[0]
    expect(page.locator("#prediction td").first).to_have_text(str(int(clean.argmax())))

    page.get_by_label("remove", exact=True).check()
    expect(page.locator("#edited tbody tr").first).to_be_visible()
    after = neuron_path.intervene(model, input_, expected.paths, "remove").softmax(1)[0]
    best = int(clean.argmax())
    row = page.locator("#edited tbody tr").first.locator("td").all_inner_texts()
    assert [row[0], row[1], row[2]] == [str(best), f"{float(clean[best]):.4f}", f"{float(after[best]):.4f}"]

    page.locator("summary", has_text="Find this path again").click()
    command = page.locator("#command").inner_text().splitlines()[-1]
    out = tmp_path / "run"
    words = [word.replace("DIR", str(file.parent)) for word in shlex.split(command)[1:]]
    code, _, err = call(*[word.replace("outputs/app", str(out)) for word in words])
    assert (code, err) == (0, "")
    paths = neuron_path.load_paths(out)
    assert np.array_equal(paths["path"].iloc[0], expected.paths[0].numpy())


@pytest.mark.parametrize(("name", "told"), [("broken", "broken.png"), ("huge", "too large")])
def test_a_picture_that_is_none_is_one_line_and_the_next_one_works(
    page: Page, tmp_path: Path, name: str, told: str
) -> None:
    file = tmp_path / f"{name}.png"
    if name == "huge":
        Image.new("1", (9000, 9000)).save(file)
    else:
        file.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    drop(page, file)
    expect(page.locator("#error")).to_contain_text(told)
    pick(page, 2)
    expect(page.locator("#path svg")).to_be_visible()
    expect(page.locator("#error")).to_be_empty()


def test_a_neuron_that_is_clicked_is_edited_and_looked_at_alone(page: Page) -> None:
    bench = Workbench(compose_config(SETTINGS), SETTINGS)
    found = bench.find(bench.picked(bench.sample_ids[2]), Choice(top_k=2))
    block, neuron = bench.neurons(found)[7]
    page.get_by_label("Neurons per block").fill("2")  # before there is a picture
    pick(page, 2)
    page.get_by_label("remove", exact=True).check()
    expect(page.locator("#edited tbody tr").first).to_be_visible()
    page.locator(".node").nth(7).locator(".reach").click(force=True)
    expect(page.locator("#neuron")).to_have_value(f"{block}/{neuron}")
    expect(page.locator("#looked")).to_contain_text("evidence=true")
    expected = [f"{value:.4f}" for value in bench.edited(found, "remove", (block, neuron))["after"]]
    expect(page.locator("#edited td:nth-child(3)")).to_have_text(expected)
    page.get_by_label("activation").check()
    expect(page.get_by_role("img", name=f"Heat map of block {block}, neuron {neuron}: activation")).to_be_visible()


def test_two_pictures_and_two_classes_are_compared(page: Page) -> None:
    names = Workbench(compose_config(SETTINGS), SETTINGS).sample_ids
    pick(page, 2)
    expect(page.get_by_role("img", name=f"Neuron path of {names[2]}")).to_be_visible()
    headings = page.locator("#compared table").last.locator("th")
    page.locator("#other-class").select_option("3")
    expect(headings.nth(2)).to_have_text(f"{names[2]}: 3")
    page.locator("#other-sample").select_option(names[4])
    expect(headings.nth(2)).to_have_text(f"{names[4]}: 3")
    assert page.locator("#compared table").last.locator("tbody tr").count() == 12


def test_tabs_wait_for_each_other_and_a_closed_one_disturbs_nobody(browser: Browser, address: str) -> None:
    tabs = [browser.new_page() for _ in range(3)]
    for number, tab in enumerate(tabs):
        tab.set_default_timeout(60_000)
        tab.goto(address)
        pick(tab, number)  # all three before any is waited for
    tabs[0].close()
    for tab in tabs[1:]:
        expect(tab.locator("#path svg")).to_be_visible()
        tab.close()


@pytest.mark.parametrize(
    ("form", "fields", "told"),
    [
        ("find", {"sample": "nobody"}, "no picture &#x27;nobody&#x27;"),
        ("find", {"sample": FIRST, "top_k": "0"}, "k is &#x27;0&#x27;; expected a whole number"),
        ("find", {"sample": FIRST, "search": "best"}, "No search is named &#x27;best&#x27;"),
        ("find", {"sample": FIRST, "target_class": "ten"}, "The target class is &#x27;ten&#x27;"),
        ("find", {"sample": FIRST, "target_class": "10"}, "10"),
        ("edit", {"operation": "remove"}, "There is no path yet"),
        ("look", {"found": "of-long-ago", "quantity": "activation"}, "no longer kept"),
    ],
)
def test_what_a_form_never_says_is_one_line(
    page: Page, address: str, form: str, fields: dict[str, str], told: str
) -> None:
    given: dict[str, str | float | bool] = {"search": "linearized", "target": "probability", "top_k": "1", **fields}
    answer = page.request.post(f"{address}/{form}", form=given)
    assert (answer.status, answer.headers["hx-reswap"]) == (200, "none")
    assert told in answer.text()
    assert len(answer.text().splitlines()) == 1


def test_a_body_of_any_size_is_not_read_and_no_other_site_is_answered(page: Page, address: str) -> None:
    large: FilePayload = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(20_200_000)}
    answer = page.request.post(f"{address}/find", multipart={"file": large})
    assert "has 20.2 MB; expected 20 MB at most" in answer.text()
    assert page.request.get(address, headers={"Host": "elsewhere.example"}).status == 400
