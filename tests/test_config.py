"""Every configuration composes and builds what it names; what no code reads is refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra import compose
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from safetensors.torch import save_file

import neuron_path
from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import scorers
from neuron_path.config import Config, conf_dir, located, options_of, read_config, stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import adapt
from neuron_path.models.heads import LinearHead, head_bytes
from neuron_path.models.preprocessing import image_transform, input_size
from neuron_path.models.session import Session
from neuron_path.pipeline.build import Study, build_data, build_finder, build_model, build_study, build_trainer
from neuron_path.search.search import searches
from neuron_path.tracking import check_options
from tests import pictures
from tests.command import composing
from tests.data.test_huggingface import save, table
from tests.data.test_shards import png, write

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml"))
OPTIONS = [file.removesuffix(".yaml").rsplit("/", 1) for file in FILES if "/" in file]
GROUPS = ["model", "head", "data", "preprocessing", "scorer", "search", "quadrature"]
GROUPS += ["evaluation", "trainer", "logger", "paths"]
ON_HUB = sorted(option for group, option in OPTIONS if group == "model" and option not in ("digits_vit", "pruned"))
FEW_ON_HUB = ("vit_b_32", "dinov2_b_14")  # with a head of its own, and without
BUILT_HERE = [pair for pair in OPTIONS if pair[0] != "model" or pair[1] in ("digits_vit", "timm")]
MANDATORY = {
    ("head", "file"): "head.path={head}",
    ("data", "image_folder"): "data.root={pictures}",
    ("data", "webdataset"): "data.root={shards}",
    ("data", "huggingface"): "data.root={rows}",
    ("trainer", "gpu"): "trainer.accelerator=auto",
    ("trainer", "ddp"): "trainer.accelerator=auto",
}


@pytest.fixture(autouse=True)
def composer() -> Iterator[None]:
    """Hydra's compose on `conf/`."""
    with composing():
        yield


@cache
def usual_study() -> Study:
    return build_study(read())


def read(*overrides: str) -> Config:
    return read_config(compose("config", list(overrides)))


def test_the_folder_is_the_checkout_s() -> None:
    assert conf_dir() == ROOT / "conf"


def test_every_group_of_the_defaults_is_a_folder() -> None:
    groups = {group for group, _ in OPTIONS} - {"hydra/launcher"}  # a sweep chooses it, and has Hydra's own otherwise
    named = re.findall(r"^  - (\w+): ", (conf_dir() / "config.yaml").read_text(), re.MULTILINE)
    assert groups == set(named)
    assert groups == {*GROUPS, "experiment", "hydra"}


@pytest.mark.parametrize(("group", "option"), BUILT_HERE)
@pytest.mark.filterwarnings("ignore:The weights of .* are random")
def test_every_option_composes_and_its_objects_build(group: str, option: str, tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path / "pictures")
    overrides = [f"{group}={option}"] if group not in ("hydra", "paths") else []
    if (group, option) in MANDATORY:
        head = tmp_path / "head.safetensors"
        head.write_bytes(head_bytes(LinearHead(torch.eye(10, 48), torch.zeros(10))))
        places = {"pictures": folder, "shards": tmp_path / "shards", "rows": tmp_path / "rows", "head": head}
        overrides.append(MANDATORY[group, option].format(**places))
    if option == "webdataset":
        write(tmp_path / "shards" / "a.tar", {"1.png": png()})
    if option == "huggingface":
        overrides += ["data.split=test", "target_class=prediction"]
        save(table(), tmp_path / "rows")
    if (group, option) == ("model", "timm"):
        overrides += ["model.name=test_vit", "target_class=prediction", "data=image_folder", f"data.root={folder}"]
    config = read(*overrides)
    study = build_study(config) if group in ("model", "head", "data", "preprocessing", "experiment") else usual_study()
    session, data = study.session, study.data
    assert (study.head is not None) == (group == "head" and option != "none")
    assert len(next(iter(data.predict_dataloader()))) > 0
    finder = build_finder(config, session, config.baselines)
    assert finder.method.scorer.name == config.scorer.name
    assert finder.method.search.name == config.search.name
    assert finder.settings.quadrature == Quadrature(config.quadrature.rule, config.quadrature.n_steps)
    assert build_trainer(config.trainer).num_devices == 1
    check_options(asdict(config.logger))


def test_the_models_are_the_paper_s_four_and_today_s() -> None:
    assert {"vit_b_16", "vit_b_32", "vit_l_32", "mae_b_16", "timm"} < set(ON_HUB)
    assert {name.split("_")[0] for name in ON_HUB} == {
        "vit",
        "mae",
        "timm",
        "dinov2",
        "clip",
        "siglip",
        "deit3",
        "eva02",
    }


