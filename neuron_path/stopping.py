"""A request to end, and how it is met: SIGTERM, as batch systems send it before they take a machine away, or Ctrl-C.

While batches are worked on, SIGTERM is noted, and the images in flight are finished and stored first. At any other
moment it ends the program as Ctrl-C does at all times. Both are remembered: what a handler raises is lost where Python
happens to be in a finalizer, and is then raised by the next :func:`check`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

RESUMABLE = 75
"""The exit code of a search that was asked to end and can be continued: EX_TEMPFAIL of sysexits.h."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class Terminated(KeyboardInterrupt):
    """Another process asked this one to end."""


class _State:
    is_handled = False  # whether the handler below is installed
    is_patient = False
    request: type[KeyboardInterrupt] | None = None
    tell: Callable[[], None] | None = None


_state = _State()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM end what is done in this block by raising :class:`Terminated`, now or after the images in flight.

    Ctrl-C raises KeyboardInterrupt, as everywhere.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers belong to the main thread
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    _state.is_handled, _state.request = True, None
    take_over()
    try:
        yield
    finally:
        _state.is_handled, _state.request = False, None
        for signum, handler in before.items():  # Lightning leaves Ctrl-C ignored after it was pressed
            signal.signal(signum, handler)


@contextmanager
def between_batches(tell: Callable[[], None] | None = None) -> Iterator[None]:
    """In this block a request is noted only, and met by :func:`check` or where the block ends.

    Args:
        tell: hands the request on, as to processes that work for this one.
    """
    _state.is_patient, _state.tell = True, tell
    try:
        yield
    except Exception as error:
        if _state.request is not None:  # data workers that were asked too are gone, and the loader complains
            raise _state.request from error
        raise
    finally:
        _state.is_patient, _state.tell = False, None
    check()


def is_requested() -> bool:
    """Whether the program was asked to end."""
    return _state.request is not None


def check() -> None:
    """Raise :class:`Terminated` or KeyboardInterrupt when the program was asked to end."""
    if _state.request is not None:
        raise _state.request


def take_over() -> None:
    """Install the handler again, where a library has put its own in its place inside a :func:`stoppable` block."""
    if _state.is_handled and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _handle)
        signal.signal(signal.SIGINT, _handle)


def _handle(signum: int, frame: FrameType | None) -> None:
    is_first = _state.request is None
    _state.request = KeyboardInterrupt if signum == signal.SIGINT else _state.request or Terminated
    if not _state.is_patient or signum == signal.SIGINT:
        raise _state.request
    if is_first and _state.tell is not None:
        _state.tell()
