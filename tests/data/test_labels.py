"""Labels: from folders and CSVs to indices and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_path.data.labels import number_classes, numbered, read_labels
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


@pytest.mark.parametrize("keys", [[], [None], ["1", "x"], ["-1"], ["1.0"], ["²"], ["9999999"]])
def test_what_is_no_index_is_a_name(keys: list[str | None]) -> None:
    assert numbered(keys) is None


@pytest.mark.parametrize("odd", ["-1", "9.0", "9999999", "2 "])
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


def test_labels_of_files(tmp_path: Path) -> None:
    assert read_labels(csv(tmp_path, "file, class\na.png, 10\n"), ["a.png"]) == ["10"]
    file = csv(tmp_path, '\ufefffile,class,other\n./b.png,NA,1\n"c,d.png",x y,2\nunused.png,z,3\nsub\\a.png,null,4\n')
    assert read_labels(file, ["b.png", "c,d.png", "sub/a.png"]) == ["NA", "x y", "null"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,class\na.png,x\n", "has no column 'file'"),
        ("file,class\nb.png,x\n", "lack the file 'a.png' (1 of 1 in all): expected a row for each"),
        ("file,class\na.png,x\na.png,y\n", "name 'a.png' twice"),
        ("file,class\na.png,x\n./a.png,x\n", "name 'a.png' twice"),
        ("file,class\na.png,\n", "give 'a.png' no class"),
        ("file,class\na.png\n", "has a row of 1 cells, 'a.png': expected 2"),
        ("file,class\na.png,x,y,z\nb,c\n", "has a row of 4 cells, 'a.png,x,y,z': expected 2"),
    ],
)
def test_bad_labels_are_one_line(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError) as caught:
        read_labels(csv(tmp_path, text), ["a.png"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"file,class\n\xff,x\n"])
def test_labels_that_cannot_be_read_are_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NeuronPathError, match=r"cannot be read|has no column") as caught:
        read_labels(file, ["a.png"])
    assert "\n" not in str(caught.value)
