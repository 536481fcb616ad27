"""Damaged pictures, labels, class indices and shards: one line each, and with on_error=skip the run goes on."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import neuron_path
from neuron_path.data import pictures as reading
from tests import pictures
from tests.bad_input.refusals import Damage, check_refusal, damages, few_by_default
from tests.command import Outcome, run_in
from tests.data.test_shards import png, write

QUICK = ("scorer=activation", "quadrature.n_steps=1", "data.num_workers=0", "trainer=cpu")


def search(folder: Path, *options: str) -> Outcome:
    """A quick search of pictures, into a new directory."""
    return run_in(tempfile.mkdtemp(prefix="run", dir=folder), "search", *QUICK, *options)


def as_bytes(suffix: str) -> bytes:
    stream = io.BytesIO()
    pictures.picture(size=(40, 30), mode="P" if suffix == "gif" else "RGB").save(
        stream, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
    )
    return stream.getvalue()


SUFFIXES = ("png", "jpg", "gif", "tif", "webp", "bmp")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd metadata
def test_damaged_pictures_are_named_or_read(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=1)
    whole = {suffix: as_bytes(suffix) for suffix in SUFFIXES}
    written: set[str] = set()

    @settings(max_examples=150, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.sampled_from(SUFFIXES), damages)
    def damage(suffix: str, damage: Damage) -> None:
        name = f"bad{len(written):03d}.{suffix}"
        (folder / name).write_bytes(damage.of(whole[suffix]))
        written.add(name)

    damage()
    data = ["data=image_folder", f"data.root={folder}", "baselines=[]"]
    outcome = search(tmp_path, *data)
    assert "' is no image that can be read (" in check_refusal(outcome.code, outcome.err)
    outcome = search(tmp_path, *data, "data.on_error=skip")
    assert (outcome.code, outcome.err) == (0, "")
    skipped = json.loads((outcome.run_dir / "skipped.json").read_text())
    assert set(skipped) <= written
    assert len(skipped) > len(written) / 2
    found = neuron_path.load_paths(outcome.run_dir)["sample_id"].tolist()
    assert sorted([*found, *skipped]) == sorted(["0.png", *written])


def test_a_limit_of_skipped_pictures_ends_the_run(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=3)
    for number in range(4):
        (folder / f"1{number}.png").write_text("hello")
    data = ["data=image_folder", f"data.root={folder}", "data.on_error=skip", "data.batch_size=1"]
    outcome = search(tmp_path, *data, "data.max_skipped=2")
    line = check_refusal(outcome.code, outcome.err)
    assert line.startswith("3 images cannot be read, more than data.max_skipped=2; one of the last is '12.png' (")
    assert search(tmp_path, *data, "data.max_skipped=4").code == 0


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@few_by_default(3, 10)
def test_class_indices_of_any_content_are_one_line(examples: int, tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path / "data", classes=2)
    file = tmp_path / "index.json"

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(jsons.map(lambda held: json.dumps(held).encode()) | st.binary(max_size=30))
    def check(held: bytes) -> None:
        file.write_bytes(held)
        outcome = search(tmp_path, "data=image_folder", f"data.root={folder}", f"data.class_index={file}")
        assert f"Class index '{file}'" in check_refusal(outcome.code, outcome.err)

    check()


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@few_by_default(3, 10)
def test_labels_of_any_content_are_one_line(examples: int, tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=2)
    file = tmp_path / "labels.csv"
    tables = st.lists(st.lists(cells, min_size=1, max_size=3).map(",".join), max_size=4).map("\n".join)

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.sampled_from(["", "file,class\n", "file,class,x\n"]), tables | st.binary(max_size=30))
    def check(head: str, rest: str | bytes) -> None:
        file.write_bytes(head.encode() + (rest if isinstance(rest, bytes) else rest.encode()))
        outcome = search(tmp_path, "data=image_folder", f"data.root={folder}", f"data.labels={file}")
        assert f"Labels '{file}'" in check_refusal(outcome.code, outcome.err)

    check()


@few_by_default(3, 10)
def test_a_damaged_shard_is_one_line_or_read(examples: int, tmp_path: Path) -> None:
    members = {f"{n}.{kind}": data for n in range(3) for kind, data in {"png": png(n), "cls": b"1"}.items()}
    file = write(tmp_path / "data" / "a.tar", members)
    whole = file.read_bytes()

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(damages)
    def check(damage: Damage) -> None:
        file.write_bytes(damage.of(whole))
        outcome = search(tmp_path, "data=webdataset", f"data.root={file.parent}")
        if outcome.code:
            check_refusal(outcome.code, outcome.err)

    check()


def test_only_some_headers_of_many_pictures_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHECKED", 2)
    folder = pictures.flat_folder(tmp_path / "data", n=6)
    data = ["data=image_folder", f"data.root={folder}", "data.batch_size=1"]
    (folder / "3.png").write_text("hello")
    outcome = search(tmp_path, *data)
    assert "File '3.png'" in check_refusal(outcome.code, outcome.err)
    assert outcome.results == []
    pictures.save(folder / "3.png")
    (folder / "4.png").write_text("hello")
    outcome = search(tmp_path, *data)
    assert "File '4.png'" in check_refusal(outcome.code, outcome.err)
    assert "parts" in outcome.results
