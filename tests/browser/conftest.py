"""A browser, and pages in it that may neither complain nor fetch anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from neuron_path.report.run_page.page import write_report
from tests.browser.chromium import QUIET, find_chromium
from tests.report.runs import write_run

Opener = Callable[..., Page]
expect.set_options(timeout=30_000)  # a busy machine is no failure


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with its report."""
    run_dir = write_run(tmp_path_factory.mktemp("browser") / "run")
    write_report(run_dir)
    return run_dir


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Open a report; when the test ends, nothing may have been fetched, complained about or asked of the user."""
    troubles: list[str] = []
    contexts = []

    def complain(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def opener(report: Path, address: str = "", *, width: int = 1440, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda told: troubles.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", complain)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:", "blob:")) else troubles.append(request.url)
            ),
        )
        page.goto(report.as_uri() + address)
        page.wait_for_selector("#panels .main-svg")
        return page

    yield opener
    for context in contexts:
        context.close()
    assert troubles == []