@pytest.mark.parametrize(
    "option", [pytest.param(name, marks=() if name in FEW_ON_HUB else pytest.mark.slow) for name in ON_HUB]
)
def test_every_model_is_one_that_timm_knows(option: str) -> None:
    header = (conf_dir() / "model" / f"{option}.yaml").read_text().partition("defaults:")[0]
    composed = compose("config", [f"model={option}"])
    needs_file = OmegaConf.is_missing(composed.model, "checkpoint")
    model = read(f"model={option}", *(["model.checkpoint=FILE"] if needs_file else [])).model
    architecture, _, tag = model.name.partition(".")
    assert timm.is_model(architecture)
    assert not tag or model.name in timm.list_pretrained()
    assert f"model={option}" in header
    assert model.name in header if model.pretrained else "model.checkpoint=" in header or option == "timm"
    with torch.device("meta"):
        built: Any = timm.create_model(model.name, **model.kwargs)
        if built.num_classes < 2:
            built.reset_classifier(10)
            assert "head=linear_probe head.root=" in header
    assert len(adapt(built).blocks) in (12, 24)
    _, size, _ = input_size(built)
    assert size == {"eva02_b_14": 448}.get(option, 224)
    mean = {"vit": 0.5, "siglip": 0.5, "timm": 0.5, "clip": 0.48145466, "eva02": 0.48145466}.get(
        option.partition("_")[0], 0.485
    )
    assert image_transform(built)[1]["mean"][0] == mean


def test_a_model_that_needs_a_file_says_so() -> None:
    with pytest.raises(MissingMandatoryValue, match="checkpoint"):
        read("model=vit_b_32")


