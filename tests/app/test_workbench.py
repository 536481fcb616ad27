"""What the page shows: the API's own numbers, and lines that find the same path."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neuron_path
from neuron_path.app import workbench
from neuron_path.app.workbench import Choice, Workbench
from neuron_path.cli.hydra_app import compose_config
from neuron_path.errors import NeuronPathError
from tests.command import call
from tests.report.figures.drawing import visible_texts

SETTINGS = ["trainer=cpu", "data.limit=4"]


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(compose_config(SETTINGS), SETTINGS)


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A picture of a test digit, alone in its folder."""
    image = neuron_path.load_digits("test")[0][5, 0]
    file = tmp_path / "mine" / "five & more.png"
    file.parent.mkdir()
    Image.fromarray(((image / 2 + 0.5) * 255).round().to(torch.uint8).numpy()).save(file)
    return file


def dropped(bench: Workbench, file: Path) -> workbench.Picture:
    return bench.dropped(file.name, file.read_bytes())


def test_a_picture_of_the_data_has_the_path_of_the_api(bench: Workbench) -> None:
    name = bench.sample_ids[3]
    found = bench.find(bench.picked(name), Choice("greedy", top_k=2, target="margin"))
    images, _ = neuron_path.load_digits("test")
    place = neuron_path_place(name)
    model = neuron_path.load_model("digits_vit")
    expected = neuron_path.find_paths(model, images[place : place + 1], target="margin", top_k=2)
    assert torch.equal(found.paths, expected.paths)
    probabilities = model(images[place : place + 1]).softmax(1)[0].detach().numpy()
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)
    table = bench.prediction(found)
    assert table["class"].tolist()[0] == str(probabilities.argmax())
    assert list(table["probability"]) == sorted(table["probability"], reverse=True)


def neuron_path_place(name: str) -> int:
    from neuron_path.data.digits import DigitsDataset

    return DigitsDataset("test").sample_ids.index(name)


@pytest.mark.parametrize("operation", ["remove", "enhance", "mean_ablation"])
def test_an_edit_shows_what_the_api_gives(bench: Workbench, operation: str) -> None:
    found = bench.find(bench.picked(bench.sample_ids[0]), Choice(top_k=3))
    block, neuron = bench.neurons(found)[4]
    for where, paths in ((None, found.paths), ((block, neuron), torch.full((1, 12), -1))):
        if where is not None:
            paths[:, block] = neuron
        images = torch.stack([bench.picked(name).image for name in bench.sample_ids])
        references = images if operation == "mean_ablation" else None
        model, image = neuron_path.load_model("digits_vit"), found.picture.image[None]
        logits = neuron_path.intervene(model, image, paths, operation, reference_images=references)  # pyright: ignore[reportArgumentType]
        after = logits.double().softmax(1)[0].numpy()
        table = bench.edited(found, operation, where)  # pyright: ignore[reportArgumentType]
        shown = table.set_index(table["class"].astype(int))
        np.testing.assert_allclose(shown["after"], after[shown.index], atol=1e-6)
        np.testing.assert_allclose(shown["change"], shown["after"] - shown["before"])
        assert found.target in shown.index


def test_alternatives_are_the_best_that_were_left_out(bench: Workbench) -> None:
    found = bench.find(bench.picked(bench.sample_ids[1]), Choice("greedy"))
    scores = found.result.candidate_scores
    assert scores is not None
    for block, ranked in enumerate(bench.ranked(found)):
        best, *others = scores[0, block].argsort(descending=True)[:4].tolist()
        assert ranked.chosen == [best] == found.paths[0, block].tolist()
        shares = scores[0, block, others] / scores[0, block, best]
        assert ranked.following == [
            (neuron, f"{float(share):.0%}") for neuron, share in zip(others, shares, strict=True)
        ]


def test_a_dropped_picture_is_prepared_as_a_folder_is_and_leaves_nothing(
    bench: Workbench, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    picture = dropped(bench, digit)
    assert picture.is_dropped
    torch.testing.assert_close(picture.image, neuron_path.load_digits("test")[0][5], atol=0.01, rtol=0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_command_and_the_lines_find_the_same_path(
    bench: Workbench, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for picture in (dropped(bench, digit), bench.picked(bench.sample_ids[2])):
        found = bench.find(picture, Choice(search="effect of remove", target="margin", top_k=2, target_class=4))
        out = tmp_path / picture.name.replace("/", "-") / "run"
        command = shlex.split(bench.command(found).splitlines()[1])
        assert command[:2] == ["neuron-path", "search"]
        told = [word.replace("outputs/app", str(out)).replace("DIR", str(digit.parent)) for word in command[1:]]
        code, _, err = call(*told)
        assert (code, err) == (0, "")
        rows = neuron_path.load_paths(out).set_index("sample_id")
        assert np.array_equal(np.stack(rows.loc[picture.name, "path"]), found.paths[0].numpy())  # pyright: ignore[reportArgumentType, reportCallIssue]
        monkeypatch.chdir(digit.parent)
        names: dict[str, object] = {}
        exec(bench.python(found), names)
        result = names["result"]
        assert isinstance(result, neuron_path.PathResult)
        assert torch.equal(result.paths, found.paths)


def test_two_pictures_are_compared_block_by_block(bench: Workbench) -> None:
    one, other = (bench.find(bench.picked(name), Choice(top_k=2)) for name in bench.sample_ids[:2])
    table = bench.compared(one, other)
    assert [name.split(":")[0] for name in table.columns[1:3]] == bench.sample_ids[:2]
    pairs = zip(one.paths[0].tolist(), other.paths[0].tolist(), strict=True)
    assert table["shared"].tolist() == [len(set(mine) & set(theirs)) for mine, theirs in pairs]
    assert list(bench.compared(one, one)["shared"]) == [2] * 12


def test_a_neuron_has_what_the_run_says_of_it(bench: Workbench, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert call("search", f"hydra.run.dir={run}", "data.limit=2", "evidence=true")[0] == 0
    rows = neuron_path.load_paths(run)
    label, neuron = int(rows["label"].iloc[0]), int(rows["path"].iloc[0][5])
    of_class = rows.loc[rows["label"] == label, "path"]
    share = np.mean([path[5] == neuron for path in of_class])
    figure = Workbench(compose_config(SETTINGS), SETTINGS, run).evidence_figure((5, neuron))
    assert figure is not None
    assert f"{label} ({100 * share:.0f} %)" in " ".join(text.get_text() for text in visible_texts(figure))
    assert bench.evidence_figure((5, neuron)) is None


def test_what_cannot_be_shown_is_one_line(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    with pytest.raises(NeuronPathError, match=r"broken\.png") as caught:
        dropped(bench, broken)
    assert "\n" not in str(caught.value)
    huge = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(huge)
    with pytest.raises(NeuronPathError, match="too large"):
        dropped(bench, huge)
    monkeypatch.setattr(workbench, "MOST_BYTES", 10)
    with pytest.raises(NeuronPathError, match="expected 0 MB at most"):
        dropped(bench, huge)
    with pytest.raises(NeuronPathError, match="no picture 'nobody'"):
        bench.picked("nobody")


def test_a_missing_library_and_wrong_settings_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = call("app", "--help")
    assert code == 0
    assert "127.0.0.1" in out
    with pytest.raises(NeuronPathError, match="modle"):
        compose_config(["modle=digits_vit"])
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "neuron_path.app.page", raising=False)
    expected = "neuron-path: error: The page needs uvicorn: pip install 'neuron-path[app]'.\n"
    assert call("app") == (1, "", expected)
