"""Requests to end that arrive at inconvenient moments."""

from __future__ import annotations

import signal

import pytest

from neuron_path import stopping


class _Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_finalizer_swallows_of_ctrl_c_is_raised_by_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping.stoppable():
        stopping.check()
        _Finalized()
        assert stopping.is_requested()
        with pytest.raises(KeyboardInterrupt) as ended:
            stopping.check()
        assert not isinstance(ended.value, stopping.Terminated)
    assert not stopping.is_requested()
    assert signal.getsignal(signal.SIGINT) is before


def _interrupted() -> None:
    with stopping.stoppable(), stopping.between_batches():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("It went on.")


def test_ctrl_c_does_not_wait_for_the_images_in_flight() -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted()
