"""The benchmarks: what they compute from times, on tiny inputs and made-up times. What they measure is no test."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from benchmarks import (
    exactness,
    harness,
    memory,
    performance,
    plain_autograd,
    precision,
    quadrature,
    real,
    references,
    scaling,
    search_speed,
    speed_tables,
    weights,
)
from benchmarks.harness import Spread, Table
from benchmarks.models import Shape
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.errors import NeuronPathError
from tests import oracle, pictures, tiny

FILES = [file for file in sorted(Path(harness.__file__).parent.glob("*.py")) if file.stem != "__init__"]
COMMANDS = [file.stem for file in FILES if "def main(" in file.read_text(encoding="utf-8")]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results and figures go there, and not into the repository."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(harness, "FIGURES", tmp_path / "figures")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *arguments: str) -> None:
    """Its command line, in this process."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


class TestHarness:
    def test_rounds_alternate_after_a_warm_up(self) -> None:
        calls: list[str] = []
        callables = {name: partial(calls.append, name) for name in "abs"}
        seconds, _ = harness.interleaved(callables, 3, {"s": 2}, quiet=True)
        # No warm-up of the slow one, which leaves after two rounds; the second round goes backwards.
        assert "".join(calls) == "ab" + "abs" + "sba" + "ab"
        assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "s": 2}
        assert min(map(min, seconds.values())) >= 0

    def test_the_last_output_is_returned(self) -> None:
        numbers = iter(range(10))
        _, outputs = harness.interleaved({"one": partial(next, numbers)}, 2, quiet=True)
        assert outputs == {"one": 2}

    def test_spread_is_median_and_range(self) -> None:
        assert harness.spread(iter([5.0, 1.0, 2.0])) == Spread(2.0, 1.0, 5.0)
        assert harness.spread([1.0, 4.0]) == Spread(2.5, 1.0, 4.0)

    def test_ratios_are_of_the_same_round(self) -> None:
        # By rounds 1/2, 4/2 and 9/3: not the ratio of the medians, 4/2.
        assert harness.ratios([1.0, 4.0, 9.0], [2.0, 2.0, 3.0, 100.0]) == Spread(2.0, 0.5, 3.0)

    def test_a_record_is_what_results_gives_back(self, places: Path, capsys: pytest.CaptureFixture[str]) -> None:
        harness.record("one", {"x": [1.5]}, {"places": Table(("a", "b"), [["c", "0.10"]], "So.")})
        assert "0.10" in capsys.readouterr().out
        [(name, result)] = harness.results().items()
        assert (name, result["values"]) == ("one", {"x": [1.5]})
        table = harness.fragments(result)["places"]
        assert re.search(r"\| c +\| 0\.10 +\|", table)
        assert "*So. 20" in table
        assert not (places / "figures").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_a_command(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(monkeypatch, importlib.import_module(f"benchmarks.{name}"), "--help")
    assert exit_info.value.code == 0
    assert f"    python -m benchmarks.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_examples_in_docstrings(file: Path) -> None:
    assert doctest.testmod(importlib.import_module(f"benchmarks.{file.stem}")).failed == 0


class TestScaling:
    @pytest.mark.parametrize(("exponent", "factor"), [(1.0, 0.25), (1.87, 3e-4), (2.0, 12.0), (-0.5, 1.0)])
    def test_a_power_law_is_recovered(self, exponent: float, factor: float) -> None:
        sizes = [6, 9, 12, 18, 24]
        line = scaling.fit(sizes, [factor * size**exponent for size in sizes])
        assert line == pytest.approx((exponent, factor), rel=1e-6)

    def test_a_constant_at_small_sizes_does_not_count(self) -> None:
        sizes = [1, 2, 4, 8, 16]
        rounds = {str(n): [0.1 * n**1.5, 0.1 * n**1.6, 0.1 * n**1.4] for n in sizes}
        rounds |= {"1": [9.0] * 3, "2": [9.0] * 3}
        assert scaling.exponents(sizes, rounds) == pytest.approx((1.5, 1.4, 1.6))
        assert scaling.exponents(sizes, rounds, fitted=5).median < 1

    def test_each_axis_varies_one_quantity_and_keeps_the_head_width(self) -> None:
        assert set(scaling.GOALS) <= set(scaling.AXES)
        for name, points in scaling.AXES.items():
            assert list(points) == sorted(points)
            for size, (shape, n_steps) in points.items():
                assert shape.width == scaling.HEAD_WIDTH * shape.heads
                values = {
                    "blocks": shape.depth,
                    "width": shape.width,
                    "tokens": shape.n_tokens,
                    "nodes": n_steps,
                    "images": shape.n_images,
                }
                assert values.pop(name) == size
            others = {(p.shape._replace(depth=0, width=0, heads=0, image=0, n_images=0), name) for p in points.values()}
            assert len(others) == 1

    def test_tiny_models_give_table_figure_and_record(
        self, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small = Shape(16, 2, 2, image=32)
        blocks = {n: scaling.Point(small._replace(depth=n), 2) for n in (1, 2, 3, 4)}
        nodes = {n: scaling.Point(small, n) for n in (2, 4, 8)}
        monkeypatch.setattr(scaling, "AXES", {"blocks": blocks, "nodes": nodes})
        run(monkeypatch, scaling, "--rounds", "2")
        assert "2 interleaved rounds" in harness.results()["scaling"]["tables"]["scaling"]["note"]
        values, table = (harness.results()["scaling"][key] for key in ("values", "tables"))
        assert [row[0] for row in table["scaling"]["rows"]] == ["blocks", "nodes"]
        assert [row[3] for row in table["scaling"]["rows"]] == ["2–4", "2–8"]
        assert {len(seconds) for seconds in values["blocks"]["seconds"].values()} == {2}
        assert values["nodes"]["points"]["8"]["n_steps"] == 8
        assert (places / "figures" / "scaling.svg").stat().st_size > 1000
        capsys.readouterr()


class TestQuadrature:
    @pytest.fixture(scope="class")
    @classmethod
    def digits(cls) -> tuple[VisionTransformer, Tensor, Tensor]:
        model: Any = tiny.make(dtype=torch.float32)
        return model, tiny.make_images(6, dtype=torch.float32), torch.tensor([3, 0, 4, 1, 2, 0])

    def test_the_converged_rule_agrees_with_itself(self, digits: tuple[VisionTransformer, Tensor, Tensor]) -> None:
        converged = neuron_path.find_paths(*digits, quadrature=quadrature.CONVERGED)
        reference = quadrature.Reference(converged.paths, converged.scores)
        found = quadrature.agreement(*digits, reference, quadrature.CONVERGED)
        assert (found["same_path"], found["same_neurons"], found["mean_nodes"]) == (6, 1.0, 64.0)
        assert found["error_max"] == 0

    def test_errors_are_of_the_path_that_was_found(self, digits: tuple[VisionTransformer, Tensor, Tensor]) -> None:
        converged = neuron_path.find_paths(*digits, quadrature=quadrature.CONVERGED)
        reference = quadrature.Reference(converged.paths, converged.scores)
        rule = Quadrature("riemann_left", 1)  # so coarse that paths differ
        found = neuron_path.find_paths(*digits, quadrature=rule)
        assert (found.paths != reference.paths).any()
        own: Any = neuron_path.score_paths(*digits, found.paths, n_steps=64)
        expected = ((found.scores - own) / own).abs()
        measured = quadrature.agreement(*digits, reference, rule)
        assert measured["same_path"] == int((found.paths == reference.paths).all(1).sum()) < 6
        # Of paths that are the same, the reference's own score was taken: equal to rounding.
        assert measured["error_median"] == pytest.approx(float(expected.median()), rel=1e-3)
        assert measured["error_max"] == pytest.approx(float(expected.max()), rel=1e-3)

    def test_the_interval_is_wilsons(self) -> None:
        n, count, z = 360, 355, 1.959964
        share = count / n
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
        assert quadrature.interval(count, n) == pytest.approx((centre - half, centre + half), abs=1e-6)

    def test_a_tiny_model_gives_tables_figure_and_record(
        self,
        digits: tuple[VisionTransformer, Tensor, Tensor],
        places: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(neuron_path, "load_model", lambda _: digits[0], raising=False)
        monkeypatch.setattr(neuron_path, "load_digits", lambda _: digits[1:], raising=False)
        monkeypatch.setattr(quadrature, "EVEN", [rule for rule in quadrature.EVEN if rule.n_steps in (4, 8)])
        run(monkeypatch, quadrature, "--images", "3", "--rounds", "1")
        assert harness.results() == {}  # a trial
        run(monkeypatch, quadrature, "--rounds", "1")
        [result] = harness.results().values()
        measured = result["values"]["agreement"]
        few = len(range(0, 6, quadrature.SHARE))
        assert [measured[name]["n_images"] for name in ("Gauss–Legendre, 8", "midpoint, 8")] == [6, few]
        assert sum(measured["adaptive, 0.001"]["images_by_nodes"].values()) == 6
        assert len(result["values"]["estimates"]["true"]) == few
        assert len(result["tables"]["quadrature"]["rows"]) == len(measured)
        assert len(result["tables"]["adaptive"]["rows"]) == len(quadrature.ADAPTIVE)
        assert len(result["tables"]["estimate"]["rows"]) == 1
        assert (places / "figures" / "quadrature.svg").stat().st_size > 1000
        capsys.readouterr()


class TestPlainAutograd:
    @pytest.mark.parametrize(
        "name", ["cls", "registers", "layer_scale", "inner_norms", "avg", "avg_registers", "avg_no_class_token"]
    )
    @pytest.mark.parametrize("rule", ["gauss_legendre", "riemann_left"])
    def test_it_finds_the_paths_and_scores_of_the_oracle(self, name: str, rule: str) -> None:
        model = tiny.make(name).requires_grad_(False)
        images, targets = tiny.make_images(2), torch.tensor([3, 1])
        setting = tiny.literal(model, "cls" if model.global_pool == "token" else "patch", rule)
        found = plain_autograd.plain_search(model, images, targets, Quadrature(rule, 5))
        for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
            path, _ = oracle.greedy_path(setting, image, target)
            assert found.paths[row].tolist() == [neuron for [neuron] in path]
            torch.testing.assert_close(found.scores[row], oracle.joint_score(setting, image, target, path))

    @pytest.mark.parametrize("name", ["cls", "avg"])
    def test_it_does_so_in_passes_of_any_size(self, name: str) -> None:
        model = tiny.make(name).requires_grad_(False)
        images, targets = tiny.make_images(3), torch.tensor([3, 1, 0])
        whole = plain_autograd.plain_search(model, images, targets, Quadrature())
        for micro_batch in (1, 5, 100):
            found = plain_autograd.plain_search(model, images, targets, Quadrature(), micro_batch)
            assert torch.equal(found.paths, whole.paths)
            torch.testing.assert_close(found.scores, whole.scores)

    @pytest.mark.parametrize("name", ["cls", "avg"])
    def test_it_leaves_no_hook(self, name: str) -> None:
        model = tiny.make(name).requires_grad_(False)
        plain_autograd.plain_search(model, tiny.make_images(1), torch.tensor([0]), Quadrature())
        assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in model.modules())

    def test_the_fastest_micro_batch_is_one_of_those_tried(self) -> None:
        model = tiny.make(dtype=torch.float32).requires_grad_(False)
        images = tiny.make_images(2, dtype=torch.float32)
        size = plain_autograd.fastest_micro_batch(model, images, torch.tensor([0, 1]), Quadrature())
        assert size in (2, 4, 8, 16)


class TestSearchSpeed:
    def test_ratios_are_of_one_image(self) -> None:
        paper, default = references.PAPER_NAME, references.DEFAULT
        seconds = {default: [8.0, 4.0], references.ROOFLINE: [2.0, 2.0], references.PLAIN[paper]: [12.0, 9.0]}
        seconds |= {references.PLAIN[default]: [6.0], weights.call_of(default, weights.RANDOM): [4.0, 4.0]}
        n_images = {**dict.fromkeys(seconds, 1), default: 2, weights.call_of(default, weights.RANDOM): 2}
        [(name, found)] = speed_tables.compared({"n_images": n_images, "seconds": seconds}).items()
        assert name == default
        assert found["per_image"] == Spread(3.0, 2.0, 4.0)
        assert found["faster_than_oracle"] is None
        assert found["faster_than_plain"] == Spread(3.75, 3.0, 4.5)  # 12/4 and 9/2
        assert found["faster_at_equal_nodes"] == Spread(1.5, 1.5, 1.5)
        assert found["over_roofline"] == Spread(1.5, 1.0, 2.0)
        assert found["over_random"] == Spread(1.5, 1.0, 2.0)

    def test_tiny_models_give_tables_figure_and_record(
        self, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small = Shape(16, 2, 2, image=32)
        shapes = {
            "one": small,
            "two": small._replace(depth=3, n_images=2),
            "three": small._replace(pool="avg", patch=16),
        }
        monkeypatch.setattr(search_speed, "SHAPES", shapes)
        monkeypatch.setattr(search_speed, "WITHOUT_ORACLE", ("one",))
        monkeypatch.setattr(search_speed, "HARSH_SHAPE", "two")
        run(monkeypatch, search_speed, "--rounds", "2")
        [result] = harness.results().values()
        measured, tables = result["values"]["models"], result["tables"]
        default, paper = references.DEFAULT, references.PAPER_NAME
        assert measured["one"]["neurons_equal_to_oracle"] == {}
        assert measured["one"]["neurons_equal_to_plain"] == {default: 2}
        for name, n_neurons in (("two", 6), ("three", 2)):
            assert measured[name]["neurons_equal_to_oracle"] == {paper: n_neurons}
            assert measured[name]["neurons_equal_to_plain"] == {paper: n_neurons, default: n_neurons}
        assert len(tables["search_speed"]["rows"]) == 1 + 3 + 3
        assert {len(row) for row in tables["search_speed"]["rows"]} == {len(tables["search_speed"]["columns"])}
        assert len(tables["harsh"]["rows"]) == len(references.RULES)
        assert (places / "figures" / "search_speed.svg").stat().st_size > 1000
        capsys.readouterr()


class TestWeights:
    def test_choices_rated_again_are_counted(self) -> None:
        model = tiny.make(dtype=torch.float32).requires_grad_(False)
        images, targets = tiny.make_images(2, dtype=torch.float32), torch.tensor([3, 1])
        apart = weights.search(model, images, targets, Quadrature())
        assert apart.again == (0, 0)
        mlp: Any = model.blocks[1].mlp
        for values in (mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight.T):  # each neuron of one block has a twin
            values[::2] = values[1::2]
        twins = weights.search(model, images, targets, Quadrature())
        assert twins.again == pytest.approx((1 / len(model.blocks), 0))
        assert torch.equal(twins.result.paths, neuron_path.find_paths(model, images, targets).paths)

    def test_harsh_weights_are_larger_and_the_same_again(self) -> None:
        model, other = (
            weights.harsh(timm.create_model("test_vit", num_classes=50).requires_grad_(False)) for _ in range(2)
        )
        deviations = {name: float(value.std()) for name, value in model.named_parameters() if value.ndim == 2}
        assert deviations.pop("head.weight") == pytest.approx(weights.HARSH_HEAD, rel=0.1)
        assert list(deviations.values()) == pytest.approx([weights.HARSH] * len(deviations), rel=0.1)
        assert torch.equal(model.get_parameter("head.weight"), other.get_parameter("head.weight"))


class TestReal:
    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
        """Of a tiny model's weights, and folders of pictures."""
        folder = tmp_path_factory.mktemp("real")
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "weights.safetensors")
        pictures.class_folders(folder / "data" / "train", classes=3, each=5)
        pictures.class_folders(folder / "data" / "test", classes=3, each=2)
        source = real.Source("test_vit", str(folder / "weights.safetensors"), str(folder / "data"), 64)
        return real.options_of(source)

    def test_both_options_of_what_exists_or_none(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            run(monkeypatch, memory, "--data", "folder")
        assert "--checkpoint and --data go together" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            run(monkeypatch, memory, "--checkpoint", "weights.safetensors", "--data", "folder")
        assert "there is no weights.safetensors" in capsys.readouterr().err

    def test_photographs_are_spread_over_the_classes_of_the_probe(
        self, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = real.Source(options[5], options[1], options[3], int(options[7]))
        model, images, targets, about = real.load(source, 3)
        assert (tuple(images.shape), targets.tolist()) == ((3, 3, 64, 64), [0, 1, 2])
        assert about["images"] == ["00/a.png", "01/a.png", "02/a.png"]
        assert (model.num_classes, about["classes"]) == (3, 3)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert "Fitting" in capsys.readouterr().out
        again = real.load(source, 3)
        assert "Fitting" not in capsys.readouterr().out
        assert torch.equal(again.model.get_parameter("head.weight"), model.get_parameter("head.weight"))
        assert not any(text in str(about) for text in options[:4])  # the record names no place

    def test_search_speed(
        self, options: list[str], places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(monkeypatch, search_speed, *options, "--images", "1", "--rounds", "1", "--trial")
        assert harness.results() == {}
        run(monkeypatch, search_speed, *options, "--images", "2", "--rounds", "1")
        result = harness.results()["search_speed_real"]
        measured, table = result["values"], result["tables"]["search_speed"]
        n_blocks = measured["about"]["blocks"]
        assert measured["neurons_equal_to_oracle"] == {references.PAPER_NAME: n_blocks}
        assert measured["neurons_equal_to_plain"] == {references.PAPER_NAME: n_blocks, references.DEFAULT: n_blocks}
        assert (measured["n_images"][references.DEFAULT], measured["n_images"][references.ORACLE]) == (2, 1)
        assert len(table["rows"]) == len(references.RULES)
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert f"{n_blocks} of the oracle's {n_blocks} neurons" in table["note"]
        assert not (places / "figures").exists()
        capsys.readouterr()

    def test_quadrature(
        self, options: list[str], places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(monkeypatch, quadrature, *options, "--images", "2")
        result = harness.results()["quadrature_real"]
        assert {found["n_images"] for found in result["values"]["agreement"].values()} == {2}
        assert len(result["tables"]["quadrature"]["rows"]) == len(quadrature.REAL)
        assert not any(row[-1] == "–" for row in result["tables"]["quadrature"]["rows"])
        capsys.readouterr()

    def test_exactness_at_a_size_of_its_own(
        self, options: list[str], places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(monkeypatch, exactness, *options, "--images", "1")
        assert harness.results() == {}
        run(monkeypatch, exactness, *options)
        [(name, found)] = harness.results()["exactness_large"]["values"].items()
        assert (name, found["images"], found["blocks"]) == ("test_vit, 64 px", exactness.LARGE, 6)
        assert (found["other_paths_in_float64"], found["other_paths_in_other_batches"]) == (0, 0)
        capsys.readouterr()

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
    @pytest.mark.parametrize("is_apart", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_memory(
        self,
        is_apart: bool,
        options: list[str],
        places: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        if not is_apart:  # the same in this process
            source = real.Source(options[5], options[1], options[3], int(options[7]))
            monkeypatch.setattr(memory, "peak_of", lambda case, _: memory.search(case, source))
        run(monkeypatch, memory, *options, "--quick")
        assert harness.results() == {}
        assert "class token" in capsys.readouterr().out

    def test_precision_needs_units(
        self, options: list[str], places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(precision, "has_units", lambda *_: False)
        run(monkeypatch, precision, *options)
        assert "no units" in capsys.readouterr().out

    def test_precision(
        self, options: list[str], places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # In place of the fast tails the exact ones, which keep every path.
        monkeypatch.setattr(precision, "has_units", lambda name, _: name == "bf16")
        exact = neuron_path.find_paths

        def find_paths(images: Any, *given: Any, precision: str) -> Any:
            assert precision in ("fp32", "bf16")
            return exact(images, *given)

        monkeypatch.setattr(neuron_path, "find_paths", find_paths, raising=False)
        run(monkeypatch, precision, *options, "--images", "3", "--rounds", "1")
        [row] = harness.results()["precision_real"]["tables"]["precision"]["rows"]
        assert (row[0], row[2], row[3]) == ("bf16", "3 of 3", "100.00%")
        capsys.readouterr()


def result_of(cpu: str = "CPU", date: str = "2026-01-01") -> dict[str, Any]:
    """A result with one table `t`, measured there."""
    machine = harness.machine() | {"cpu": cpu, "date": date}
    table = {"columns": ["a"], "rows": [["cell"]], "note": ""}
    return {"machine": machine, "values": {"x": 0.125}, "tables": {"t": table}}


class TestPerformance:
    def test_the_page_is_made_of_results(self) -> None:
        page = performance.render("{{ one.tables.t }}\n\n{{ one.values.x }}\n\n{{ machine }}\n", {"one": result_of()})
        assert "| cell" in page
        assert "\n\n0.125\n\n" in page
        assert "CPU, " in page
        assert page.endswith("|\n")

    def test_results_of_several_machines_are_told_apart(self) -> None:
        results = {"one": result_of("first"), "two": result_of("second"), "three": result_of("first")}
        told = performance.machines(results)
        assert "Of `one` and `three`:\n\n" in told
        assert "Of `two`:\n\n" in told
        assert "Of" not in performance.machines({"one": results["one"], "three": results["three"]})

    def test_a_missing_result_is_one_line(self) -> None:
        with pytest.raises(NeuronPathError) as error:
            performance.render("{{ one.tables.t }} {{ two.tables.t }}", {"one": result_of()})
        assert str(error.value) == "There is no result of two yet: run `python -m benchmarks.two` first."

    def test_a_missing_result_may_be_left_out_where_the_template_asks(self) -> None:
        template = "{% if two_real is defined %}{{ two_real.tables.t }}{% endif %}{{ one.values.x }}"
        assert performance.render(template, {"one": result_of()}) == "0.125"
        assert "cell" in performance.render(template, {"one": result_of(), "two_real": result_of()})
        with pytest.raises(NeuronPathError, match=r"benchmarks\.two --checkpoint FILE --data FOLDER` first"):
            performance.render("{{ two_real.tables.t }}", {})

    @pytest.mark.parametrize("template", ["{{ one.tables.u }}", "{{ one.values.y }}", "{{ one.values.y.z }}"])
    def test_so_is_a_missing_table_or_value(self, template: str) -> None:
        with pytest.raises(NeuronPathError, match=r"^The template names what no result has: .*\.$"):
            performance.render(template, {"one": result_of()})

    def test_the_command_writes_the_page_or_says_what_is_missing(
        self, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        template = places / "template"
        template.write_text("# Page\n\n{{ one.tables.t }}\n", encoding="utf-8")
        monkeypatch.setattr(performance, "TEMPLATE", template)
        monkeypatch.setattr(performance, "PAGE", places / "page.md")
        with pytest.raises(SystemExit, match=r"^There is no result of one yet"):
            run(monkeypatch, performance)
        assert not (places / "page.md").exists()
        harness.record("one", {}, {"t": Table(("a",), [["cell"]])})
        run(monkeypatch, performance)
        assert "| cell" in (places / "page.md").read_text(encoding="utf-8")
        capsys.readouterr()

    def test_the_page_is_up_to_date(self) -> None:
        template, results = performance.TEMPLATE.read_text(encoding="utf-8"), harness.results()
        missing = performance.needed(template) - performance.optional(template) - set(results)
        if missing:
            pytest.skip(f"not measured yet: {', '.join(sorted(missing))}")
        page = performance.PAGE.read_text(encoding="utf-8")
        assert page == performance.render(template, results), "run `python -m benchmarks.performance`"
        for image in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page):
            assert (performance.PAGE.parent / image).is_file()
