"""Typed schemas behind `conf/`: unknown keys and wrong types fail when a configuration is composed.

Every option of a group extends its schema (`/schema/GROUP/NAME`); the schemas of scorers and searches are made from the
options of the registered classes, so a new one needs its YAML file only.
"""

from __future__ import annotations

from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from neuron_path.attribution.scorer import scorers
from neuron_path.registry import Registry
from neuron_path.search.search import searches


@dataclass
class ModelConfig:
    """Which model; see `neuron_path.load_model`."""

    name: str = MISSING
    checkpoint: str | None = None
    pretrained: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """What every kind of data has in common."""

    name: str = MISSING
    classes: list[str] | None = None
    limit: int | None = None
    batch_size: int = 64
    num_workers: int = 0
    on_error: str = "raise"


@dataclass
class DigitsConfig(DataConfig):
    """The embedded digits."""

    split: str = "test"


@dataclass
class ImageFolderConfig(DataConfig):
    """A folder of pictures; the last four override the model's own preprocessing."""

    root: str = MISSING
    class_index: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None


@dataclass
class QuadratureConfig:
    """The rule of the integral."""

    rule: str = MISSING
    n_steps: int = MISSING


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer."""

    accelerator: str = MISSING
    devices: int = 1
    threads: int | None = None


@dataclass
class LoggerConfig:
    """Where numbers are streamed to."""

    name: str = MISSING
    project: str = "neuron-path"
    entity: str | None = None
    mode: str = "offline"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    init_timeout: float = 16.0


@dataclass
class PathsConfig:
    """Where things lie."""

    output_dir: str = MISSING


@dataclass
class Config:
    """The whole configuration."""

    model: ModelConfig = MISSING
    data: Any = MISSING
    scorer: Any = MISSING
    search: Any = MISSING
    quadrature: QuadratureConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    paths: PathsConfig = MISSING
    seed: int = 0
    target: str = "label"
    token_scope: str | None = None
    top_k: int = 1
    micro_batch: int | None = None
    baselines: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)


def register_schemas() -> None:
    """Put the schemas where `conf/` looks for them."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    groups: dict[str, dict[str, type]] = {
        "model": {"model": ModelConfig},
        "data": {"digits": DigitsConfig, "image_folder": ImageFolderConfig},
        "quadrature": {"quadrature": QuadratureConfig},
        "trainer": {"trainer": TrainerConfig},
        "logger": {"logger": LoggerConfig},
        "paths": {"paths": PathsConfig},
        "scorer": _schemas(scorers),
        "search": _schemas(searches),
    }
    for group, nodes in groups.items():
        for name, node in nodes.items():
            store.store(group=f"schema/{group}", name=name, node=node)


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