def test_with_a_file_nothing_is_fetched(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit").state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    config = read("model=timm", "model.name=test_vit.r160_in1k", f"model.checkpoint={tmp_path}/weights.safetensors")
    config.model.pretrained = True
    built = build_model(config).state_dict()
    assert all(torch.equal(built[name], weights[name]) for name in weights)


def test_every_registered_part_has_an_option() -> None:
    for group, registry in (("scorer", scorers), ("search", searches)):
        assert {option for name, option in OPTIONS if name == group} == set(registry.names())


def test_the_paper_s_settings() -> None:
    config = read("experiment=paper")
    assert (config.quadrature.rule, config.quadrature.n_steps) == ("riemann_left", 20)
    assert (config.scorer.name, config.search.name) == ("joint_attribution", "greedy")
    assert (config.target_class, config.target) == ("label", "probability")


@pytest.mark.filterwarnings("ignore:The weights of .* are random")
def test_the_paper_s_preprocessing(tmp_path: Path) -> None:
    folder = pictures.class_folders(tmp_path)
    chosen = ["model=timm", "model.name=test_vit", "data=image_folder", f"data.root={folder}"]
    own, paper, mixed = (
        dict(build_data(config, build_model(config)).dataset.preprocessing)
        for config in (
            read(*chosen),
            read(*chosen, "experiment=paper"),
            read(*chosen, "preprocessing=paper", "data.mean=[0.5,0.5,0.5]"),
        )
    )
    assert (own["crop_mode"], own["interpolation"]) == ("center", "bicubic")
    assert (paper["mean"], paper["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (paper["crop_mode"], paper["crop_pct"], paper["interpolation"]) == ("squash", 1.0, "bilinear")
    assert mixed == paper | {"mean": [0.5, 0.5, 0.5]}


def test_options_follow_the_seed() -> None:
    assert options_of(read("scorer=random", "seed=7").scorer) == {"seed": 7}


def leaves(node: DictConfig, parent: str = "") -> Iterator[str]:
    for key in node:
        name = f"{parent}{key}"
        child = None if OmegaConf.is_missing(node, key) else node[key]
        yield from leaves(child, f"{name}.") if isinstance(child, DictConfig) and len(child) else [name]


def test_every_setting_is_read_by_the_code() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "neuron_path").rglob("*.py"))
    code = code.replace((ROOT / "neuron_path" / "config.py").read_text(encoding="utf-8"), "")
    registered = {
        name for registry in (scorers, searches) for _, cls in registry for name in inspect.signature(cls).parameters
    }
    elsewhere = registered | {"output_dir"}  # options go to their class; the output directory is read in conf/hydra
    composed = [compose("config", ["data=image_folder", f"head={head}"]) for head in ("file", "linear_probe")]
    composed += [compose("config", [f"data={data}"]) for data in ("digits", "webdataset", "huggingface")]
    for name in (name for config in composed for name in leaves(config)):
        key = name.rpartition(".")[2]
        assert key in elsewhere or re.search(rf"(\.{key}\b|\"{key}\")", code), f"nothing reads {name}"


@pytest.mark.parametrize(
    "group", [pytest.param(group, marks=() if group in ("model", "data") else pytest.mark.slow) for group in GROUPS]
)
def test_an_unknown_key_is_refused_when_composed(group: str) -> None:
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        compose("config", [f"{group}.nonsense=1"])


@pytest.mark.covering
@pytest.mark.parametrize("sign", ["+", "++"])
@pytest.mark.parametrize("key", [*(f"{group}.nonsense" for group in GROUPS), "nonsense", "non.sense"])
def test_an_added_key_that_nothing_reads_is_refused(sign: str, key: str) -> None:
    with pytest.raises(NeuronPathError, match=rf"There is no setting '{key.removesuffix('.sense')}'"):
        read(f"{sign}{key}=1")


def test_added_keys_of_an_open_mapping_are_taken() -> None:
    assert read("+model.kwargs.num_classes=5", "+model.kwargs.deep.er=[1]").model.kwargs == {
        "num_classes": 5,
        "deep": {"er": [1]},
    }


WRONG_TYPES = ["model.pretrained=perhaps", "data.limit=few", "quadrature.n_steps=1.5", "logger.tags=a", "seed=x"]


@pytest.mark.parametrize("override", [*WRONG_TYPES, "baselines=random", "top_k=null", "model.kwargs=3"])
def test_a_wrong_type_is_refused_when_composed(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose("config", [override])


@pytest.mark.parametrize("group", ["head", "data", "scorer", "search"])
def test_a_name_without_its_options_is_refused(group: str) -> None:
    with pytest.raises(NeuronPathError, match=rf"choose with {group}=other instead"):
        read(f"{group}.name=other")


def test_speed_and_memory_reach_the_search() -> None:
    speed = ["memory_budget=1.5GB", "precision=bf16", "compile=true"]
    config = read("quadrature=adaptive", "quadrature.tolerance=1e-2", *speed)
    session = Session(neuron_path.load_model())
    settings = build_finder(config, session, ["activation"]).settings
    assert settings.quadrature == Quadrature("adaptive", 4, tolerance=1e-2)
    assert (settings.budget, settings.arithmetic) == (1.5e9, Arithmetic("bf16", compiled=True))


@pytest.mark.parametrize("budget", ["many", "-3", "0", "12XB", "true"])
def test_a_budget_that_is_no_number_of_bytes_is_one_line(budget: str) -> None:
    with pytest.raises(NeuronPathError, match="expected a positive number of bytes"):
        build_finder(read(f"memory_budget={budget}"), Session(neuron_path.load_model()), [])


def test_an_unknown_precision_is_one_line() -> None:
    with pytest.raises(NeuronPathError, match=r"^No precision is named 'bf-16'\. Did you mean 'bf16'\?"):
        build_finder(read("precision=bf-16"), Session(neuron_path.load_model()), [])


def test_a_stored_adaptive_rule_is_read_again() -> None:
    config = read("quadrature=adaptive", "quadrature.max_steps=16")
    assert stored_config(asdict(config)).quadrature == config.quadrature


def test_places_are_located_where_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tars").mkdir()
    for given, expected in {
        "tars": str(tmp_path / "tars"),
        "tars/val-[01].tar": str(tmp_path / "tars" / "val-[01].tar"),
        "imagenet-1k": "imagenet-1k",
        "~nobody-here/x": "~nobody-here/x",
        "n" * 300: "n" * 300,
    }.items():
        assert located(read("data=webdataset", f"data.root='{given}'")).data.root == expected


def test_runs_of_before_took_pictures_as_they_are_stored() -> None:
    stored = asdict(read())
    assert stored_config(stored).preprocessing.orientation is None
    del stored["preprocessing"]["orientation"]
    assert stored_config(stored).preprocessing.orientation == "stored"


@pytest.mark.parametrize("odd", [{"seed": "x"}, {"baselines": 3}, {"target": [1]}, {"top_k": None}, {"more": 1}])
def test_a_stored_configuration_of_other_types_is_one_line(odd: dict[str, Any]) -> None:
    with pytest.raises(NeuronPathError, match=r"is of another version of NeuronPath \(.+\): search again\.$"):
        stored_config(asdict(read()) | odd)


@pytest.mark.parametrize(("group", "rule"), [("adaptive", "riemann_left"), ("gauss_legendre", "adaptive")])
def test_the_adaptive_rule_and_others_are_chosen_by_their_group(group: str, rule: str) -> None:
    with pytest.raises(NeuronPathError, match=rf"choose with quadrature={rule} instead"):
        read(f"quadrature={group}", f"quadrature.rule={rule}")
