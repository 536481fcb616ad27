"""The page of `neuron-path app` in a browser: a picture is dropped, its path edited, and its command run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import neuron_path
from neuron_path.app.page import served
from neuron_path.app.workbench import Workbench
from neuron_path.cli.hydra_app import compose_config
from tests.command import call

pytestmark = pytest.mark.browser
SETTINGS = ["trainer=cpu", "data.limit=12"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with served(Workbench(compose_config(SETTINGS), SETTINGS)) as address:
            assert address.startswith("http://127.0.0.1:")
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
    page.locator("#file input[type=file]").set_input_files(file)


def text_of(page: Page, code: str) -> str:
    """The lines in a box of code."""
    page.get_by_role("tab", name="Reproduce").click()
    page.locator(f"{code} .cm-line").first.wait_for()
    return "\n".join(page.locator(f"{code} .cm-line").all_inner_texts())


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

    page.locator("#operation").get_by_text("remove", exact=True).click()
    expect(page.locator("#edited tbody tr").first).to_be_visible()
    after = neuron_path.intervene(model, input_, expected.paths, "remove").softmax(1)[0]
    best = int(clean.argmax())
    row = page.locator("#edited tbody tr").first.locator("td").all_inner_texts()
    assert [row[0], row[1], row[2]] == [str(best), f"{float(clean[best]):.4f}", f"{float(after[best]):.4f}"]

    command = text_of(page, "#command").splitlines()[-1]
    out = tmp_path / "run"
    words = [word.replace("DIR", str(file.parent)) for word in shlex.split(command)[1:]]
    code, _, err = call(*[word.replace("outputs/app", str(out)) for word in words])
    assert (code, err) == (0, "")
    paths = neuron_path.load_paths(out)
    assert np.array_equal(paths["path"].iloc[0], expected.paths[0].numpy())


def test_a_broken_picture_is_one_line_and_the_next_one_works(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    drop(page, broken)
    expect(page.locator("#error")).to_contain_text("broken.png")
    assert page.locator("#error p").count() == 1
    page.get_by_label("or pick one of the data").first.click()
    page.get_by_role("option").nth(2).click()
    expect(page.locator("#path img")).to_be_visible()
    expect(page.locator("#error")).not_to_contain_text("broken.png")
