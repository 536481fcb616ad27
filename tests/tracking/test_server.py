"""Whether W&B's server can be used, with servers of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neuron_path.tracking import server
from tests.tracking.http import ROOT, serve

KEY = "a" * 40


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_answers_can_be_reached_whatever_it_says() -> None:
    with serve() as url:
        assert server.can_reach(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "no-url", "http://host.invalid"])
def test_where_nothing_answers_nothing_can_be_reached(url: str) -> None:
    assert not server.can_reach(url)


def test_a_silent_server_is_not_waited_for(silent: str) -> None:
    begin = time.perf_counter()
    assert not server.can_reach(silent, 0.2)
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("mode", "environment", "has_key", "can_reach", "expected"),
    [
        ("auto", "online", True, True, ("online", "")),
        ("online", "online", True, True, ("online", "")),
        ("auto", "online", False, True, ("offline", "has no API key for http://here (wandb login stores one)")),
        ("online", "online", False, True, ("offline", "has no API key for http://here (wandb login stores one)")),
        ("auto", "online", True, False, ("offline", "cannot reach http://here")),
        ("offline", "online", False, False, ("offline", "")),
        ("auto", "offline", False, False, ("offline", "")),
        ("auto", "disabled", False, False, ("disabled", "")),
    ],
)
def test_the_mode_is_settled(
    mode: str,
    environment: str,
    has_key: bool,
    can_reach: bool,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "has_key", lambda: has_key)
    monkeypatch.setattr(server, "can_reach", lambda url: can_reach)
    settings: Any = SimpleNamespace(mode=environment, base_url="http://here")
    assert server.settle_mode(mode, settings) == expected


@pytest.mark.parametrize(
    ("netrc", "environment", "expected"),
    [
        pytest.param(False, {}, "False", marks=pytest.mark.slow),
        (True, {}, "True"),
        pytest.param(False, {"WANDB_API_KEY": KEY}, "True", marks=pytest.mark.slow),
        # W&B says itself what is wrong with it.
        pytest.param(False, {"WANDB_API_KEY": "short"}, "True", marks=pytest.mark.slow),
    ],
)
def test_a_key_is_found_where_wandb_finds_it(
    netrc: bool, environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    if netrc:
        (tmp_path / ".netrc").write_text(f"machine host.invalid login user password {KEY}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    own = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "WANDB_BASE_URL": "http://host.invalid"}
    program = "from neuron_path.tracking.server import has_key; print(has_key())"
    asked = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | own | {"WANDB_SILENT": "true"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == f"{expected}\n"
