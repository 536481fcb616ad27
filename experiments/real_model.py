"""The paper's claims on a pretrained model: `real_model.yaml` says the commands, the cost and the settings."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from neuron_path.config import LoggerConfig
from neuron_path.errors import NeuronPathError
from neuron_path.store.provenance import collect_provenance
from neuron_path.tracking import check_options, make_tracker
from real_study.gather import gather
from real_study.measure import Measurements
from real_study.page import write_page
from real_study.plan import Scope
from real_study.store import Store
from real_study.subject import Source, Subject


@dataclass
class RealModel:
    """Settings; their values and meaning are in `real_model.yaml`."""

    model: str
    checkpoint: str | None
    image_size: int | None
    train: str | None
    test: str | None
    images: int | None
    dear: int
    sizes: list[int]
    methods: list[str]
    parts: list[str]
    n_steps: int
    references: int
    chunk: int
    seed: int
    threads: int
    hours: float | None
    compute: bool
    logger: str
    out: str
    resume: str | None
    tables: str
    page: str | None
    note: str | None
    distances: str | None


def compute(settings: RealModel) -> bool:
    """Measure what is missing; returns whether all is there."""
    if settings.train is None or settings.test is None:
        raise NeuronPathError("Photographs are missing: give train=DIR and test=DIR, with a folder for every class.")
    torch.set_num_threads(settings.threads)
    options = asdict(LoggerConfig(name=settings.logger))
    check_options(options)
    store = Store(settings.out)
    names = Source.__dataclass_fields__
    subject = Subject(Source(**{name: getattr(settings, name) for name in names}), store)
    n_images = min(settings.images or len(subject.order), len(subject.order))
    chunks, dear = (-(-count // settings.chunk) for count in (n_images, min(settings.dear, n_images)))
    scope = Scope(chunks, dear, settings.sizes, settings.methods, settings.parts)
    cells = list(dict.fromkeys(scope.cells()))
    measurements = Measurements(subject)
    tracker = make_tracker(store.folder, collect_provenance(asdict(settings)), options, "real_model")
    began, done = time.monotonic(), sum(map(store.has, cells))
    for cell in cells:
        if store.has(cell):
            continue
        if settings.hours is not None and time.monotonic() - began > 3600 * settings.hours:
            return False
        start = time.monotonic()
        measurements.measure(cell)
        done, seconds = done + 1, time.monotonic() - start
        print(f"{done}/{len(cells)} {cell.file} {seconds:.1f} s", flush=True)
        tracker.log({"cells": done, "seconds": seconds})
    tracker.finish({"cells": done}, [])
    return True


ConfigStore.instance().store(name="real_model_schema", node=RealModel)


@hydra.main(config_path=".", config_name="real_model", version_base="1.3")
def main(config: Any) -> None:
    """Measure, then write tables and page of what is there."""
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, RealModel)
    try:
        if settings.resume is not None:
            Store(settings.out).unpack(settings.resume)
        if settings.compute:
            compute(settings)
        gather(
            Store(settings.out), settings.tables, settings.sizes, settings.methods, settings.note, settings.distances
        )
        if settings.page is not None:
            write_page(settings.tables, settings.page)
    except NeuronPathError as error:
        sys.exit(f"real_model: error: {error}")


if __name__ == "__main__":
    main()
