"""Files of figures: complete or absent, the same bytes for the same figure, and no trace on the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import class_distribution_figure, image_path_figure
from neuron_path.report.style import figure_style, method_styles, new_figure, save_figure
from neuron_path.report.text import printable, shorten, text_width, wrap


def example() -> Figure:
    return image_path_figure(np.eye(8), [3, 1, 2], n_neurons=5, candidate_scores=np.eye(3, 5), margins=[0.1, 0.2, 0.3])


def test_two_saves_have_the_same_bytes(tmp_path: Path) -> None:
    formats = ("png", "svg", "pdf")
    first = save_figure(example(), tmp_path / "a" / "figure", formats)
    second = save_figure(example(), tmp_path / "b" / "figure.png", formats)
    assert [path.name for path in first] == [path.name for path in second] == ["figure.png", "figure.svg", "figure.pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


def test_user_settings_change_nothing(tmp_path: Path) -> None:
    (plain,) = save_figure(example(), tmp_path / "plain", ("svg",))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "lines.linewidth": 9}):
        (other,) = save_figure(example(), tmp_path / "other", ("svg",))
        assert matplotlib.rcParams["font.size"] == 20
    assert plain.read_bytes() == other.read_bytes()


def test_png_has_the_resolution_asked_for(tmp_path: Path) -> None:
    (path,) = save_figure(new_figure(2, 1), tmp_path / "x", ("png",), dpi=150)
    with Image.open(path) as picture:
        assert picture.size == (300, 150)


def test_only_known_suffixes_are_dropped(tmp_path: Path) -> None:
    assert [path.name for path in save_figure(new_figure(1, 1), tmp_path / "image_3.14")] == [
        "image_3.14.png",
        "image_3.14.svg",
    ]


def test_figure_is_emptied_unless_kept(tmp_path: Path) -> None:
    figure = example()
    save_figure(figure, tmp_path / "x", ("png",), close=False)
    assert figure.axes
    save_figure(figure, tmp_path / "x", ("png",))
    assert not figure.axes


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = save_figure(example(), tmp_path / "x", ("png",))
    before = path.read_bytes()

    def full(self: Figure, name: Path, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(NeuronPathError, match="cannot be written: No space left on device"):
        save_figure(example(), tmp_path / "x", ("png",))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_format_and_blocked_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match=r"not written as 'gif'\. Known formats: png, svg, pdf"):
        save_figure(new_figure(1, 1), tmp_path / "x", ("gif",))
    (tmp_path / "file").write_text("")
    with pytest.raises(NeuronPathError, match="cannot be written"):
        save_figure(new_figure(1, 1), tmp_path / "file" / "x")


def test_style_is_undone_after_an_error() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), figure_style():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def test_methods_differ_in_colour_or_marker_and_keep_their_look() -> None:
    names = ["joint_attribution", "random", *(f"method {i}" for i in range(16))]
    styles = method_styles(names)
    assert len(set(styles.values())) == len(names)
    assert method_styles(["x", "random"])["random"] == styles["random"]


def test_text_is_cut_to_its_room() -> None:
    text = "W" * 50
    assert text_width(shorten(text, 1.0, 8), 8) <= 1.0
    assert shorten("short", 1.0, 8) == "short"
    assert shorten("abc", 0.0, 8) == "…"
    lines = wrap("one two three four five six seven", 0.8, 8, lines=2)
    assert len(lines) == 2
    assert all(text_width(line, 8) <= 0.8 for line in lines)
    assert wrap("", 1.0, 8, lines=2) == []
    assert printable("a\tb\x00\u200b") == "a b"


@pytest.mark.slow
def test_drawing_needs_neither_pyplot_nor_torch() -> None:
    code = (
        "import sys, neuron_path.report.figures, neuron_path.report.run_page.page\n"
        "heavy = {'torch', 'hydra', 'lightning', 'wandb', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_class_figure_saves_without_a_warning(tmp_path: Path) -> None:
    figure = class_distribution_figure(np.zeros((9, 12), int), n_neurons=3072, class_name="cat")
    assert all(path.stat().st_size > 1000 for path in save_figure(figure, tmp_path / "cat"))
