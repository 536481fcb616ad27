"""`neuron-path app` in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def app(settings: Sequence[str], folder: Path) -> Iterator[tuple[str, int]]:
    """The page's address and its server's process id; it is started in a folder and asked to end after the block."""
    command = [sys.executable, "-m", "neuron_path", "app", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        try:
            assert said.startswith("NeuronPath is at http://127.0.0.1:"), said
            yield said.split()[3].rstrip("/:"), server.pid
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
