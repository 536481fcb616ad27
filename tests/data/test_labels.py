"""Labels: from folders and CSVs to indices and names."""

from __future__ import annotations

from pathlib import Path

import pytest
from timm.data.readers.reader_image_folder import find_images_and_targets

from neuron_path.data.labels import ORDERS, number_classes, numbered
from neuron_path.errors import NeuronPathError


def csv(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_classes_follow_the_order_of_their_names() -> None:
    classes = number_classes(["b", "a", "b", "C"])
    assert (classes.index, classes.names, classes.is_indexed) == ({"C": 0, "a": 1, "b": 2}, ["C", "a", "b"], False)
    assert number_classes([None, None]).names == ()


def test_a_csv_numbers_and_names_them(tmp_path: Path) -> None:
    file = csv(tmp_path, "key,index,name\nb,2,bee\na,0,ant\nunused,1,nothing\n")
    classes = number_classes(["a", "b"], class_index=file)
    assert (classes.index, classes.names, classes.is_indexed) == ({"a": 0, "b": 2}, ["ant", "1", "bee"], True)
    assert classes.name_of("b") == classes.name_of("bee") == "bee"
    assert number_classes(["a"], class_index=csv(tmp_path, "key,index\na,1\n")).names == ["0", "a"]


def test_known_classes_go_before_the_order_and_behind_the_file(tmp_path: Path) -> None:
    def known(keys: object) -> tuple[dict[str, int], list[str], bool]:
        return {"a": 3}, ["w", "x", "y", "z"], True

    assert number_classes(["a"], known=known).names == ["w", "x", "y", "z"]
    assert number_classes(["a"], known=lambda keys: None).names == ["a"]
    file = csv(tmp_path, "key,index\na,0\n")
    assert number_classes(["a"], class_index=file, known=known).names == ["a"]


@pytest.mark.parametrize("keys", [[], [None], ["1", "x"], ["-1"], ["1.5"], ["²"], ["9999999"]])
def test_what_is_no_index_is_a_name(keys: list[str | None]) -> None:
    assert numbered(keys) is None


@pytest.mark.parametrize("odd", ["-1", "9.5", "9999999", "2 ", "nan"])
def test_indices_beside_other_numbers_are_refused(odd: str) -> None:
    with pytest.raises(NeuronPathError, match=f"The label '{odd}' is no class index, as others are"):
        numbered(["3", odd, "4"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no column 'key'"),
        ("a,0\n", "has no column 'key': expected a CSV that begins with the line key,index"),
        ("key,name\na,x\n", "has no column 'index'"),
        ("key,index\na,x\n", "must give each key one class index"),
        ("key,index\na,-1\n", "must give each key one class index"),
        ("key,index\na,1\na,2\n", "must give each key one class index"),
        ("key,index\na\n", "has a row of 1 cells"),
        ("key,index\na,99999999999999\n", "must give each key one class index"),
        ("key,index\nb,1\n", "lacks the folder 'a' (1 in all)"),
        ('key,index\n"a,1\n', "cannot be read"),
    ],
)
def test_a_bad_class_index_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    file = csv(tmp_path, text)
    with pytest.raises(NeuronPathError) as caught:
        number_classes(["a"], class_index=file)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "order"),
    [("text", ["1", "10", "2", "a10", "a9"]), ("natural", ["1", "2", "10", "a9", "a10"])],
)
def test_an_order_is_a_word(word: str, order: list[str]) -> None:
    classes = number_classes(["a10", "2", "10", "a9", "1"], class_index=word)
    assert (classes.names, [classes.index[name] for name in order]) == (order, [0, 1, 2, 3, 4])
    assert (classes.is_indexed, classes.is_ordered) == (False, True)


def test_the_natural_order_is_timm_s(tmp_path: Path) -> None:
    names = ["img12", "img2", "10", "9", "Z", "b", "01", "n02", "n1"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_text("")
    _, theirs = find_images_and_targets(str(tmp_path))
    assert number_classes(names, class_index="natural").index == theirs


def test_folders_may_be_class_indices() -> None:
    classes = number_classes(["10", "2"], class_index="number")
    assert (classes.index, len(classes.names), classes.is_indexed) == ({"2": 2, "10": 10}, 11, True)
    with pytest.raises(NeuronPathError, match=r"'number', and the class 'cat' is none from 0 to 999999"):
        number_classes(["10", "cat"], class_index="number")


def test_a_word_goes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ORDERS:
        (tmp_path / word).write_text("{}")
        assert number_classes(["1"], class_index=word).index["1"] in (0, 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_class_index_may_be_in_unicode_of_any_kind(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text("key,index,name\nä,1,ü\n", encoding=encoding)
    assert number_classes(["ä"], class_index=file).names == ["0", "ü"]
    file.write_text("key,index,name\nä,1,ü\n", encoding="latin-1")
    with pytest.raises(NeuronPathError, match=r"cannot be read as UTF-8 .*: save it as UTF-8"):
        number_classes(["ä"], class_index=file)
