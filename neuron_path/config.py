"""Typed schemas behind `conf/`: unknown keys and wrong types fail when a configuration is composed.

Every option of a group extends its schema (`/schema/GROUP/NAME`); the schemas of scorers and searches are made from the
options of the registered classes, so a new one needs its YAML file only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuron_path.attribution.quadrature import RULES
from neuron_path.attribution.scorer import scorers
from neuron_path.attribution.target import Target
from neuron_path.data.labels import ORDERS
from neuron_path.errors import NeuronPathError
from neuron_path.registry import Registry
from neuron_path.search.search import searches
from neuron_path.search.settings import SearchSettings

_CHOSEN_BY = {"quadrature": "rule"}  # the setting that names a group's option, where that is not `name`
_PLACES = {"model": ("checkpoint",), "head": ("path", "root"), "data": ("root", "class_index", "labels")}
_TOP_PLACES = ("run_dir", "resume", "evaluate_on")
OUTSIDE = ("experiment", "hydra")  # groups beside the configuration


AnyConfig = TypeVar("AnyConfig")


@dataclass
class ModelConfig:
    """Which model; see `neuron_path.load_model`."""

    name: str | None = MISSING
    checkpoint: str | None = None
    checkpoint_key: str | None = None
    pretrained: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class CheckpointModelConfig(ModelConfig):
    """A model whose weights are on no hub."""

    checkpoint: str | None = MISSING


@dataclass
class HeadConfig:
    """The model's own classifier."""

    name: str = "none"


@dataclass
class FileHeadConfig(HeadConfig):
    """A linear head from a file; see `neuron_path.models.heads.load_head`."""

    name: str = "file"
    path: str = MISSING
    key: str | None = None
    of_patches: bool = False


@dataclass
class FittedHeadConfig(HeadConfig):
    """A head that is made of the model's features of a folder's images, and kept in the run directory."""

    name: str = MISSING
    root: str | None = None


@dataclass
class LinearProbeConfig(FittedHeadConfig):
    """A linear head fitted on labelled images; see `neuron_path.pipeline.head.fit_probe`."""

    name: str = "linear_probe"
    C: float = 1.0
    max_iter: int = 1000
    held_out: float = 0.2
    seed: int = 0


@dataclass
class SimilarityHeadConfig(FittedHeadConfig):
    """How like an image is to each of some references; see `neuron_path.pipeline.head.refer`."""

    name: str = "similarity"
    scale: float = 1.0


@dataclass
class DataConfig:
    """What every kind of data has in common."""

    name: str = MISSING
    classes: list[str] | None = None
    limit: int | None = None
    batch_size: int = 64
    num_workers: int = 0
    on_error: str = "raise"
    max_skipped: int | None = None


@dataclass
class DigitsConfig(DataConfig):
    """The embedded digits."""

    name: str = "digits"
    split: str = "test"


@dataclass
class PicturesConfig(DataConfig):
    """Pictures from files; the last six settings go before the group `preprocessing`."""

    root: str = MISSING
    class_index: str | None = None
    max_pixels: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    orientation: str | None = None


@dataclass
class ImageFolderConfig(PicturesConfig):
    """A folder of pictures; see `neuron_path.data.folder`."""

    name: str = "image_folder"
    labels: str | None = None
    labels_only: bool = False
    each_label: bool = False
    cache: bool = True


@dataclass
class WebDatasetConfig(PicturesConfig):
    """Pictures in tar files; see `neuron_path.data.shards`."""

    name: str = "webdataset"
    label_key: str = "cls"
    image_key: str | None = None
    cache: bool = True


@dataclass
class HuggingFaceConfig(PicturesConfig):
    """A data set of Hugging Face's `datasets`; see `neuron_path.data.huggingface`."""

    name: str = "huggingface"
    split: str = MISSING
    subset: str | None = None
    image_column: str = "auto"
    label_column: str | None = "auto"
    id_column: str | None = None


HEADS = (FileHeadConfig, LinearProbeConfig, SimilarityHeadConfig)
DATA = (DigitsConfig, ImageFolderConfig, WebDatasetConfig, HuggingFaceConfig)


@dataclass
class PreprocessingConfig:
    """How a folder's pictures are prepared; None is the model's own."""

    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    orientation: str | None = None


@dataclass
class QuadratureConfig:
    """The rule of the integral."""

    rule: str = MISSING
    n_steps: int = MISSING


