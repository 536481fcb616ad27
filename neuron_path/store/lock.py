"""One command at a time writes into a run directory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from neuron_path.errors import NeuronPathError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 15.0  # seconds; data workers of a run that was killed live on for a few
_PAUSE = 0.1


@contextlib.contextmanager
def locked(run_dir: Path, patience: float = PATIENCE, *, otherwise: str = "") -> Iterator[int | None]:
    """Hold the run directory; gives the descriptor that processes which work for this one may inherit.

    The lock is the operating system's, on the directory itself: it leaves no file behind and ends with the last process
    that holds the descriptor, however that ends. Where the file system knows no locks (some network mounts), nothing is
    held, and None is given.

    Args:
        run_dir: the directory, which exists.
        patience: seconds to wait for it.
        otherwise: what else can be done, for the message, as ", or choose another directory".

    Raises:
        NeuronPathError: when another process still holds it after ``patience`` seconds.
    """
    descriptor = _acquire(run_dir, patience, otherwise)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _acquire(run_dir: Path, patience: float, otherwise: str) -> int | None:
    if fcntl is None:
        return None
    descriptor = os.open(run_dir, os.O_RDONLY)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise NeuronPathError(
                    f"Run directory {os.fspath(run_dir)!r} is in use by another command: let it finish{otherwise}."
                ) from None
            time.sleep(_PAUSE)
        except OSError:
            os.close(descriptor)
            return None
