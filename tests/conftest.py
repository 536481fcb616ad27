"""What holds for all tests: a cache and threads of their own, and who loads the libraries."""

from __future__ import annotations

import atexit
import gc
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.covering import leave_the_rest_to_stress

# A cache of their own for the tests and all that they start, so that the user's is neither read nor written.
_CACHE = tempfile.TemporaryDirectory(prefix="neuron-path-cache-")
atexit.register(_CACHE.cleanup)
os.environ["XDG_CACHE_HOME"] = _CACHE.name
# Tiny tensors: threads only wait for each other, here and in processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# What is loaded before the first test is no garbage, and need not be looked through again and again.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Load torch and the like, but not in a process that only deals out the tests to others."""
    plugins = session.config.pluginmanager
    if plugins.hasplugin("dsession"):
        gc.enable()
    else:
        plugins.import_plugin("tests.fixtures")


def pytest_collection_finish() -> None:
    """The tests begin."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even load the browser's tests where they are left out."""
    return True if collection_path.name == "browser" and "not browser" in config.option.markexpr else None


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    leave_the_rest_to_stress(items)
    if config.option.markexpr == "core":  # of its tests too only what is not slow
        config.option.markexpr = "core and not slow"
