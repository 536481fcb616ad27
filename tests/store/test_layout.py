"""A run directory is fresh and writable, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.layout import list_parts, next_sequence, open_run_dir, part_path


def test_a_new_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    run_dir = open_run_dir(str(tmp_path / "a" / "b"))
    assert run_dir == tmp_path / "a" / "b"
    assert list(run_dir.iterdir()) == []


def test_logs_and_leftovers_do_not_occupy_a_directory(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "run.log").touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".part-00000-000000.parquet.1.ab.tmp").touch()
    assert open_run_dir(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("paths.parquet", "a finished paths.parquet"),
        ("parts/part-00000-000000.parquet", "1 file(s) in parts/"),
        ("parts/notes.txt", "1 file(s) in parts/"),
    ],
)
def test_results_are_never_written_over(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"results")
    with pytest.raises(NeuronPathError, match="already holds results") as error:
        open_run_dir(tmp_path)
    assert told in str(error.value)
    assert (tmp_path / name).read_bytes() == b"results"


@pytest.mark.parametrize("place", ["/proc/x", "/dev/null/x", "nul\0byte", "{}/file", "{}/file/x", "{}/occupied"])
def test_an_impossible_directory_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "parts").touch()
    with pytest.raises(NeuronPathError) as error:
        open_run_dir(place.format(tmp_path))
    assert "\n" not in str(error.value)


def test_a_directory_without_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # By hand, because tests in a container run as root, whom no permission bit stops.
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(NeuronPathError, match=r"Permission denied\. Choose a directory that you may write to"):
        open_run_dir(tmp_path)


def test_parts_are_told_from_foreign_files(tmp_path: Path) -> None:
    assert list_parts(tmp_path) == ([], [])
    (tmp_path / "parts").mkdir()
    ours = [part_path(tmp_path, 0, 3), part_path(tmp_path, 1, 1_000_000)]
    foreign = [tmp_path / "parts" / "part-0.parquet"]
    for file in [*ours, *foreign, tmp_path / "parts" / "x.tmp"]:
        file.touch()
    assert list_parts(tmp_path) == (ours, foreign)
    assert [next_sequence(tmp_path, rank) for rank in range(3)] == [4, 1_000_001, 0]