@dataclass
class AdaptiveConfig(QuadratureConfig):
    """The rule that takes as many nodes as an image needs; `n_steps` to begin with."""

    rule: str = "adaptive"
    tolerance: float = 1e-3
    max_steps: int = 64


@dataclass
class EvaluationConfig:
    """What is measured of every path; see `neuron_path.pipeline.evaluate`."""

    operations: list[str] = MISSING
    factor: float = 2.0
    tokens: str = "scope"
    reference: str | None = None
    sizes: list[int] = field(default_factory=list)


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer; `devices` is a number of processes, a list of device indices, or "auto"."""

    accelerator: str = MISSING
    devices: Any = 1
    num_nodes: int = 1
    threads: int | None = None


@dataclass
class LoggerConfig:
    """Where numbers are streamed to."""

    name: str = MISSING
    project: str = "neuron-path"
    entity: str | None = None
    mode: str = "auto"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    init_timeout: float = 5.0
    finish_timeout: float = 120.0


@dataclass
class PathsConfig:
    """Where things lie."""

    output_dir: str = MISSING


@dataclass
class Config:
    """The whole configuration."""

    model: Any = MISSING
    head: Any = MISSING
    data: Any = MISSING
    preprocessing: PreprocessingConfig = MISSING
    scorer: Any = MISSING
    search: Any = MISSING
    quadrature: Any = MISSING
    evaluation: EvaluationConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    paths: PathsConfig = MISSING
    seed: int = 0
    target_class: str = "auto"
    target: str = Target.name
    contrast_class: int | None = Target.contrast_class
    token_scope: str | None = None
    units: str = "ffn"
    top_k: int = SearchSettings.top_k
    per_block: bool = SearchSettings.per_block
    micro_batch: int | None = SearchSettings.micro_batch
    memory_budget: Any = SearchSettings.memory_budget
    precision: str = SearchSettings.precision
    compile: bool = SearchSettings.compile
    baselines: list[str] = field(default_factory=list)
    report: bool = True
    evidence: bool = False
    run_dir: str | None = None
    resume: str | None = None
    resume_mode: str = "same"


@dataclass
class FineTuneConfig:
    """See `neuron_path.lightning.fine_tuning.Recipe`."""

    epochs: int = MISSING
    learning_rate: float = MISSING
    batch_size: int = MISSING
    weight_decay: float = MISSING
    label_smoothing: float = MISSING
    shift: int = MISSING
    clip: float = MISSING


@dataclass
class LatencyConfig:
    """See `neuron_path.pruning.cost.measure_latency`."""

    batch_sizes: list[int] = MISSING
    rounds: int = MISSING
    seconds: float = MISSING


@dataclass
class PruneConfig:
    """The whole configuration of `neuron-path prune`; `conf/prune.yaml` has the defaults."""

    run_dir: str | None = None
    units: str | None = None
    keep: float = MISSING
    budget: str = MISSING
    method: str = MISSING
    allocation: str = MISSING
    fold: bool = MISSING
    classes: list[str] | None = None
    methods: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    seeds: list[int] = MISSING
    selection_share: float | None = None
    evaluate_on: str | None = None
    path_scorer: str | None = None
    path_search: str | None = None
    path_top_k: int | None = None
    batch_size: int = MISSING
    onnx: bool = MISSING
    fine_tune: FineTuneConfig = MISSING
    latency: LatencyConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    paths: PathsConfig = MISSING


_SINGLE: dict[str, Any] = {
    "preprocessing": PreprocessingConfig,
    "evaluation": EvaluationConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
    "paths": PathsConfig,
}
"""Groups whose options have one schema."""


def _by_name() -> dict[str, dict[str, Any]]:
    """The schemas of the groups whose options have one each, by the option's name."""
    return {
        "head": {kind.name: kind for kind in (HeadConfig, *HEADS)},
        "data": {kind.name: kind for kind in DATA},
        "scorer": _schemas(scorers),
        "search": _schemas(searches),
    }


def register_schemas() -> None:
    """Put the schemas where `conf/` looks for them."""
    OmegaConf.register_new_resolver("options", _options, replace=True)
    OmegaConf.register_new_resolver("first", lambda *values: next(v for v in values if v is not None), replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="prune_schema", node=PruneConfig)
    groups: dict[str, dict[str, type]] = {
        "model": {"model": ModelConfig, "checkpoint": CheckpointModelConfig},
        "quadrature": {"quadrature": QuadratureConfig, "adaptive": AdaptiveConfig},
        **{group: {group: kind} for group, kind in _SINGLE.items()},
    }
    for group, nodes in (groups | _by_name()).items():
        for name, node in nodes.items():
            store.store(group=f"schema/{group}", name=name, node=node)


