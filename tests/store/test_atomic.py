"""Files are whole or absent, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import atomic_write, write_bytes, write_json, write_text


def one_line(error: pytest.ExceptionInfo[NeuronPathError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mistake", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, mistake: type[BaseException]) -> None:
    write_text(tmp_path / "a.txt", "old")
    expected = NeuronPathError if mistake is OSError else mistake

    def fail() -> None:
        with atomic_write(tmp_path / "a.txt") as file:
            file.write(b"half")
            raise mistake

    with pytest.raises(expected):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_name_appears_with_the_last_byte_only(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as file:
        file.write(b"first")
        file.flush()
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"first"


def test_the_file_takes_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_error_of_the_blocks_own_file_is_not_blamed_on_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open
    # /dev/full fails every write as a full disk does, by the kernel's own hand.
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: real_open("/dev/full", os.O_WRONLY))
    with pytest.raises(NeuronPathError, match="Free some space") as error:
        write_bytes(tmp_path / "a", b"x" * 100_000)
    monkeypatch.undo()
    assert "No space left on device" in one_line(error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_refusals_of_the_system_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(NeuronPathError) as error:
        write_bytes(tmp_path / "a", b"x")
    assert os.strerror(number) in one_line(error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["/proc/nowhere/a", "/dev/null/a", "nul\0byte", "n" * 300, "line\nbreak/\0"])
def test_impossible_places_are_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NeuronPathError, match="Cannot write") as error:
        write_bytes(name, b"x")
    one_line(error)


def test_a_directory_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(NeuronPathError, match="Move the directory") as error:
        write_bytes(tmp_path / "a", b"x")
    one_line(error)
    assert os.listdir(tmp_path) == ["a"]


def test_json_is_strict_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "sub" / "metrics.json", {"low": float("nan"), "name": "β\udce9"})
    text = (tmp_path / "sub" / "metrics.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"low": None, "name": "β\udce9"}
