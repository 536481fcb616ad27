"""What a refusal advises is read out of its message, done word for word, and works.

A row is a mistake and a pattern for the advice in its message. The pattern's one group says by its name what is done
with what it finds:

    override   these settings are given, in the place of those of the same names
    instead    these settings are given in the place of the mistake, which is the last setting of its row
    value      the mistake gets this value
    key        the mistake gets this name
    without    the mistake is left out
    by_hand    the row's own `mend` does it to the files
    command    this command is run
    only       the mistake is this word, without a value
"""

from __future__ import annotations

import ast
import copy
import gzip
import inspect
import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from torch import Tensor

import neuron_path
from neuron_path.classes import clustering, grouping, methods, overlap, stability
from neuron_path.classes.class_paths import make_class_paths
from neuron_path.cli.hydra_app import explain
from neuron_path.cli.overrides import as_overrides
from neuron_path.config import Config, conf_dir, read_config
from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.stage import StageModule
from neuron_path.models.session import Session
from neuron_path.pipeline import run
from neuron_path.pipeline.build import build_data, build_finder, build_head, build_model, build_study, build_targets
from neuron_path.pipeline.evaluate import check_evaluation
from neuron_path.pipeline.launch.processes import find_processes
from neuron_path.pipeline.launch.threads import use_threads
from neuron_path.pipeline.pruning.settings import read_prune_config
from neuron_path.pruning.saved import save_pruned
from neuron_path.stats import intervals, mantel, paired
from neuron_path.tracking import check_options
from tests import pictures, tiny
from tests.bad_input.test_what_people_bring import model as meta_model
from tests.command import call, composing, run_in
from tests.data.test_shards import write as write_shard
from tests.models.test_descriptions import CONFIG, HEADS, WIDTH, hugging_face, vit
from tests.models.test_layouts import torchvision_vit
from tests.models.test_pixels import as_bytes, noise, tiff

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of random weights, and of labels that are none

Files = Mapping[str, bytes] | Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """A mistake in settings of `neuron-path search`.

    Attributes:
        wrong: the settings as typed, the mistake last; DIR is a folder with the row's files.
        advice: where the message says what to do.
        until: the stage that refuses.
        files: what lies in the folder.
        fill: what a person writes for the capitals in the advice; DIR is the folder there too.
        mend: what is done to the folder, by what is found.
    """

    wrong: str
    advice: str
    until: Callable[[Config], object]
    files: Files = field(default_factory=dict)
    fill: Mapping[str, str] = field(default_factory=dict)
    mend: Callable[[Path, str], object] | None = None


def settings(config: Config) -> None:
    """They are read, and no more."""


def method(config: Config) -> None:
    check_evaluation(config.evaluation)
    build_finder(config, digits(), config.baselines)


def model(config: Config) -> None:
    build_head(config, build_model(config), torch.device("cpu"))


def images(config: Config) -> None:
    dataset: Any = build_data(config, meta_model(config.model.kwargs.get("in_chans", 3))).dataset
    if (problem := dataset[0].get("problem")) is not None and config.data.on_error == "raise":
        raise unreadable(dataset.sample_ids[0], problem)


def targets(config: Config) -> None:
    build_targets(config, 10, build_data(config, meta_model(3)))


def threads(config: Config) -> None:
    use_threads(config.trainer.threads)


def study(config: Config) -> None:
    build_study(config)


def begun(config: Config) -> None:
    """What `neuron-path run` checks before it begins."""
    with patch.object(run, "_begun", lambda *_: nullcontext()):
        run.run(config, Path("there"))


def skipping(config: Config) -> None:
    """The images are gone through."""
    stage: Any = SimpleNamespace(on_error=config.data.on_error, max_skipped=config.data.max_skipped)
    module = StageModule(torch.nn.Identity(), lambda: stage)
    module.setup("predict")
    for batch in build_data(config, meta_model(3)).predict_dataloader():
        module._skip(batch)


def tracking(config: Config) -> None:
    check_options(asdict(config.logger))


@cache
def digits() -> Session:
    return Session(neuron_path.load_model("digits_vit"))


@cache
def composed(overrides: tuple[str, ...], name: str = "config") -> DictConfig:
    with composing():
        return compose(name, overrides=list(overrides))


def configured(given: Sequence[str], name: str = "config", read: Callable[[DictConfig], Any] = read_config) -> Any:
    """The configuration of these settings, which is composed once for each choice of options, as that takes long."""
    typed = as_overrides(given)
    try:
        parsed = _parsed(typed)
        groups = tuple(one.input_line for one in parsed if _is_option(one))
        config = copy.deepcopy(composed(groups if parsed else tuple(typed), name))
        for one in parsed:
            if one.input_line not in groups:
                OmegaConf.update(config, one.key_or_group, one.value(), force_add=one.is_add())
        return read(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise NeuronPathError(explain(error)) from error


def _parsed(typed: Sequence[str]) -> list[Any]:
    """Overrides that can be applied one after another; none where that is Hydra's own business."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(typed))
    except HydraException:
        return []
    is_plain = not any(one.is_sweep_override() or (one.is_add() and _is_option(one)) for one in parsed)
    return parsed if is_plain else []


def _is_option(override: Any) -> bool:
    return (conf_dir() / override.key_or_group).is_dir()


def followed(given: Sequence[str], found: re.Match[str], fill: Mapping[str, str]) -> list[str]:
    """The settings, or the command, after the advice."""
    [(verb, text)] = found.groupdict().items()
    *others, last = given
    name, _, value = last.partition("=")
    if verb == "command":
        new = [_filled(one, fill) for one in shlex.split(text)]
        return new[1:] if text.startswith("neuron-path ") else [*new, *given[1:]]
    if verb in ("override", "instead"):
        new = [_filled(one, fill) for one in shlex.split(text)]
        names = {_name(one) for one in new}
        return [*(one for one in (given if verb == "override" else others) if _name(one) not in names), *new]
    if last.endswith("]") and verb == "value" and text != "null":
        text = f"[{text}]"
    return others + {"value": [f"{name}={text}"], "key": [f"{text}={value}"], "only": [text], "without": []}[verb]


def _filled(text: str, fill: Mapping[str, str]) -> str:
    for word, value in fill.items():
        text = text.replace(word, value)
    return text


def _name(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


A = as_bytes(pictures.picture(), "PNG")
PETS = {"cat/a.png": A, "dog/a.png": A}
PAIRS = {f"{name}/{letter}.png": A for name in ("cat", "dog") for letter in "ab"}
FOLDER = "data=image_folder data.root=DIR"
DID_YOU_MEAN = r"Did you mean '(?P<value>[^']+)'\?"
KNOWN = r"Known: (?P<value>[\w-]+)"
LEAST = r"at least (?P<value>\d+)"
SUCH_AS = r"such as (?P<value>[\d.]*\d)\.$"
SUCH_AS_LIST = r"such as \[(?P<value>.*)\]\.$"
UP_TO = r"expected .*0 … (?P<value>\d+)\.$"
OR_NULL = r"or (?P<value>null) for"


def weights(folder: Path, **parts: Any) -> None:
    """Files of weights, by their names without ending; each a mapping that torch saves."""
    for name, held in parts.items():
        torch.save(held, folder / f"{name}.pt")


def embedded() -> dict[str, Tensor]:
    return dict(digits().model.state_dict())


def small(**options: Any) -> dict[str, Tensor]:
    """The weights of timm's smallest model."""
    return neuron_path.load_model("test_vit", **{"img_size": 32, **options}).state_dict()


SMALL = "model=timm model.name=test_vit +model.kwargs.img_size=32"
PROBE = f"{FOLDER} {SMALL} head=linear_probe head.root=DIR"
HEAD = {"weight": torch.zeros(3, 64), "bias": torch.zeros(3)}


def a_head(folder: Path) -> None:
    weights(folder, head=HEAD)


def move_away(folder: Path, name: str) -> None:
    (folder / name).unlink()


def rewritten(name: str, change: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Path, str], None]:
    """Change a file of text; the first argument is there for what was found."""

    def mend(folder: Path, _: str) -> None:
        file = folder / name
        file.write_text(change(file.read_text(encoding=encoding)), encoding="utf-8")

    return mend


