"""Files of labels as people have them: read whatever their shape, or refused with what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_path.data.label_files import read_labels
from neuron_path.errors import NeuronPathError


def read_keys(file: Path, names: list[str], **options: bool) -> list[str | None]:
    """One for each, or none."""
    return [next(iter(own), None) for own in read_labels(file, names, **options)]


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding=encoding)
    return file


def refusal(folder: Path, text: str, names: list[str]) -> str:
    with pytest.raises(NeuronPathError) as caught:
        read_keys(table(folder, text), names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


IMAGENET = "ILSVRC2012_val_00000001"
SHAPES = {  # two pictures with the classes x and y, as a table
    "header": "file,class\na.png,x\nb.png,y\n",
    "other heads": "Image_ID,Target\na.png,x\nb.png,y\n",
    "swapped heads": "label,filename\nx,a.png\ny,b.png\n",
    "a column more": "path,split,label\na.png,val,x\nb.png,val,y\n",
    "no header": "a.png,x\nb.png,y\n",
    "no header, swapped": "x,a.png\ny,b.png\n",
    "no endings": "id,class\na,x\nb,y\n",
    "semicolons": "file;class\na.png;x\nb.png;y\n",
    "tabs": "a.png\tx\nb.png\ty\n",
    "spaces": "a.png x\nb.png y\n",
    "many spaces": "a.png    x\nb.png y\n",
    "quotes": '"file","class"\n"a.png","x"\n"b.png","y"\n',
    "Windows": "file,class\r\n.\\a.png,x\r\nval\\b.png,y\r\n",
    "folders": "val/a.png,x\nval/b.png,y\n",
    "deep folders": "file,class\ndata/val/a.png,x\ndata/val/b.png,y\n",
    "absolute paths": "/data/val/a.png,x\n/data/val/b.png,y\n",
    "absolute paths, elsewhere": "C:\\data\\a.png;x\nC:\\data\\b.png;y\n",
    "other pictures too": "c.png,z\na.png,x\nb.png,y\nd.png,x\n",
    "a label twice": "file,class\na.png,x\nb.png,y\n./a.png,x\n",
    "empty lines": "\na.png,x\n\nb.png,y\n\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_table_of_any_shape_is_read(tmp_path: Path, shape: str) -> None:
    assert read_keys(table(tmp_path, SHAPES[shape]), ["a.png", "b.png"]) == ["x", "y"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_any_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    file = table(tmp_path, "file;class\nä.png;jäger\n", encoding)
    assert read_keys(file, ["ä.png"]) == ["jäger"]


def test_imagenet_s_own_tables_are_read(tmp_path: Path) -> None:
    other = "ILSVRC2012_val_00000002"
    kaggle = table(
        tmp_path,
        f"ImageId,PredictionString\n{IMAGENET},n03995372 85 1 499 272 \n{other},n01440764 1 2 3 4 n01440764 5 6 7 8\n",
    )
    assert read_keys(kaggle, [f"{IMAGENET}.JPEG", f"{other}.JPEG"]) == ["n03995372", "n01440764"]
    caffe = table(tmp_path, f"{IMAGENET}.JPEG 65\n{other}.JPEG 970\n")
    assert read_keys(caffe, [f"{other}.JPEG", f"{IMAGENET}.JPEG"]) == ["970", "65"]
    assert read_keys(caffe, [f"val/{other}.JPEG"]) == ["970"]


def test_names_with_spaces_and_no_quotes(tmp_path: Path) -> None:
    assert read_keys(table(tmp_path, "my photo.png 3\nb.png 4\n"), ["my photo.png", "b.png"]) == ["3", "4"]


def test_pictures_that_are_numbers_are_not_taken_for_classes(tmp_path: Path) -> None:
    pictures = ["0.png", "1.png"]
    assert "columns (of the first row) '0', '1'" in refusal(tmp_path, "0,1\n1,0\n", pictures)
    assert read_keys(table(tmp_path, "0,9\n1,0\n"), pictures) == ["9", "0"]
    assert read_keys(table(tmp_path, "id,class\n0,1\n1,0\n"), pictures) == ["1", "0"]


def test_a_column_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    assert read_keys(table(tmp_path, "name,photo\nAnn,a.png\nBob,b.png\n"), ["a.png"]) == ["Ann"]
    assert read_keys(table(tmp_path, "a.png,name\nb.png,id\n"), ["a.png", "b.png"]) == ["name", "id"]


def test_folders_tell_pictures_of_one_name_apart(tmp_path: Path) -> None:
    file = table(tmp_path, "train/a.png,0\nval/a.png,1\na.png,2\n")
    assert read_keys(file, ["val/a.png", "a.png", "train/a.png"]) == ["1", "2", "0"]
    assert read_keys(file, ["data/val/a.png"]) == ["1"]
    with pytest.raises(NeuronPathError, match=r"name 'x/a.png' and 'y/a.png' by the one row 'a.png': name each with"):
        read_keys(file, ["x/a.png", "y/a.png"])


def test_pictures_without_a_row_may_be_left_out(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x\n")
    assert read_keys(file, ["a.png", "b.png"], only=True) == ["x", None]
    with pytest.raises(
        NeuronPathError, match=r"lack the file 'b.png' \(1 of 2 .* data.labels_only=true leaves the others"
    ):
        read_keys(file, ["a.png", "b.png"])
    with pytest.raises(NeuronPathError, match=r"not clear that one names the pictures, such as 'c\.png'"):
        read_keys(file, ["c.png"], only=True)


def test_several_labels_where_they_are_asked_for(tmp_path: Path) -> None:
    file = table(tmp_path, "a.png,x|y\nb.png,z\nc.png,x\nc.png,y\n")
    assert read_labels(file, ["a.png", "b.png", "c.png"], several=True) == [{"x", "y"}, {"z"}, {"x", "y"}]
    assert read_labels(file, ["a.png", "d.png"], several=True, only=True) == [{"x", "y"}, frozenset()]


def test_labels_of_files(tmp_path: Path) -> None:
    assert read_keys(table(tmp_path, "file, class\na.png, 10\n"), ["a.png"]) == ["10"]
    file = table(tmp_path, '\ufefffile,class,other\n./b.png,NA,1\n"c,d.png",x y,2\nunused.png,z,3\nsub\\a.png,null,4\n')
    assert read_keys(file, ["b.png", "c,d.png", "sub/a.png"]) == ["NA", "x y", "null"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cannot be read as a table: it is empty; expected lines such as a.png,cat"),
        ("a.png\n", "cannot be read as a table"),
        ('"a.png,x\n', "cannot be read as a table: unexpected end of data"),
        ("file,class\nb.png,x\n", "lack the file 'a.png' (1 of 1 in all): expected a row for each"),
        ("file,class\na.jpg,x\n", "lack the file 'a.png'"),
        ("file,class\na.png,x\na.png,y\n", "give 'a.png' several labels (x, y): leave one for each picture"),
        ("file,class\nval/a.png,x\ntrain/a.png,y\n", "give 'a.png' several labels (x, y)"),
        ("file;class\na.png;3,5\n", "give 'a.png' several labels (3, 5)"),
        ('a.png,"[3, 5]"\n', "give 'a.png' several labels (3, 5)"),
        ('""\n,\n', "cannot be read as a table"),
        ("file,class\na,n01440764 1 2 3 4 n03995372 5 6 7 8\n", "several labels (n01440764, n03995372)"),
        ("file,class\na.png,\n", "give 'a.png' no class"),
        ("file,class\na.png\n", "it has a row of 1 cells, 'a.png'; expected 2"),
        ("file,class\na.png,x,y,z\nb,c\n", "it has a row of 4 cells, 'a.png,x,y,z'; expected 2"),
        ("p,q\n0,1\n", "have the columns (of the first row) 'p', 'q', split at commas, and it is not clear that one"),
        ("file,cat,dog\na.png,0,1\n", "have the columns 'file', 'cat', 'dog', split at commas: which holds the class"),
        ("a.png;0;1\n", "have the columns (of the first row) 'a.png', '0', '1', split at semicolons: which holds"),
        ("file,label,target\na.png,0,1\n", "which holds the class is not clear; name that column 'class'"),
    ],
)
def test_bad_labels_are_one_line(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal(tmp_path, text, ["a.png"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"file,class\n\xff,x\n"])
def test_labels_that_cannot_be_read_are_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NeuronPathError, match=r"cannot be read|has no column") as caught:
        read_keys(file, ["a.png"])
    assert "\n" not in str(caught.value)
