"""Two commands never write into one directory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store import lock
from neuron_path.store.lock import locked


def test_a_directory_is_held_by_one_at_a_time_and_free_again_after(tmp_path: Path) -> None:
    told = "is in use by another command: let it finish, or go elsewhere.$"
    again = locked(tmp_path, 0.0, otherwise=", or go elsewhere")
    with locked(tmp_path), pytest.raises(NeuronPathError, match=told), again:
        pass
    with locked(tmp_path, 0.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from neuron_path.store.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(NeuronPathError, match="in use"), locked(tmp_path, 0.0):
            pass
        holder.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        pass


def test_who_comes_a_moment_too_early_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path) as descriptor:
        assert descriptor is not None

        def release(_: float) -> None:
            lock.fcntl.flock(descriptor, lock.fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", release)
        with locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path) as descriptor:
        assert descriptor is None