def first_line(name: str) -> Callable[[Path, str], object]:
    return lambda folder, line: (folder / name).write_text(f"{line}\n" + (folder / name).read_text())


def labels(text: str, *names: str, encoding: str = "utf-8") -> dict[str, bytes]:
    return dict.fromkeys(names or ("v/a.png",), A) | {"l.csv": text.encode(encoding)}


LABELLED = "data=image_folder data.root=DIR/v data.labels=DIR/l.csv"
LINE = as_bytes(Image.linear_gradient("L").resize((1000, 1)), "PNG")
HUGE = as_bytes(Image.new("L", (16, 16), 3).resize((300, 300)), "PNG")


def shard(**members: bytes) -> Callable[[Path], object]:
    return lambda folder: write_shard(
        folder / "a.tar", {name.replace("_", "."): held for name, held in members.items()}
    )


FLOATS = np.random.default_rng(0).random((16, 16, 1)).astype("f4")
BANDS = [Image.fromarray(noise(5)[..., band]) for band in range(5)]


def saved(values: np.ndarray) -> Callable[[Path, str], object]:
    return lambda folder, _: (folder / "x.tif").write_bytes(tiff(values))


def described(**config: Any) -> Callable[[Path], object]:
    """A folder of Hugging Face's that tells its model."""
    return lambda folder: hugging_face(folder, vit(), CONFIG | config)


def beit(folder: Path) -> None:
    """A folder of Hugging Face's with a model that timm lacks."""
    pytest.importorskip("transformers")
    from tests.models.test_by_transformers import classifier

    classifier(folder)