def read_config(composed: DictConfig) -> Config:
    """The typed configuration.

    Raises:
        NeuronPathError: keys added with `+` that no code reads, or a `name` that is another option's.
        OmegaConfBaseException: a mandatory setting that is missing.
    """
    check_keys(composed)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    for group in ("head", "data", "scorer", "search"):
        _check_name(group, getattr(config, group))
    _check_rule(config.quadrature)
    _check_places(config)
    _check_model_name(config.model.name)
    return config


def located(config: Config) -> Config:
    """The same configuration from any working directory: files and folders that are there by their absolute paths."""
    for group, names in _PLACES.items():
        part = getattr(config, group)
        found = {name: _absolute(value) for name in names if (value := getattr(part, name, None))}
        config = replace(config, **{group: replace(part, **found)}) if found else config
    return config


def placed(config: AnyConfig, directory: str) -> AnyConfig:
    """The same configuration from any working directory, of one whose paths are relative to `directory`."""
    from neuron_path.data.digits import SPLITS  # which are no folders

    names = [name for name in _TOP_PLACES if getattr(config, name, None) and getattr(config, name) not in SPLITS]
    with chdir(directory):
        found: dict[str, Any] = {name: _absolute(getattr(config, name)) for name in names}
        if isinstance(config, Config):
            config = located(config)
            reference = config.evaluation.reference
            if reference and not isinstance(config.data, DigitsConfig | HuggingFaceConfig):  # whose are splits
                found["evaluation"] = replace(config.evaluation, reference=_absolute(reference))
    changed: Any = config
    return replace(changed, **found)


def _absolute(value: str) -> str:
    """Of a file, a folder or a pattern for files in a folder; what is not there stays as it is, and so does a word."""
    if value in ORDERS:
        return value
    try:
        path = Path(value).expanduser()
        is_there = path.exists() or (has_magic(path.name) and path.parent.is_dir())
    except (OSError, RuntimeError):  # a name too long, or nobody's home
        return value
    return str(path.absolute()) if is_there else value


def stored_config(stored: Mapping[str, Any] | None) -> Config:
    """The configuration that a run directory keeps, typed again.

    Raises:
        NeuronPathError: one of another version, whose settings are others.
    """
    rules = {rule: AdaptiveConfig if rule == "adaptive" else QuadratureConfig for rule in RULES}
    kinds: dict[str, Any] = {"model": ModelConfig, "quadrature": rules} | _SINGLE | _by_name()
    try:
        parts = dict(stored or {})
        # Runs of before took pictures as they are stored.
        parts["preprocessing"] = {"orientation": "stored"} | parts["preprocessing"]
        for name, kind in kinds.items():
            make = kind[parts[name][_CHOSEN_BY.get(name, "name")]] if isinstance(kind, dict) else kind
            parts[name] = make(**parts[name])
        config = Config(**parts)
        OmegaConf.structured(config)  # looks at the types
        return config
    except (KeyError, TypeError, ValueError, OmegaConfBaseException) as error:
        reason = str(error).partition("\n")[0]
        raise NeuronPathError(
            f"The stored configuration is of another version of NeuronPath ({reason}): search again."
        ) from error


def unknown_setting(full_key: str, node: object) -> str:
    """One line for a key that the mapping it was looked up in, `node`, does not have."""
    parent, _, key = full_key.rpartition(".")
    if OmegaConf.get_type(node) is dict:
        return f"The mapping '{parent}' has no '{key}' yet: add it as +{full_key}=VALUE."
    children = node if isinstance(node, DictConfig) else {}
    names = [str(name) for name in children if name != key and (parent or name not in OUTSIDE)]
    full_names = {name: f"{parent}.{name}" if parent else name for name in [*names, *(() if parent else OUTSIDE)]}
    if not parent:
        elsewhere = {f.name: f"data.{f.name}" for kind in DATA for f in fields(kind)} if "data" in children else {}
        full_names = elsewhere | _settings_of_groups(children) | full_names
    close = difflib.get_close_matches(key, full_names, n=1) or difflib.get_close_matches(key.lower(), full_names, n=1)
    hint = f" Did you mean '{full_names[close[0]]}'?" if close else ""
    if owner := _owner(parent, key):
        hint = f" It is one of {parent}={owner}: add {parent}={owner}."
    where = f" of '{parent}'" if parent else ""
    return f"There is no setting '{full_key}'.{hint} Settings{where}: {', '.join(names)}."


