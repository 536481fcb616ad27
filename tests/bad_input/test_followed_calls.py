"""Further rows of `test_followed_advice`: what refusals of Python's functions advise works, done word for word."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import neuron_path
from neuron_path.attribution.scorer import scorers
from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.clustering import cluster_classes, cluster_images
from neuron_path.classes.distances import read_distances
from neuron_path.classes.images import describe_image
from neuron_path.classes.neurons import neuron_classes
from neuron_path.classes.usage import count_usage
from neuron_path.cli import models
from neuron_path.errors import NeuronPathError
from neuron_path.estimate import estimate
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.evidence.strongest import Strongest
from neuron_path.models.session import Session
from neuron_path.pruning.allocation import keep_neurons
from neuron_path.pruning.cost import measure_latency
from neuron_path.pruning.methods import check_method
from neuron_path.pruning.ranking import choose_paths
from neuron_path.pruning.saved import save_pruned
from neuron_path.pruning.selection import split_images
from neuron_path.pruning.slicing import slice_model
from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.edit_curves import edit_curves_figure
from neuron_path.report.figures.path_flow import path_flow_figure
from neuron_path.report.style import save_figure
from neuron_path.scorers import Random
from neuron_path.searches import Linearized
from neuron_path.stats.crossed import crossed_means
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.store.evidence import load_evidence
from neuron_path.store.layout import open_run_dir
from neuron_path.store.merge import read_parts
from neuron_path.store.reader import load_effects, read_json
from neuron_path.store.schema import path_schema
from neuron_path.store.skipped import read_skipped
from tests import tiny, zoo
from tests.bad_input.test_followed_advice import (
    DID_YOU_MEAN,
    FOUND,
    IMAGES,
    LEAST,
    SUCH_AS,
    TABLE,
    UP_TO,
    Call,
    digits,
    edit,
    find,
    follow,
    score,
    weights,
)
from tests.command import call, run_in

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of random weights

RANGE = r"expected .*to (?P<value>\d+)[.,]"
LEFT_OUT = r"(?P<without>leave (it|them|images) out)"
NAMED = make_class_paths([[0, 3], [0, 3], [1, 2], [1, 3]], [0, 0, 1, 1], images=["cat", "dog", "fox", "owl"])
USAGE = count_usage(NAMED)
TWO_METHODS = pd.concat([TABLE, TABLE.assign(scorer="activation")]).assign(score=1.0)
EFFECTS = pd.DataFrame(
    {
        "scorer": "random",
        "search": "greedy",
        "top_k": 1,
        "token_scope": "cls",
        "operation": "remove",
        "size": 1,
        "tokens": "scope",
        "sample_id": ["a", "b"],
        "target": 0,
        "clean_probability": 0.5,
        "edited_probability": 0.4,
        "clean_logit": 1.0,
        "edited_logit": 0.5,
        "kl_divergence": 0.1,
        "clean_prediction": 0,
        "edited_prediction": 0,
    }
)


def effect_of(operation: Any) -> Linearized:
    return Linearized(measure="effect", operation=operation)


def put(tensor: Tensor, value: float, *place: int) -> Tensor:
    """The same with another value at one place."""
    changed = tensor.clone()
    changed[place] = value
    return changed


def reference(reference: str | None) -> object:
    return scorers.create("activation_matched_random", reference=reference)


def headless(folder: Path, model: Any) -> object:
    weights(folder, head={"weight": torch.zeros(3, 16), "bias": torch.zeros(3)})
    return find(model=model)


def with_cosines(model: Any) -> object:
    return neuron_path.attach_head(model, neuron_path.LinearHead(torch.eye(3, 16), torch.zeros(3), cosine=True))


PLAIN_HEAD = neuron_path.LinearHead(torch.eye(3, 16), torch.zeros(3))


def with_masks(masks: Tensor, head: neuron_path.LinearHead) -> object:
    return neuron_path.attach_head(tiny.make(), head, masks)


def with_a_mask(masks: Tensor) -> object:
    return with_masks(masks, dataclasses.replace(PLAIN_HEAD, of_patches=True))


def with_two_masks(target: Any) -> object:
    model: Any = with_a_mask(torch.ones(2, 2, 2))
    return find(model=model, target=target)


def of_two_layers() -> Any:
    model: Any = tiny.make()
    model.head = torch.nn.Sequential(model.head, torch.nn.ReLU())
    return model


def read_head(folder: Path, key: str) -> object:
    weights(folder, head={f"model.{one}.weight": torch.zeros(3, 4) for one in ("fc", "classifier")})
    return neuron_path.load_head(folder / "head.pt", key=key)


def written_head(folder: Path, name: str) -> object:
    return neuron_path.save_head(neuron_path.LinearHead(torch.zeros(3, 4), torch.zeros(3)), folder / name)


def distances(folder: Path, file: str = "d.csv", text: str = ",cat,dog\ncat,0,1\ndog,1,0\n") -> object:
    (folder / file).write_text(text)
    return read_distances(folder / file, [0, 1], ["cat", "dog"])


def saved(folder: Path, **given: Any) -> object:
    return save_pruned(digits().model, folder, **given)


def slicing(kept: list[list[int]]) -> object:
    return slice_model(tiny.make(), kept)


def latency(**given: Any) -> object:
    return measure_latency(tiny.make(), tiny.make(), **given)


def strongest(n_top: int) -> object:
    return Strongest(Session(tiny.make()), [np.arange(2)] * 3, ["a"], n_top)


def plot(index: int) -> object:
    return find().plot(None, index)  # pyright: ignore[reportAttributeAccessIssue]


def written(folder: Path, formats: tuple[str, ...]) -> object:
    return save_figure(Figure(), folder / "figure", formats)


def made(run_dir: Path, command: str, given: tuple[str, ...]) -> Path:
    """A run of four digits."""
    options = ("data.limit=4", "quadrature.n_steps=1", "baselines=[]", "report=false", "logger=none")
    outcome = run_in(run_dir, command, *options, *given)
    assert outcome.code == 0, outcome.err
    return run_dir


def evidence(folder: Path, given: tuple[str, ...]) -> object:
    return load_evidence(made(folder, "search", given))


def curves(folder: Path, given: tuple[str, ...]) -> object:
    return edit_curves_figure(load_effects(made(folder / f"{len(given)} settings", "run", given)))


def beginning(folder: Path, run_dir: str) -> object:
    """A search into a folder, of two that are there the one that holds results."""
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "a" / "paths.parquet").touch()
    return open_run_dir(folder / run_dir)


def beside(name: str, read: Callable[[Path], object]) -> Callable[[Path, str | None], object]:
    """Read a folder that holds a file which does not belong there."""

    def do(folder: Path, text: str | None) -> object:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        return read(folder)

    return do


CALLS = {
    # find_paths, score_paths and intervene
    "references that a search needs": Call(
        find, {"search": effect_of("mean_ablation")}, r"as (?P<code>reference_images=images)\.$"
    ),
    "donors that a search needs": Call(
        find, {"search": effect_of("resample_ablation")}, r"as (?P<code>donor_images=.*)\.$"
    ),
    "donors that a search does not take": Call(find, {"donor_images": IMAGES}, LEFT_OUT),
    "references that an operation needs": Call(
        edit, {"operation": "mean_ablation"}, r"as (?P<code>reference_images=images)\.$"
    ),
    "donors that an operation needs": Call(
        edit, {"operation": "resample_ablation"}, r"as (?P<code>donor_images=.*)\.$"
    ),
    "one donor for two": Call(
        edit, {"operation": "resample_ablation", "donor_images": IMAGES[:1]}, r"as (?P<code>donor_images=.*)\.$"
    ),
    "no references": Call(
        edit, {"operation": "mean_ablation", "reference_images": IMAGES[:0]}, r"as (?P<code>reference_images=images)\.$"
    ),
    "values that are not asked for": Call(edit, {"target": "margin"}, r"add (?P<code>return_values=True), or"),
    "factor that is text": Call(edit, {"operation": "enhance", "factor": "2"}, SUCH_AS),
    "neuron twice in a block": Call(
        score,
        {"paths": FOUND.repeat(1, 1, 2)},
        r"give (?P<by_hand>−1), .* in the place of the other",
        mend=lambda paths, _: paths.index_fill(2, torch.tensor([1]), -1),
    ),
    "neuron that is not there": Call(
        score,
        {"paths": put(FOUND, 99, 0, 0, 0)},
        r"or (?P<by_hand>−1) for none",
        mend=lambda paths, _: paths.where(paths < 24, -1),
    ),
    "path of no neuron": Call(
        score, {"paths": put(FOUND, -1, 0)}, r"(?P<by_hand>name one)", mend=lambda paths, _: paths.clamp(min=0)
    ),
    "heads that are not known": Call(
        find,
        {"model": zoo.SPECIMENS["xcit-cls"].make(), "images": zoo.SPECIMENS["xcit-cls"].images(1), "units": "heads"},
        r"use units=(?P<value>\w+)\.$",
    ),
    "scorer of heads": Call(
        find, {"units": "heads", "scorer": "influence_pattern"}, r"another scorer, such as (?P<value>\w+)\.$"
    ),
    "compile": Call(find, {"compile": "yes"}, r"or (?P<value>False)\."),
    "per_block": Call(find, {"per_block": "no"}, r"expected (?P<value>True) or"),
    "polish": Call(Linearized, {"polish": "no"}, r"expected (?P<value>True) or"),
    "rule that is none": Call(find, {"n_steps": 4, "quadrature": 3}, r"Known: (?P<value>\w+)"),
    "n_steps that is text": Call(find, {"n_steps": "8"}, LEAST),
    "n_steps beside a quadrature": Call(
        score, {"quadrature": neuron_path.Quadrature("midpoint", 2), "n_steps": 3}, r"(?P<without>give one of the two)"
    ),
    "scorer that is a class": Call(
        find, {"scorer": Random}, r"object of it: (?P<expression>\w+\(\))\.$", {"Random": Random}
    ),
    "scorer that is a number": Call(find, {"scorer": 3}, r"Known: (?P<value>\w+)"),
    "option of a scorer": Call(partial(scorers.create, "random"), {"sed": 1}, r"options: (?P<key>\w+)"),
    "reference that is lacking": Call(reference, {"reference": None}, r"as (?P<code>reference='\w+')\.$"),
    "as many others": Call(find, {"scorer": "activation_matched_random", "top_k": 20}, r"1 … (?P<value>\d+)\.$"),
    "neurons of any blocks": Call(find, {"per_block": False}, r"\((?P<code>search='\w+') in Python"),
    "paths without number": Call(find, {"top_k": 3, "search": "exhaustive"}, r"\((?P<code>search='\w+') in Python"),
    "budget": Call(find, {"memory_budget": "1kB"}, r"needs about (?P<value>[\d.]+ \w+) .*raise it to that"),
    "contrast_class of another target": Call(
        find, {"targets": 0, "contrast_class": 1}, r"\((?P<code>target='\w+') in Python"
    ),
    "contrast_class of no contrast": Call(find, {"targets": 0, "contrast_class": 1}, LEFT_OUT),
    "contrast_class that is the target": Call(
        find, {"targets": 0, "target": "contrast", "contrast_class": 0}, r"(?P<without>Leave contrast_class out)"
    ),
    "contrast_class that is no class": Call(find, {"targets": 0, "target": "contrast", "contrast_class": "cat"}, UP_TO),
    "single output": Call(
        find, {"model": tiny.make(num_classes=1), "target": "probability"}, r"use '(?P<value>\w+)' for"
    ),
    "target function of another shape": Call(
        find, {"target": lambda logits: logits}, r"as of (?P<expression>lambda .*)\.$"
    ),
    "target function of a batch": Call(
        find, {"target": lambda logits: logits[:, 0] - logits.mean()}, r"as (?P<expression>lambda .*) does\.$"
    ),
    "images in an array": Call(find, {"images": IMAGES.numpy()}, r"W\): (?P<expression>.*)\.$", {"torch": torch}),
    "images in a list": Call(find, {"images": list(IMAGES)}, r"W\): (?P<expression>.*) of tensors", {"torch": torch}),
    "sparse images": Call(find, {"images": IMAGES.to_sparse()}, r"with values: (?P<expression>.*)\.$"),
    "complex images": Call(find, {"images": IMAGES.to(torch.complex128)}, r"magnitudes: (?P<expression>.*)\.$"),
    "images of another size": Call(
        find, {"images": tiny.make_images(2, size=12)}, r"resize them, (?P<expression>.*), or load", {"torch": torch}
    ),
    "images between two patches": Call(
        find,
        {"model": tiny.make(dynamic_img_size=True), "images": tiny.make_images(2, size=9)},
        r"resize them, (?P<expression>.*)\.$",
        {"torch": torch},
    ),
    "images of one channel": Call(find, {"images": IMAGES[:, :1]}, r"repeat it, (?P<expression>.*), or load"),
    "image with a hole": Call(
        find,
        {"images": put(IMAGES, float("nan"), 0)},
        r"(?P<by_hand>leave it out)",
        mend=lambda images, _: images[1:],
    ),
    "image that is not in the result": Call(plot, {"index": 2}, UP_TO),
    # Heads
    "no classifier": Call(headless, {"model": tiny.make(num_classes=0)}, r"in Python: (?P<expression>.*)\)\.$"),
    "classifier of two layers": Call(
        with_cosines,
        {"model": of_two_layers()},
        r"load it with (?P<by_hand>num_classes=0)\.",
        mend=lambda *_: tiny.make(num_classes=0),
    ),
    "masks of a head of features": Call(
        with_masks,
        {"masks": torch.ones(1, 2, 2), "head": PLAIN_HEAD},
        r"make it one, (?P<expression>.*), or leave",
        {"dataclasses": dataclasses, "head": PLAIN_HEAD},
    ),
    "classes of two masks": Call(
        with_two_masks, {"target": "margin"}, r"use (?P<expression>'\w+') or 'sigmoid', or attach"
    ),
    "one mask": Call(
        with_a_mask,
        {"masks": torch.ones(2, 2)},
        r"one alone is (?P<expression>.*)\.$",
        {"mask": torch.ones(2, 2)},
    ),
    "head of another name": Call(read_head, {"key": "zzz"}, r"\((?P<code>key='[\w.]+') in Python"),
    "ending of a head": Call(
        written_head, {"name": "mine.pt"}, r"name it (?P<by_hand>\S+\.safetensors)\.", mend=lambda _, name: name
    ),
    # Classes
    "no neurons": Call(partial(make_class_paths, [[0, 3], [0, 3]], [0, 0]), {"n_neurons": 0}, LEFT_OUT),
    "fewer neurons than there are": Call(
        partial(make_class_paths, [[0, 3], [0, 3]], [0, 0]), {"n_neurons": 2}, r"Give (?P<code>n_neurons=\d+) or"
    ),
    "names of other images": Call(partial(make_class_paths, [[0, 3], [0, 3]], [0, 0]), {"images": ["a"]}, LEFT_OUT),
    "clusters of classes": Call(cluster_classes(np.eye(3)).cut, {"n_clusters": 9}, RANGE),
    "clusters of images": Call(partial(cluster_images, NAMED), {"n_clusters": 9}, RANGE),
    "image without a path": Call(partial(describe_image, NAMED, USAGE), {"sample_id": "catt"}, DID_YOU_MEAN),
    "block": Call(partial(neuron_classes, USAGE), {"neuron": 0, "block": 9}, RANGE),
    "neuron of a block": Call(partial(neuron_classes, USAGE), {"block": 0, "neuron": 9}, RANGE),
    "blocks of other widths": Call(
        lambda make: getattr(count_usage(make_class_paths([[0, 0]], [0], n_neurons=[1, 2])), make)(),
        {"make": "to_array"},
        r"use (?P<value>\w+)\(\)",
    ),
    "distances of another kind": Call(
        distances, {"file": "d.txt"}, r"as (?P<by_hand>\.csv)", mend=lambda file, ending: file.replace(".txt", ending)
    ),
    "distances of other names": Call(
        distances,
        {"text": ",catt,dog\ncatt,0,1\ndog,1,0\n"},
        r"Did you mean '(?P<by_hand>\w+)'\? (?=Name each class)",
        mend=lambda text, found: text.replace(found, "cat"),
    ),
    # Evaluation and evidence
    "effects by something else": Call(
        partial(summarise_effects, EFFECTS, {}, n_resamples=9), {"by": "label"}, r"expected '(?P<value>\w+)'"
    ),
    "neurons' images that were not kept": Call(
        evidence, {"given": ()}, r"again with (?P<by_hand>\S+=true)\.", mend=lambda given, found: (*given, found)
    ),
    "strongest images": Call(strongest, {"n_top": 0}, r"expected (?P<value>\d+) or more"),
    # Pruning
    "kept share": Call(partial(keep_neurons, [torch.ones(4)]), {"keep": 2}, r"up to (?P<value>\d)\."),
    "rounds": Call(latency, {"rounds": 0}, r"as (?P<code>rounds=.*)\.$"),
    "ties of a method": Call(check_method, {"name": "path+path"}, r"as (?P<value>\S+)\.$"),
    "paths of two methods": Call(choose_paths, {"paths": TWO_METHODS}, r"\(in Python: (?P<code>.*)\)\.$"),
    "paths of no method": Call(choose_paths, {"paths": TWO_METHODS, "scorer": "zzz"}, r"Found: (?P<value>\w+)"),
    "share that selects": Call(lambda share: split_images(["a", "b"], [0, 0], share, 0), {"share": 1}, SUCH_AS),
    "architecture of a pruned model": Call(saved, {"classes": ()}, r"such as (?P<code>name='\w+')"),
    "names of other classes": Call(saved, {"name": "digits_vit", "classes": ["a"]}, LEFT_OUT),
    "neuron kept twice": Call(
        slicing,
        {"kept": [[0, 0], [1], [1]]},
        r"(?P<by_hand>give each once)",
        mend=lambda kept, _: [sorted(set(block)) for block in kept],
    ),
    "no neuron kept": Call(
        slicing, {"kept": [[], [1], [1]]}, r"(?P<by_hand>keep at least one)", mend=lambda kept, _: [[0], *kept[1:]]
    ),
    # Statistics, figures and files
    "value that is none": Call(
        bootstrap_mean,
        {"values": np.array([1.0, np.nan, 2.0])},
        r"or (?P<by_hand>leave them out)",
        mend=lambda values, _: values[np.isfinite(values)],
    ),
    "seed without images": Call(
        crossed_means,
        {"values": np.array([[[1.0, 2.0], [np.nan, np.nan]]])},
        r"(?P<by_hand>leave it out)",
        mend=lambda values, _: values[:, :1],
    ),
    "intervals over seeds": Call(
        partial(crossed_means, np.ones((1, 2, 3))), {"confidence": 95}, r"such as (?P<code>confidence=.*)\.$"
    ),
    "images of a class": Call(
        partial(class_distribution_figure, [[0, 1], [0, 2]], n_neurons=4, class_name="cat"),
        {"n_images": 1},
        r"at least the (?P<value>\d+) images",
    ),
    "neurons that are drawn": Call(
        partial(path_flow_figure, [[0, 1], [0, 2]], [0, 1]), {"per_block": 0}, r"expected (?P<value>\d+) or more"
    ),
    "classes that are drawn": Call(
        partial(path_flow_figure, np.zeros((7, 2), int), range(7)),
        {"shown": None},
        r"choose them with (?P<by_hand>shown=)\.",
        mend=lambda *_: [0, 5],
    ),
    "sizes that are drawn": Call(
        curves,
        {"given": ()},
        r"with top_k above 1, and evaluate with (?P<by_hand>.*)\.$",
        mend=lambda _, found: ("top_k=2", *found.replace(",…", "").split()),
    ),
    "values of an earlier evaluation": Call(
        partial(edit_curves_figure, pd.concat([EFFECTS.assign(size=0), EFFECTS])),
        {"quantity": "margin"},
        r"\((?P<code>quantity='probability')\)\.$",
    ),
    "format of a figure": Call(
        written, {"formats": ("bmp",)}, r"Known formats: (?P<by_hand>\w+)", mend=lambda _, known: (known,)
    ),
    "neurons per block of the store": Call(path_schema, {"top_k": 0}, r"expected (?P<value>\d+) or more"),
    "directory with results": Call(
        beginning, {"run_dir": "a"}, r"another one with (?P<by_hand>hydra\.run\.dir)=DIR", mend=lambda *_: "b"
    ),
    "results that are in the way": Call(
        beside("paths.parquet", open_run_dir),
        {"text": ""},
        r"or (?P<by_hand>move the results away)",
        mend=lambda *_: None,
    ),
    "file among the parts": Call(
        beside("parts/notes.txt", partial(read_parts, schema=path_schema(1))),
        {"text": "mine"},
        r"(?P<by_hand>Move it away)",
        mend=lambda *_: None,
    ),
    "torn file": Call(
        beside("metrics.json", lambda folder: read_json(folder / "metrics.json")),
        {"text": "{"},
        r"or (?P<by_hand>remove it)",
        mend=lambda *_: None,
    ),
    "foreign list of images": Call(
        beside("skipped.json", read_skipped), {"text": '{"a": 1}'}, r"(?P<by_hand>remove it)", mend=lambda *_: None
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_the_advice_for_a_call_works(kind: str, tmp_path: Path) -> None:
    row = CALLS[kind]
    if row.do is headless:
        names = {"neuron_path": neuron_path, "FILE": tmp_path / "head.pt"}
        row = Call(row.do, row.wrong, row.advice, names)
    follow(row, tmp_path)


@pytest.mark.parametrize("refused", ["zzz", "resnet18"])
def test_models_are_listed_by_the_command_that_is_named(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "supported_models", lambda: ["test_vit"])  # timm's hundreds take half a minute
    with pytest.raises(NeuronPathError) as caught:
        estimate(refused)
    found = re.search(r"(neuron-path [\w-]+) lists the", str(caught.value))
    assert found is not None
    code, listed, _ = call(*found[1].split()[1:])
    assert code == 0
    estimate(listed.split()[0], seconds=0.01)


def test_what_is_to_be_installed_is_there() -> None:
    """Each package by its name in the index, as `pyproject.toml` spells it, or an extra that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [one for part in (project["dependencies"], *extras.values()) for one in part]
    known = {re.split(r"[\[><=;\s]", one, maxsplit=1)[0] for one in needed} | {"nltk", "pillow-heif"}
    asked = set()
    for file in (ROOT / "neuron_path").rglob("*.py"):
        text = re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8"))  # strings that go on in the next line
        asked |= set(re.findall(r"pip install (?:-U )?'?([\w-]+(?:\[\w+\])?)", text))
    assert {"transformers", "neuron-path[huggingface]"} <= asked
    for one in asked:
        name, _, extra = one.partition("[")
        assert extra[:-1] in extras if extra else name in known, one