SETTINGS = {
    # The command line
    "option, a slip": Row("scorer=activaton", DID_YOU_MEAN, settings),
    "option that is not there": Row("search=zzz", r"Options: (?P<value>\w+)", settings),
    "model as an option": Row("model=test_vit", r"is (?P<instead>model=timm model\.name=\S+)\.", settings),
    "setting, a slip": Row("scorerr=random", r"Did you mean '(?P<key>[\w.]+)'", settings),
    "setting without its group": Row("n_steps=3", r"Did you mean '(?P<key>[\w.]+)'", settings),
    "setting of another option": Row("data.root=DIR", r"add (?P<override>data=\w+)\.", images, PETS),
    "setting of another scorer": Row("scorer.shortlist=3", r"add (?P<override>scorer=\w+)\.", settings),
    "setting of no group": Row(f"{FOLDER} labels_only=false", r"Did you mean '(?P<key>[\w.]+)'", images, PETS),
    "new key": Row("model.kwargs.depth=3", r"add it as (?P<override>\+\S+=VALUE)\.", settings, fill={"VALUE": "3"}),
    "nothing given": Row("data=image_folder", r"add (?P<override>\S+=VALUE)\.", settings, fill={"VALUE": "DIR"}),
    "option added": Row(
        "+scorer=random",
        r"choose one as (?P<instead>GROUP=OPTION),",
        settings,
        fill={"GROUP": "scorer", "OPTION": "random"},
    ),
    "several values": Row("data.classes=a,b", r"brackets for a list, as in (?P<instead>'.*')\.", settings),
    "value that is a list": Row("data.classes=3", r"as in (?P<instead>'.*')\.", settings),
    "whole number": Row("data.limit=1e2", r"as in (?P<instead>\S+)\.", settings),
    "word that is no whole number": Row("data.limit=three", r"as in (?P<instead>\S+)\.", settings),
    "word that is no number": Row(f"{FOLDER} data.crop_pct=most", r"as in (?P<instead>\S+)\.", settings),
    "list that is none": Row("baselines=none", r"as in '?(?P<instead>baselines=\[\])'?\.", settings),
    "list that is null": Row("baselines=null", r"empty list is (?P<instead>\S+)\.", settings),
    "setting in capitals": Row("SCORER=random", r"Did you mean '(?P<key>\w+)'", settings),
    "empty path": Row("data=image_folder data.root=", r"as in (?P<override>\S+)(?=, or leave)", settings),
    "no grammar": Row("data.limit={", r"as in (?P<instead>data\.limit=\d+);", settings),
    "special characters": Row("data.classes=[fox, red", r"as in (?P<instead>'data\.classes.*')\.", settings),
    # The configuration
    "name of a group's option": Row("scorer.name=random", r"choose with (?P<instead>\S+) instead", settings),
    "rule of another option": Row("quadrature.rule=adaptive", r"choose with (?P<instead>\S+) instead", settings),
    "option in the place of a name": Row("model.name=vit_b_16", r"choose with (?P<instead>\S+) instead", settings),
    # Folders
    "a split too high": Row(
        FOLDER, r"as (?P<override>'data\.root=.*'|data\.root=\S+), or", images, {f"val/{name}": A for name in PETS}
    ),
    "splits that are classes": Row(
        FOLDER, r"or say with (?P<override>data\.class_index=\w+) that", images, {"train/a.png": A, "val/a.png": A}
    ),
    "classes deeper down": Row(
        FOLDER,
        r"as (?P<override>'data\.root=.*'|data\.root=\S+), or",
        images,
        {"my pictures/n01440764/a.png": A, "my pictures/n02099601/a.png": A},
    ),
    "file beside folders": Row(
        FOLDER, r"the file '(?P<by_hand>.*)' beside them: .*move the file", images, {"x.png": A, **PETS}, mend=move_away
    ),
    "no picture": Row(
        FOLDER, r"File '(?P<by_hand>.*)' is no image .*remove it", images, {"x.png": b"?", "y.png": A}, mend=move_away
    ),
    "no picture, left out": Row(
        FOLDER, r"or set (?P<override>data\.on_error=skip)", images, {"x.png": b"?", "y.png": A}
    ),
    "too many pixels": Row(
        f"{FOLDER} data.max_pixels=1000", r"(?P<override>data\.max_pixels=\d+) allows it", images, {"x.png": HUGE}
    ),
    "name that is no text": Row(
        FOLDER,
        r"File name (?P<by_hand>'.*') in .* rename it",
        images,
        lambda folder: [pictures.save(folder / "a.png"), (folder / "a.png").rename(folder / "\udcff.png")],
        mend=lambda folder, name: (folder / ast.literal_eval(name)).rename(folder / "b.png"),
    ),
    # Pixels
    "floats to 255": Row(
        FOLDER, r"(?P<by_hand>scale them and save it again)", images, {"x.tif": tiff(FLOATS * 255)}, mend=saved(FLOATS)
    ),
    "eight bits in thirty-two": Row(
        FOLDER,
        r"(?P<by_hand>scale them)",
        images,
        {"x.tif": tiff(noise(1, "u4", 256))},
        mend=saved(noise(1, "u4", 256) * 2**24),
    ),
    "sixteen bits in planes": Row(
        FOLDER,
        r"(?P<by_hand>save it with them interleaved)",
        images,
        {"x.tif": tiff(noise(3), t284=2, t273=[8, 520, 1032], t279=[512] * 3)},
        mend=saved(noise(3)),
    ),
    "bands in one page": Row(
        f"{FOLDER} {SMALL} +model.kwargs.in_chans=5 data.mean=[0,0,0,0,0] data.std=[1,1,1,1,1]",
        r"save (?P<by_hand>each band as a grey page, of integers of 8 or 16 bits)",
        images,
        {"x.tif": tiff(noise(5))},
        mend=lambda folder, _: (folder / "x.tif").write_bytes(
            as_bytes(BANDS[0], "TIFF", save_all=True, append_images=BANDS[1:])
        ),
    ),
    "colours for four channels": Row(
        f"{FOLDER} {SMALL} +model.kwargs.in_chans=4 data.mean=[0,0,0,0] data.std=[1,1,1,1]",
        r"expected (?P<by_hand>RGBA), or",
        images,
        {"x.png": A},
        mend=lambda folder, mode: Image.open(folder / "x.png").convert(mode).save(folder / "x.png"),
    ),
    "colours that are floats": Row(
        FOLDER,
        r"save it as (?P<by_hand>RGB), of integers",
        images,
        {"x.tif": tiff(noise(3).astype("f4"))},
        mend=lambda folder, mode: Image.fromarray(noise(3, "u1", 256)).convert(mode).save(folder / "x.tif"),
    ),
    "grey with another band": Row(
        FOLDER,
        r"save it as a (?P<by_hand>PNG) of grey with transparency",
        images,
        {"x.tif": tiff(noise(2))},
        mend=lambda folder, kind: Image.fromarray(noise(2, "u1", 256)).save(folder / "x.tif", kind),
    ),
    "line with a border": Row(
        f"{FOLDER} data.crop_mode=border", r"or (?P<override>data\.crop_mode=squash) takes", images, {"x.png": LINE}
    ),
    # Classes and parts
    "folders that are no numbers": Row(f"{FOLDER} data.class_index=number", r"say (?P<value>natural) or", images, PETS),
    "folders that are no numbers, as text": Row(
        f"{FOLDER} data.class_index=number", r"or (?P<value>text),", images, PETS
    ),
    "class index of names": Row(
        f"{FOLDER} data.class_index=DIR/i.json",
        r"as in (?P<by_hand>\{.*\})\.",
        images,
        {"cat/a.png": A, "i.json": b"[1]"},
        mend=lambda folder, text: (folder / "i.json").write_text(text),
    ),
    "class index without a header": Row(
        f"{FOLDER} data.class_index=DIR/i.csv",
        r"begins with the line (?P<by_hand>[\w,]+)",
        images,
        {"cat/a.png": A, "i.csv": b"cat,1\n"},
        mend=first_line("i.csv"),
    ),
    "class index of another number": Row(
        f"{FOLDER} data.class_index=DIR/i.csv",
        r"as in (?P<by_hand>\w+,\d)\.",
        images,
        {"cat/a.png": A, "i.csv": b"key,index\ncat,one\n"},
        mend=lambda folder, line: (folder / "i.csv").write_text(f"key,index\n{line}\n"),
    ),
    "class index that lacks a folder": Row(
        f"{FOLDER} data.class_index=DIR/i.json",
        r"lacks the folder '(?P<by_hand>\w+)' \(1 in all\): add it",
        images,
        PETS | {"i.json": b'{"cat": 0}'},
        mend=lambda folder, name: (folder / "i.json").write_text(f'{{"cat": 0, "{name}": 1}}'),
    ),
    "word for class indices": Row(f"{FOLDER} data.class_index=Number", DID_YOU_MEAN, images, {"1/a.png": A}),
    "no classes": Row(f"{FOLDER} data.classes=[]", r"or give (?P<value>null) for all", images, PETS),
    "classes of unlabelled pictures": Row(
        f"{FOLDER} data.classes=[cat]", r"(?P<without>leave it out)", images, {"a.png": A}
    ),
    "class that is not there": Row(f"{FOLDER} data.classes=[cta]", r"Did you mean '(?P<value>cat)'", images, PETS),
    "class of many": Row(
        f"{FOLDER} data.classes=[zzz]",
        r"such as '(?P<value>\w+)'",
        images,
        {f"c{number:02}/a.png": A for number in range(21)},
    ),
    "no limit": Row("data.limit=0", OR_NULL, images),
    "limit": Row("data.limit=0", LEAST, images),
    "batch_size": Row("data.batch_size=0", LEAST, images),
    "num_workers": Row("data.num_workers=-1", LEAST, images),
    "max_pixels": Row(f"{FOLDER} data.on_error=skip data.max_pixels=0", LEAST, images, PETS),
    "on_error": Row("data.on_error=skipp", DID_YOU_MEAN, images),
    "split": Row("data.split=zzz", KNOWN, images),
    # Tables of labels
    "labels in two columns of numbers": Row(
        LABELLED,
        r"below the line (?P<by_hand>[\w,]+)\.",
        images,
        labels("1,2\n2,1\n", "v/1.png", "v/2.png"),
        mend=first_line("l.csv"),
    ),
    "labels in no table": Row(
        LABELLED,
        r"lines such as (?P<by_hand>[\w.,]+)\.",
        images,
        labels("hello\n"),
        mend=lambda folder, line: (folder / "l.csv").write_text(f"{line}\n"),
    ),
    "labels in one column a class": Row(
        LABELLED,
        r"name that column '(?P<by_hand>\w+)' in the first line",
        images,
        labels("file,mine,other\na.png,0,1\n"),
        mend=lambda folder, name: rewritten("l.csv", lambda text: text.replace("mine", name))(folder, ""),
    ),
    "labels of some": Row(
        LABELLED, r"or (?P<override>data\.labels_only=true) leaves", images, labels("a.png,1\n", "v/a.png", "v/b.png")
    ),
    "labels of several": Row(
        LABELLED,
        r"(?P<by_hand>leave one) for each",
        images,
        labels("file;class\na.png;1,2\n"),
        mend=rewritten("l.csv", lambda text: text.replace(",2", "")),
    ),
    "each of several labels": Row(
        LABELLED, r"or say (?P<override>data\.each_label=true) for", images, labels("file;class\na.png;1,2\n")
    ),
    "each label of none": Row(
        "data=image_folder data.root=DIR/v data.each_label=true",
        r"give these, (?P<override>data\.labels=FILE),",
        images,
        labels("a.png,1\n"),
        fill={"FILE": "DIR/l.csv"},
    ),
    "labels that lack one": Row(
        LABELLED,
        r"(?P<by_hand>fill it in)",
        images,
        labels("file,class\na.png,\n"),
        mend=rewritten("l.csv", lambda text: text.replace("png,", "png,1")),
    ),
    "labels for two by one row": Row(
        LABELLED,
        r"(?P<by_hand>name each with its folders and its ending)",
        images,
        labels("a,1\n", "v/a.png", "v/a.jpg"),
        mend=rewritten("l.csv", lambda _: "a.png,1\na.jpg,1\n"),
    ),
    "labels in Latin-1": Row(
        LABELLED,
        r"(?P<by_hand>save it as UTF-8)",
        images,
        labels("a.png,jäger\n", encoding="latin-1"),
        mend=rewritten("l.csv", str, "latin-1"),
    ),
    # Shards
    "shard with two pictures": Row(
        "data=webdataset data.root=DIR", r"as in (?P<override>data\.image_key=\w+)\.", images, shard(a_png=A, a_jpg=A)
    ),
    "compressed shard": Row(
        "data=webdataset data.root=DIR/a.tar",
        r"(?P<by_hand>unpack it) to a plain",
        images,
        lambda folder: (folder / "a.tar").write_bytes(
            gzip.compress(write_shard(folder / "b.tar", {"a.png": A}).read_bytes())
        ),
        mend=lambda folder, _: (folder / "a.tar").write_bytes(gzip.decompress((folder / "a.tar").read_bytes())),
    ),
    "shards that are not there": Row(
        "data=webdataset data.root=DIR/b",
        r"as in (?P<override>data\.root=DIR/train-\*\.tar)\.",
        images,
        lambda folder: write_shard(folder / "train-0.tar", {"a.png": A}),
    ),
    "shard with a picture of its own ending": Row(
        "data=webdataset data.root=DIR",
        r"as in (?P<override>data\.image_key=\w+)\.",
        images,
        shard(a_photo=A, a_cls=b"1"),
    ),
    "shard with labels of another name": Row(
        "data=webdataset data.root=DIR",
        r"give (?P<override>data\.label_key=ENDING) where",
        images,
        shard(a_png=A, a_txt=b"1", a_cls=b"2", b_png=A, b_txt=b"2"),
        fill={"ENDING": "txt"},
    ),
    # Preprocessing
    "mean for four channels": Row(
        f"{FOLDER} {SMALL} +model.kwargs.in_chans=4 data.std=[1,1,1,1]",
        r"as in (?P<override>'data\.mean=.*')\.",
        images,
        {"a.png": as_bytes(Image.new("RGBA", (9, 9)), "PNG")},
    ),
    "crop mode": Row(f"{FOLDER} data.crop_mode=centre", DID_YOU_MEAN, images, PETS),
    "interpolation": Row(f"{FOLDER} data.interpolation=bicubik", DID_YOU_MEAN, images, PETS),
    "orientation": Row(f"{FOLDER} data.orientation=exiff", DID_YOU_MEAN, images, PETS),
    "crop": Row(f"{FOLDER} data.crop_pct=2", r"up to (?P<value>1)\.", images, PETS),
    "pictures that cannot be read": Row(
        f"{FOLDER} data.on_error=skip data.num_workers=0 data.max_skipped=0",
        r"as with (?P<override>data\.max_skipped=null) for",
        skipping,
        {"x.png": b"?", "y.png": A},
    ),
    # Labels and classes of the model
    "labels that are no classes": Row(
        f"{FOLDER} target_class=label", r"use (?P<override>target_class=prediction)", targets, PETS
    ),
    "folders in an unclear order": Row(
        f"{FOLDER} target_class=label",
        r"say (?P<override>data\.class_index=number) \(",
        targets,
        {f"{number}/a.png": A for number in (2, 9)},
    ),
    "folders numbered as timm does": Row(
        f"{FOLDER} target_class=label",
        r"(?P<override>data\.class_index=natural) \(",
        targets,
        {f"{number}/a.png": A for number in range(2, 12)},
    ),
    "folders numbered as torchvision does": Row(
        f"{FOLDER} target_class=label",
        r"or (?P<override>data\.class_index=text) \(",
        targets,
        {f"{number}/a.png": A for number in range(2, 12)},
    ),
    "folders that a file numbers": Row(
        f"{FOLDER} target_class=label",
        r"give (?P<override>data\.class_index=FILE\.json) \(",
        targets,
        PETS | {"i.json": b'{"cat": 3, "dog": 5}'},
        {"FILE": "DIR/i"},
    ),
    "target_class": Row("target_class=labels", r"expected \w+, (?P<value>\w+),", targets),
    "target_class of another model": Row("target_class=10", r"expected 0 … (?P<value>\d+)\.", targets),
    # Models
    "argument that is a setting": Row(
        "+model.kwargs.checkpoint_key=x", r"set (?P<key>\S+) instead", model, lambda folder: None
    ),
    "model, a slip": Row("model=timm model.name=test_vitt", DID_YOU_MEAN, model),
    "file in the place of a name": Row(
        "model.name=DIR/w.pt",
        r"give it as (?P<instead>'model\.checkpoint=.*'|model\.checkpoint=\S+) \(",
        model,
        lambda folder: weights(folder, w=embedded()),
    ),
    "name beside a file that tells another": Row(
        "model=timm model.checkpoint=DIR model.name=test_vit", r"(?P<without>leave out model\.name)", model, described()
    ),
    "file that tells a model that is not known": Row(
        "+model.kwargs={img_size:32,patch_size:8,embed_dim:24,depth:2,num_heads:3,num_classes:5} model.checkpoint=DIR",
        r"as (?P<override>model\.name=NAME) \(",
        model,
        described(hidden_act="mish"),
        {"NAME": "vit_base_patch16_224"},
    ),
    "name of torchvision's": Row(
        "model=timm +model.kwargs={depth:1,img_size:32} model.name=vit_l_16", r"is '(?P<value>\w+)' in timm", model
    ),
    "options of a model that timm lacks": Row(
        "model.checkpoint=DIR +model.kwargs.img_size=16", r"(?P<without>give none) \(model\.kwargs\)", model, beit
    ),
    "classes of a model that timm lacks": Row(
        "model.checkpoint=DIR head=file head.path=DIR/head.pt +model.kwargs.num_classes=5",
        r"but for num_classes=(?P<value>0), which",
        model,
        lambda folder: [beit(folder), weights(folder, head={"weight": torch.zeros(3, 16), "bias": torch.zeros(3)})],
    ),
    "several models in a file": Row(
        "model.checkpoint=DIR/w.pt",
        r"choose one with (?P<override>model\.checkpoint_key=\S+) \(",
        model,
        lambda folder: weights(folder, w={"mine": embedded(), "yours": embedded()}),
    ),
    "several models in names": Row(
        "model.checkpoint=DIR/w.pt",
        r"choose one with (?P<override>model\.checkpoint_key=\S+) \(",
        model,
        lambda folder: weights(
            folder, w={f"{one}.{name}": held for one in ("q", "k") for name, held in embedded().items()}
        ),
    ),
    "key that is not there": Row(
        "model.checkpoint=DIR/w.pt model.checkpoint_key=zzz",
        r"it holds the keys (?P<value>\w+),",
        model,
        lambda folder: weights(folder, w={"mine": embedded(), "yours": embedded()}),
    ),
    "weights of other classes": Row(
        f"{SMALL} model.checkpoint=DIR/w.pt",
        r"classes: give \S+ \((?P<override>\S+)\)",
        model,
        lambda folder: weights(folder, w=small(num_classes=7)),
    ),
    "weights of other channels": Row(
        f"{SMALL} model.checkpoint=DIR/w.pt",
        r"channels: give \S+ \((?P<override>\S+)\)",
        model,
        lambda folder: weights(folder, w=small(in_chans=1)),
    ),
    "weights of other patches": Row(
        f"{SMALL} model.checkpoint=DIR/w.pt +model.kwargs.patch_size=8",
        r"pixels: give \S+ \((?P<override>\S+)\)",
        model,
        lambda folder: weights(folder, w=small()),
    ),
    "weights of a head on the average": Row(
        f"{SMALL} model.checkpoint=DIR/w.pt",
        r"average of the tokens: give \S+ \((?P<override>\S+)\)",
        model,
        lambda folder: weights(folder, w=small(global_pool="avg")),
    ),
    "weights of a head on the class token": Row(
        f"{SMALL} model.checkpoint=DIR/w.pt +model.kwargs.global_pool=avg",
        r"class token: give \S+ \((?P<override>\S+)\)",
        model,
        lambda folder: weights(folder, w=small()),
    ),
    "no classifier": Row(
        f"{SMALL} +model.kwargs.num_classes=0",
        r"(?P<override>head=file head\.path=FILE), or",
        model,
        a_head,
        {"FILE": "DIR/head.pt"},
    ),
    "no classifier, fitted": Row(
        f"{FOLDER} {SMALL} +model.kwargs.num_classes=0",
        r"(?P<override>head=linear_probe head\.root=DIR)\.",
        model,
        PAIRS,
    ),
    "probe without pictures": Row(
        f"{FOLDER} {SMALL} head=linear_probe",
        r"add (?P<override>head\.root=DIR), with",
        model,
        PAIRS,
    ),
    "references of likeness": Row(
        f"{FOLDER} {SMALL} head=similarity", r"add (?P<override>head\.root=DIR), pictures", model, PAIRS
    ),
    "probe of digits": Row(
        f"{SMALL} head=linear_probe",
        r"with (?P<override>data=\S+ data\.root=DIR head\.root=DIR),",
        model,
        PAIRS,
    ),
    "head on tokens": Row(
        f"{SMALL} head=file head.path=DIR/head.pt +model.kwargs.global_pool=''",
        r"with (?P<override>\+\S+=\w+) or",
        model,
        a_head,
    ),
    "head of another name": Row(
        f"{SMALL} head=file head.path=DIR/head.pt",
        r"it could be (?P<override>head\.key=\S+) or",
        model,
        lambda folder: weights(
            folder, head={f"model.{one}.{name}": held for one in ("fc", "head") for name, held in HEAD.items()}
        ),
    ),
    "max_iter of the probe": Row(f"{PROBE} head.max_iter=0", LEAST, model, PAIRS),
    "C of the probe": Row(f"{PROBE} head.C=0", SUCH_AS, model, PAIRS),
    "images held out": Row(f"{PROBE} head.held_out=1", SUCH_AS, model, PAIRS),
    "seed of the probe": Row(f"{PROBE} head.seed=-1", UP_TO, model, PAIRS),
    "pruned model": Row(
        "model=pruned model.checkpoint=null",
        r"give it as (?P<override>model\.checkpoint=DIR)\.",
        model,
        lambda folder: save_pruned(digits().model, folder, name="digits_vit"),
    ),
    "architecture but for one number": Row(
        "model=timm model.name=vit_base_patch16_224 model.checkpoint=DIR/w.pt",
        r"give (?P<override>\+model\.kwargs\.\w+=N) \(",
        model,
        lambda folder: weights(folder, w=torchvision_vit(mlp_dim=3 * WIDTH).state_dict()),
        {"=N": f"={HEADS}"},
    ),
    # Processes
    "accelerator": Row("trainer.accelerator=zzz", r"Choose (?P<instead>trainer=auto) or", find_processes),
    "accelerator, the processor": Row("trainer.accelerator=zzz", r"or (?P<instead>trainer=cpu),", find_processes),
    "devices": Row("trainer.devices=zzz", r"or (?P<value>auto)\.", find_processes),
    "threads": Row("trainer.threads=0", LEAST, threads),
    "nodes that nothing has started": Row(
        "trainer.num_nodes=2", r"(?P<without>leave trainer\.num_nodes out)", find_processes
    ),
    "mode of the tracker": Row("logger=wandb logger.mode=offlin", DID_YOU_MEAN, tracking),
    # The method
    "seed": Row("seed=-1", UP_TO, study),
    "target": Row("target=logits", DID_YOU_MEAN, method),
    "contrast_class of another target": Row("contrast_class=1", r"use (?P<override>target=\w+) \(", method),
    "precision": Row("precision=fp16", KNOWN, method),
    "memory budget": Row("memory_budget=lots", r"bytes, as (?P<value>\w+),", method),
    "micro_batch": Row("micro_batch=0", LEAST, method),
    "top_k": Row("top_k=0", r"expected 1 … (?P<value>\d+),", method),
    "baselines": Row("baselines=[randon]", r"Did you mean '(?P<value>random)'", method),
    "shortlist": Row("scorer=ablation scorer.shortlist=0", OR_NULL, method),
    "shortlist below top_k": Row("top_k=3 scorer=ablation scorer.shortlist=2", r"set it to (?P<value>null)", method),
    "n_steps": Row("quadrature.n_steps=0", LEAST, method),
    "too many n_steps": Row("quadrature.n_steps=99999999", r"at most (?P<value>\d+):", method),
    "max_steps": Row(
        "quadrature=adaptive quadrature.n_steps=8 quadrature.max_steps=4", r"set it to (?P<value>\d+) or more", method
    ),
    "neurons of any blocks": Row("per_block=false", r"use (?P<override>search=\w+) \(", method),
    "neurons of any blocks, by a scorer": Row(
        "per_block=false scorer=joint_attribution", r"or one of (?P<value>\w+),", method
    ),
    "report on neurons of any blocks": Row(
        "search=linearized per_block=false", r"add (?P<override>report=false evidence=false)\.", begun
    ),
    "reference of a random path": Row(
        "scorer=activation_matched_random scorer.reference=activation_matched_random", r"use '(?P<value>\w+)'", method
    ),
    "share of neurons to draw from": Row(
        "scorer=activation_matched_random scorer.band=2", r"up to (?P<value>1)\.", method
    ),
    "tolerance": Row("quadrature=adaptive quadrature.tolerance=0", r"error from (?P<value>\S+) to", method),
    "scorer beside a search without": Row(
        "search=linearized scorer=random", r"(?P<without>leave the scorer out)", method
    ),
    "measure": Row("search=linearized search.measure=joynt", DID_YOU_MEAN, method),
    "operation of a search": Row(
        "search=linearized search.measure=complete search.operation=remove",
        r"use (?P<override>search\.measure=effect) with it",
        method,
    ),
    "nodes on the way": Row("search=linearized search.n_steps=0", r"or (?P<value>null) for", method),
    "max_passes": Row("search=linearized search.max_passes=0", LEAST, method),
    "operations": Row("evaluation.operations=[removee]", r"Did you mean '(?P<value>remove)'", method),
    "tokens of the evaluation": Row("evaluation.tokens=scopes", DID_YOU_MEAN, method),
    "no operation": Row("evaluation.operations=[]", r"as in (?P<instead>evaluation\.operations=\S+),", method),
    "factor": Row("evaluation.factor=0", SUCH_AS, method),
    "sizes": Row("evaluation.sizes=[-1]", SUCH_AS_LIST, method),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_advice_for_a_setting_works(kind: str, tmp_path: Path) -> None:
    row, folder = SETTINGS[kind], tmp_path / "my data"
    folder.mkdir()
    if callable(row.files):
        row.files(folder)
    else:
        for name, data in row.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    given = [setting.replace("DIR", str(folder)) for setting in shlex.split(row.wrong)]
    configure = partial(configured, name="prune", read=read_prune_config) if row.until is pruning else configured
    with pytest.raises(NeuronPathError) as caught:
        row.until(configure(given))
    found = re.search(row.advice, str(caught.value))
    assert found is not None, str(caught.value)
    if row.mend is not None:
        row.mend(folder, found["by_hand"])
    else:
        given = followed(given, found, {**row.fill, "DIR": str(folder)})
    row.until(configure(given))


# Settings of data sets of Hugging Face's and of `neuron-path prune`, which are read in other ways.


def columns(**held: Any) -> Callable[[Path], object]:
    """A data set of two pictures with further columns, each (feature, values)."""

    def save(folder: Path) -> None:
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        made = {"image": (datasets.Image(), [pictures.picture(), pictures.picture(1)])} | {
            name: (feature(datasets), values) for name, (feature, values) in held.items()
        }
        features = datasets.Features({name: feature for name, (feature, _) in made.items()})
        rows = datasets.Dataset.from_dict({name: values for name, (_, values) in made.items()}, features=features)
        datasets.DatasetDict({"train": rows}).save_to_disk(folder)

    return save


def class_label(datasets: Any) -> Any:
    return datasets.ClassLabel(names=["ant", "bee"])


def number(datasets: Any) -> Any:
    return datasets.Value("int64")


def text(datasets: Any) -> Any:
    return datasets.Value("string")


def share(datasets: Any) -> Any:
    return datasets.Value("float64")


def image(datasets: Any) -> Any:
    return datasets.Image()


SET = "data=huggingface data.root=DIR data.split=train"
ONE = (class_label, [0, 1])
TWO_IMAGES = {"other": (image, [pictures.picture(), pictures.picture(1)])}
SETTINGS |= {
    "split of a data set": Row("data=huggingface data.root=DIR data.split=zzz", KNOWN, images, columns(label=ONE)),
    "labels of some rows": Row(
        SET, r"(?P<override>data\.label_column=null) leaves", images, columns(label=(number, [1, None]))
    ),
    "several labels": Row(
        SET,
        r"or (?P<override>data\.label_column=null) leaves",
        images,
        columns(label=(lambda datasets: datasets.List(number(datasets)), [[1], [0, 1]])),
    ),
    "two columns of labels": Row(
        SET, r"columns of labels \(.*?\): .*or (?P<override>data\.label_column=null)", images, columns(a=ONE, b=ONE)
    ),
    "two columns of labels, one named": Row(
        SET, r"name one with (?P<override>data\.label_column=\w+),", images, columns(a=ONE, b=ONE)
    ),
    "column of labels that is not there": Row(
        f"{SET} data.label_column=zzz", r"Columns: image, (?P<value>\w+)\.", images, columns(label=ONE)
    ),
    "column of images that is not there": Row(
        f"{SET} data.image_column=zzz", r"Columns: (?P<value>\w+),", images, columns(label=ONE)
    ),
    "two columns of images": Row(
        SET, r"name one with (?P<override>data\.image_column=\w+)\.", images, columns(label=ONE, **TWO_IMAGES)
    ),
    "names that are there twice": Row(
        f"{SET} data.id_column=name",
        r"(?P<override>data\.id_column=null) numbers",
        images,
        columns(label=ONE, name=(text, ["a", "a"])),
    ),
    "labels that are none": Row(
        SET, r"(?P<override>data\.label_column=null) leaves", images, columns(label=(share, [0.5, 1.5]))
    ),
    "labels below 0": Row(
        SET, r"(?P<override>data\.label_column=null) leaves", images, columns(label=(number, [-5, -2]))
    ),
    "column of no images": Row(
        f"{SET} data.image_column=label", r"as (?P<override>data\.image_column=\w+)\.", images, columns(label=ONE)
    ),
}


def pruning(config: Any) -> None:
    """It is read."""


PRUNE = "run_dir=DIR keep=0.5"
SETTINGS |= {
    "whose paths": Row("keep=0.5", r"neuron-path prune (?P<override>run_dir=DIR)\.", pruning),
    "kept share": Row("run_dir=DIR keep=2", r"as in (?P<override>keep=\S+)\.", pruning),
    "method of pruning": Row(f"{PRUNE} method=pahts", KNOWN, pruning),
    "allocation": Row(f"{PRUNE} allocation=globall", DID_YOU_MEAN, pruning),
    "units of pruning": Row(f"{PRUNE} units=head", DID_YOU_MEAN, pruning),
    "budget": Row(f"{PRUNE} budget=flop", DID_YOU_MEAN, pruning),
    "classes to prune for": Row(f"{PRUNE} classes=[]", r"or give (?P<value>null) for", pruning),
    "batch size of pruning": Row(f"{PRUNE} batch_size=0", LEAST, pruning),
    "seeds of pruning": Row(f"{PRUNE} seeds=[]", SUCH_AS_LIST, pruning),
    "epochs": Row(f"{PRUNE} fine_tune.epochs=-1", LEAST, pruning),
    "learning rate": Row(f"{PRUNE} fine_tune.learning_rate=0", SUCH_AS, pruning),
    "rounds of the clock": Row(f"{PRUNE} latency.rounds=-1", LEAST, pruning),
    "seconds of the clock": Row(f"{PRUNE} latency.seconds=0", SUCH_AS, pruning),
    "batches of the clock": Row(f"{PRUNE} latency.batch_sizes=[0]", SUCH_AS_LIST, pruning),
    "share that selects": Row(f"{PRUNE} selection_share=1", r"as in (?P<value>[\d.]+)\.", pruning),
}


@dataclass(frozen=True)
class Call:
    """A mistake in Python; the last argument is the mistake, and `code` and `expression` are Python for it.

    Attributes:
        do: what refuses; it gets a `folder`, if it takes one.
        wrong: its arguments.
        advice: where the message says what to do.
        names: what a person knows the names in the advice to be.
        mend: what is done to the mistake, by what is found.
    """

    do: Callable[..., object]
    wrong: Mapping[str, Any]
    advice: str
    names: Mapping[str, Any] = field(default_factory=dict)
    mend: Callable[[Any, str], Any] = lambda wrong, found: wrong


PATHS = make_class_paths([[0, 3], [0, 3], [1, 2], [1, 3]], [0, 0, 1, 1])
TABLE = pd.DataFrame(
    {
        "sample_id": ["a", "b"],
        "label": [0, 1],
        "target": [0, 1],
        "path": [[0, 1], [0, 2]],
        "scorer": "random",
        "search": "greedy",
        "top_k": 1,
    }
)
IMAGES = tiny.make_images(2)
FOUND = tiny.random_paths(tiny.make(), 2, 1)
MATRIX = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]], float)