def _owner(group: str, key: str) -> str | None:
    """The first option of a group that has a setting."""
    kinds = _by_name() | {"quadrature": {"adaptive": AdaptiveConfig}}
    return next((name for name, kind in kinds.get(group, {}).items() if key in {f.name for f in fields(kind)}), None)


def takes_list(key: str) -> bool:
    """Whether a setting is a list, as far as its name tells.

    >>> takes_list("data.classes"), takes_list("trainer.devices"), takes_list("seed")
    (True, True, False)
    """
    name = key.rpartition(".")[2]
    kinds = [kind for kind in globals().values() if isinstance(kind, type) and is_dataclass(kind)]
    lists = {f.name for kind in kinds for f in fields(kind) if str(f.type).startswith("list[")}
    return name == "devices" or name in lists


def conf_dir() -> Path:
    """The folder of YAML files: inside an installed package, else beside it in the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def options_of(part: Any) -> dict[str, Any]:
    """A scorer's or search's options without its name."""
    return {f.name: getattr(part, f.name) for f in fields(part) if f.name != "name"}


def _schemas(registry: Registry[Any]) -> dict[str, type]:
    return {name: _schema(name, cls) for name, cls in registry}


def _schema(name: str, cls: type) -> type:
    hints = get_type_hints(cls)
    options = [(f.name, hints[f.name], f.default if f.default is not NO_DEFAULT else MISSING) for f in fields(cls)]
    return make_dataclass(f"{cls.__name__}Config", [("name", str, name), *options])


def check_keys(node: DictConfig, parent: str = "") -> None:
    """Raise a NeuronPathError for a key that no code reads.

    Hydra's `+` adds keys to typed nodes too, and drops them without a word when they become objects.
    """
    kind = OmegaConf.get_type(node)
    known = [f.name for f in fields(kind)] if kind is not None and is_dataclass(kind) else list(node)
    for key in node:
        full_key = f"{parent}.{key}" if parent else str(key)
        if key not in known:
            raise NeuronPathError(unknown_setting(full_key, node))
        if not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            check_keys(node[key], full_key)


def _check_places(config: Config) -> None:
    """A path that is empty would be the working directory; where a shell's variable is not set, it is empty."""
    for group, names in _PLACES.items():
        part = getattr(config, group)
        if empty := [name for name in names if getattr(part, name, None) == ""]:
            raise NeuronPathError(
                f"The setting '{group}.{empty[0]}' is empty: give a path, as in {group}.{empty[0]}=., or leave it out."
            )


def _check_name(group: str, part: Any) -> None:
    """A part's options come with its name: both are chosen by the group."""
    own = next(f.default for f in fields(part) if f.name == "name")
    if part.name != own:
        raise NeuronPathError(
            f"The setting '{group}.name' is '{part.name}', but the option '{own}' of '{group}' was chosen: choose "
            f"with {group}={part.name} instead."
        )


def _check_model_name(name: str) -> None:
    """The option of a group is no name of a model, unless it is that model's own."""
    for file in (conf_dir() / "model").glob("*.yaml"):
        own = re.search(r"^name: *(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if file.stem == name and own is not None and own[1] != name:
            raise NeuronPathError(
                f"The setting 'model.name' is '{name}', which is no model but an option of 'model': choose with "
                f"model={name} instead."
            )


def _check_rule(quadrature: Any) -> None:
    """The adaptive rule has options of its own, which come with the group's option."""
    if isinstance(quadrature, AdaptiveConfig) != (quadrature.rule == "adaptive"):
        raise NeuronPathError(
            f"The setting 'quadrature.rule' is '{quadrature.rule}', but another option of 'quadrature' was chosen: "
            f"choose with quadrature={quadrature.rule} instead."
        )


def _settings_of_groups(root: Any) -> dict[str, str]:
    """Last part → full key, of all settings inside groups."""
    groups = {name: root[name] for name in root if name not in OUTSIDE and not OmegaConf.is_missing(root, name)}
    return {
        str(key): f"{group}.{key}" for group, node in groups.items() if isinstance(node, DictConfig) for key in node
    }


def _options() -> str:
    """The groups of `conf/` with their options, for `--help`."""
    folders = sorted(folder for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra")
    return "\n".join(
        f"  {folder.name}: {', '.join(sorted(f.stem for f in folder.glob('*.yaml')))}" for folder in folders
    )