def find(**given: Any) -> object:
    return neuron_path.find_paths(**{"model": tiny.make(), "images": IMAGES, "n_steps": 1, **given})


def score(**given: Any) -> object:
    return neuron_path.score_paths(**{"model": tiny.make(), "images": IMAGES, "targets": 0, "paths": FOUND, **given})


def edit(**given: Any) -> object:
    return neuron_path.intervene(**{"model": tiny.make(), "images": IMAGES, "paths": FOUND, **given})


def load(folder: Path, held: Any, **given: Any) -> object:
    weights(folder, w=held)
    return neuron_path.load_model(checkpoint=folder / "w.pt", **given)


TINY = {"name": "test_vit", "img_size": 32}
CALLS = {
    "scope of a model without class token": Call(
        find, {"model": tiny.make("avg_no_class_token"), "token_scope": "cls"}, r"use '(?P<value>\w+)'"
    ),
    "scope": Call(find, {"token_scope": "all"}, KNOWN),
    "one image": Call(find, {"images": IMAGES[0]}, r"a batch of one: (?P<expression>.*)\.$"),
    "pixels": Call(
        find,
        {"images": (IMAGES.abs() * 50).to(torch.uint8)},
        r"in training: (?P<expression>.*)\.$",
        {"mean": 0.5, "std": 0.5},
    ),
    "quantised images": Call(
        find,
        {"images": IMAGES.to(torch.int8)},
        r"Dequantise them: (?P<expression>.*)\.$",
        {"zero_point": 1, "scale": 0.1},
    ),
    "target that is no class": Call(find, {"targets": 5}, r"expected 0 … (?P<value>\d+)\."),
    "scorer": Call(find, {"scorer": "actvation"}, DID_YOU_MEAN),
    "search": Call(find, {"search": "greedi"}, DID_YOU_MEAN),
    "rule": Call(find, {"n_steps": 4, "quadrature": "trapezium"}, KNOWN),
    "target function": Call(find, {"target": "probabilities"}, DID_YOU_MEAN),
    "precision": Call(find, {"precision": "float32"}, KNOWN),
    "top_k": Call(find, {"top_k": 0}, r"expected (?P<value>1) …"),
    "micro_batch": Call(find, {"micro_batch": 0}, LEAST),
    "memory_budget": Call(find, {"memory_budget": "much"}, r"or (?P<value>[\w.]+)\.$"),
    "references that a search does not take": Call(
        find, {"reference_images": IMAGES}, r"(?P<without>takes no) reference_images"
    ),
    "measure": Call(score, {"measure": "sum"}, KNOWN),
    "delta of a product": Call(
        score, {"return_convergence_delta": True, "measure": "joint"}, r"use (?P<code>measure='\w+')"
    ),
    "operation": Call(edit, {"operation": "removed"}, DID_YOU_MEAN),
    "tokens": Call(edit, {"operation": "remove", "tokens": "scop"}, DID_YOU_MEAN),
    "factor of another operation": Call(edit, {"factor": 3.0, "operation": "remove"}, r"use '(?P<value>\w+)'"),
    "references of another operation": Call(
        edit, {"reference_images": IMAGES, "operation": "remove"}, r"belong to '(?P<value>\w+)'"
    ),
    "donors of another operation": Call(
        edit, {"donor_images": IMAGES, "operation": "remove"}, r"belong to '(?P<value>\w+)'"
    ),
    "name of a model": Call(neuron_path.load_model, {"img_size": 32, "name": "test_vitt"}, DID_YOU_MEAN),
    "several models in a file": Call(
        load, {"held": {"a": embedded, "b": embedded}}, r"\((?P<code>checkpoint_key='\w+') in Python"
    ),
    "weights of other classes": Call(load, {"held": lambda: small(num_classes=7), **TINY}, r"give (?P<code>\S+) \("),
    "weights of other channels": Call(load, {"held": lambda: small(in_chans=1), **TINY}, r"give (?P<code>\S+) \("),
    "weights of a head on the average": Call(
        load, {"held": lambda: small(global_pool="avg"), **TINY}, r"tokens: give (?P<code>\S+) \("
    ),
    "permutations": Call(partial(overlap.overlap_test, PATHS), {"n_permutations": 0}, SUCH_AS),
    "confidence": Call(partial(overlap.overlap_test, PATHS, n_permutations=9), {"confidence": 95}, SUCH_AS),
    "splits": Call(partial(stability.split_half_stability, PATHS), {"n_splits": 0}, SUCH_AS),
    "ranges of splits": Call(partial(stability.split_half_stability, PATHS), {"confidence": 1}, SUCH_AS),
    "shuffles": Call(partial(methods.path_agreement, PATHS, PATHS), {"n_permutations": 0}, SUCH_AS),
    "images to cluster": Call(partial(clustering.class_agreement, PATHS), {"max_images": 1}, SUCH_AS),
    "resamples": Call(partial(intervals.bootstrap_mean, [1.0, 2.0]), {"n_resamples": 0}, SUCH_AS),
    "confidence of a mean": Call(partial(intervals.bootstrap_mean, [1.0, 2.0]), {"confidence": 95}, SUCH_AS),
    "permutations of pairs": Call(partial(paired.paired_test, [1.0, 2.0], [2.0, 4.0]), {"n_permutations": 0}, SUCH_AS),
    "permutations of matrices": Call(partial(mantel.mantel, MATRIX, MATRIX), {"n_permutations": 0}, SUCH_AS),
    "correlation": Call(partial(mantel.mantel, MATRIX, MATRIX, n_permutations=9), {"correlation": "kendall"}, KNOWN),
    "classes by labels that are lacking": Call(
        partial(grouping.group_paths, TABLE.assign(label=[0, None])), {"by": "label"}, r"use (?P<code>by='\w+'),"
    ),
    "paths of two methods": Call(
        grouping.group_paths,
        {"frame": pd.concat([TABLE, TABLE.assign(scorer="activation")])},
        r"say which with (?P<code>\w+='\w+')\.",
    ),
    "paths of two sizes": Call(
        grouping.group_paths, {"frame": pd.concat([TABLE, TABLE.assign(top_k=2)])}, r"with (?P<expression>frame.*)\.$"
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_the_advice_for_a_call_works(kind: str, tmp_path: Path) -> None:
    follow(CALLS[kind], tmp_path)


def follow(row: Call, folder: Path) -> None:
    """Make the mistake, do what its message says, and have it work."""
    given = dict(row.wrong)
    if "folder" in inspect.signature(row.do).parameters:
        given = {"folder": folder} | given
    if row.do is load:
        given["held"] = _made(given["held"])
    with pytest.raises(NeuronPathError) as caught:
        row.do(**given)
    found = re.search(row.advice, str(caught.value))
    assert found is not None, str(caught.value)
    [(verb, text)] = found.groupdict().items()
    last = list(row.wrong)[-1]
    names = {"image": given[last], "images": IMAGES, **given, "frame": given[last], **row.names}
    if verb == "code":
        given |= eval(f"dict({text})", {}, names)
    elif verb == "expression":
        given[last] = eval(text, {}, names)
    elif verb == "value":
        given[last] = _literal(text)
    elif verb == "key":
        given[text] = given.pop(last)
    elif verb == "by_hand":
        given[last] = row.mend(given[last], text)
    else:
        del given[last]
    row.do(**given)


def _made(held: Any) -> Any:
    """Weights, which are made late."""
    return {name: value() for name, value in held.items()} if isinstance(held, dict) else held()


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two digits."""
    run_dir = tmp_path_factory.mktemp("runs") / "a run"
    options = ["data.limit=4", "quadrature.n_steps=1", "baselines=[]", "report=false", "logger=none"]
    outcome = run_in(run_dir, "run", *options)
    assert (outcome.code, outcome.err) == (0, "")
    return run_dir


TORCHRUN = "TORCHELASTIC_RUN_ID=none WORLD_SIZE=2 RANK=0"
COMMANDS = {
    "command": ("compar DIR", r"Did you mean '(?P<command>\w+)'"),
    "several options": ("search scorer=random,activation", r"as in (?P<instead>-m \S+)\.$"),
    "setting apart from its value": ("search --data.limit", r"as in (?P<instead>\S+);"),
    "setting added that is there": ("search +seed=3", r"at '(?P<key>\w+)': give it without the \+"),
    "option that is null": ("search scorer=null", r"choose one as (?P<instead>GROUP=OPTION)\."),
    "setting with one dash": ("search -data.limit=4", r"as in (?P<instead>\S+);"),
    "no directory": ("verify", r"give it as (?P<command>neuron-path verify DIR)\."),
    "no run to run again": ("rerun", r"give it as (?P<command>neuron-path rerun DIR)\."),
    "run into itself": ("rerun DIR --out=DIR", r"or (?P<without>leave it out)"),
    "no runs to analyse": ("analyze", r": (?P<command>neuron-path analyze DIR)\."),
    "no runs to compare": ("compare", r": (?P<command>neuron-path compare DIR)\."),
    "no run to report": ("report", r": (?P<command>neuron-path report DIR)\."),
    "root of what has none": ("verify DIR --sample=0 --root=DIR", r"(?P<without>leave out --root)"),
    "checkpoint of what takes none": ("verify DIR --sample=0 --checkpoint=DIR", r"(?P<without>leave out --checkpoint)"),
    "several values of a number": ("search seed=1,2", r"as in (?P<instead>-m \S+)\.$"),
    "resumed sweep": ("search -m seed=0 resume=DIR", r"(?P<without>leave it out)"),
    "nothing to resume": ("search resume=DIR/x", r"or (?P<without>leave resume out)"),
    "setting of the search": (
        "evaluate run_dir=DIR evaluation.operations=[remove] scorer=random",
        r"(?P<without>leave it out)",
    ),
    "sweep in each of several processes": (f"{TORCHRUN} search hydra.run.dir=there -m", r"(?P<without>leave out -m)"),
    "directory of several processes": (f"{TORCHRUN} search seed=0", r"add (?P<override>hydra\.run\.dir=DIR),"),
    "texts of no model": ("embed-text cat", r"; (?P<command>neuron-path embed-text --help) shows"),
    "two models": ("models test_vit zzz", r": (?P<command>neuron-path models \S+)\.$"),
    "whose paths": ("evaluate", r"(?P<command>neuron-path evaluate run_dir=DIR)\."),
    "directory of the other command": ("search run_dir=DIR/x", r"is (?P<instead>hydra\.run\.dir=DIR)\."),
    "directory of another search": ("search hydra.run.dir=DIR/run.json/x", r"with (?P<override>hydra\.run\.dir=DIR)\."),
    "option": ("analyze DIR --no-figures --shufles=9", r"Did you mean '(?P<key>--\w+)'"),
    "option without its value": ("analyze DIR --no-figures --shuffles", r"give it as (?P<override>--shuffles=VALUE)\."),
    "number": ("analyze DIR --no-figures --shuffles=0", r"from (?P<value>\d+) on"),
    "seed": ("verify DIR --seed=x", r"number, (?P<value>\d) or more"),
    "two places to resume": ("search resume=DIR hydra.run.dir=DIR/x", r"so (?P<without>give one)"),
    "kind of classes": ("analyze DIR --no-figures --by=zzz", r"expected \w+, (?P<value>\w+)"),
    "scorer": ("analyze DIR --no-figures --scorer=zzz", KNOWN),
    "reference": ("compare DIR --reference=zzz", r"as (?P<override>--reference=\w+) \("),
    "model of a hub": ("models hf-hub:timm/vit_tiny", r"with (?P<command>neuron-path search .*)\.$"),
    "pattern of models": ("models test_vitt", r"Did you mean '(?P<only>\w+)'"),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_advice_for_a_command_works(
    kind: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, advice = COMMANDS[kind]
    monkeypatch.setitem(run.COMMANDS, "search", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    given = [part.replace("DIR", str(finished)) for part in shlex.split(typed)]
    while "=" in given[0]:
        monkeypatch.setenv(*given.pop(0).split("="))
    code, _, err = call(*given)
    assert code != 0
    found = re.search(advice, err)
    assert found is not None, err
    given = followed(given, found, {"DIR": str(finished), "VALUE": "9", "GROUP=OPTION": "scorer=random"})
    assert call(*given)[0] == 0


NEW = "data.limit=4 baselines=[] report=false logger=none"
ALONE = "methods=[] shares=[0.5] latency.rounds=0 seeds=[0]"
AFTER = {
    "results of another search": (
        f"run hydra.run.dir=DIR {NEW} quadrature.n_steps=2",
        r"with (?P<override>\S+=force)\.",
    ),
    "directory of another search": (
        f"search hydra.run.dir=DIR {NEW} quadrature.n_steps=2",
        r"another directory with (?P<override>hydra\.run\.dir=DIR), or",
    ),
    "directory of a pruned model": (
        f"prune run_dir=DIR {ALONE} evaluate_on=val hydra.run.dir=DIR/pruned",
        r"another one with (?P<override>hydra\.run\.dir=DIR), or",
    ),
    "images that all select": (
        f"prune run_dir=DIR {ALONE} hydra.run.dir=NEW",
        r"others with (?P<override>evaluate_on=SPLIT) or",
    ),
    "paths of other units": (
        f"prune run_dir=DIR units=heads {ALONE} evaluate_on=val hydra.run.dir=NEW",
        r"without paths, as (?P<override>method=\w+ methods=\S+)\.",
    ),
    "share of operations": (
        f"prune run_dir=DIR budget=flops {ALONE} evaluate_on=val hydra.run.dir=NEW keep=0.1",
        r"a number from (?P<value>0\.\d+) to 1",
    ),
    "place of a sweep": (
        f"search -m seed=0 {NEW} quadrature.n_steps=1 resume=DIR",
        r"command and (?P<instead>hydra\.sweep\.dir=DIR)\.",
    ),
    "run of an older version": (
        f"search hydra.run.dir=OLD {NEW} quadrature.n_steps=1",
        r"another directory with (?P<override>hydra\.run\.dir=DIR)\.",
    ),
    "targets of two runs": ("analyze DIR OTHER --no-figures --by=target", r"by label: (?P<override>--by=label) \("),
}


@pytest.mark.parametrize("kind", AFTER)
def test_the_advice_after_a_run_works(kind: str, finished: Path, tmp_path: Path) -> None:
    """Of commands that change a run, or need another one beside it."""
    typed, advice = AFTER[kind]
    copies = {"DIR": tmp_path / "a run", "OTHER": tmp_path / "other", "OLD": tmp_path / "old", "NEW": tmp_path / "new"}
    for name in ("DIR", "OTHER", "OLD"):
        shutil.copytree(finished, copies[name])
    written = json.loads((copies["OLD"] / "run.json").read_text())
    (copies["OLD"] / "run.json").write_text(json.dumps({**written, "identity": None}))
    (copies["DIR"] / "pruned").mkdir()
    (copies["DIR"] / "pruned" / "pruning.parquet").touch()
    table = pq.read_table(copies["OTHER"] / "paths.parquet")
    place, targets = table.schema.get_field_index("target"), table["target"].to_numpy()
    changed = pa.array((targets + 1) % 10, table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), changed), copies["OTHER"] / "paths.parquet")
    given = shlex.split(typed)
    for word, path in copies.items():
        given = [re.sub(rf"\b{word}\b", str(path), part) for part in given]
    code, _, err = call(*given)
    assert code != 0
    found = re.search(advice, err)
    assert found is not None, err
    given = followed(given, found, {"DIR": str(tmp_path / "new"), "SPLIT": "val"})
    code, _, err = call(*given)
    assert code == 0, err


def test_runs_of_one_target_function_are_compared_once_they_are_measured_again(tmp_path: Path) -> None:
    options = shlex.split(f"{NEW} quadrature.n_steps=1 target=margin")
    new, old = tmp_path / "new", tmp_path / "old"
    for run_dir, scorer in ((new, "joint_attribution"), (old, "random")):
        assert run_in(run_dir, "run", *options, f"scorer={scorer}").code == 0
    effects = pq.read_table(old / "effects.parquet")
    later = ["clean_value", "edited_value", "contrast_class"]
    pq.write_table(effects.drop_columns(later), old / "effects.parquet")

    code, _, err = call("compare", str(old), str(new))
    assert code == 1
    found = re.search(r"again with neuron-path (\w+ run_dir=)DIR\)", err)
    assert found is not None, err
    code, _, err = call(*f"{found[1]}{old}".split())
    assert code == 0, err
    code, _, err = call("compare", str(old), str(new))
    assert code == 0, err
