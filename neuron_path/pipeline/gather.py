"""Do what is left of a stage behind the search, and gather its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.lightning.stage import Stage
from neuron_path.pipeline.launch.workers import Crew
from neuron_path.store.merge import Key, ordered_parts
from neuron_path.store.parquet import read_metadata
from neuron_path.store.recovery import open_stage


def gather(
    stage: Stage, keys: Sequence[Key], names: Sequence[str], run_dir: Path, crew: Crew, *, is_done: bool = False
) -> tuple[pa.Table | None, float | None]:
    """Do what is not on disk yet.

    Args:
        stage: what is done; its `given["provenance"]` has an `identity`.
        keys: of all its rows, each as (sample_id, method …).
        names: of the data's images.
        run_dir: where its parts are kept.
        crew: who does it.
        is_done: whether its tables are there already. Processes that were started outside take their turn all the same.

    Returns:
        The rows in the order of `keys`, None where all was there; and images per second, None where nothing was left.
    """
    asked: set[str] = set()
    if not is_done:
        identity, methods = stage.given["provenance"]["identity"], {key[1:] for key in keys}
        asked = {key[0] for key in keys} - open_stage(run_dir, stage.name, stage.schema, identity, methods)
    left = [place for place, name in enumerate(names) if name in asked]
    seconds = max((share.seconds for share in crew.run(stage, left)), default=0.0)
    rows = None if is_done else ordered_parts(run_dir, stage.schema, keys, stage.name)
    return rows, len(left) / seconds if left and seconds else None


def is_made(file: Path, by: str, identity: Mapping[str, Any]) -> bool:
    """Whether a table is there whose provenance names this identity under a key."""
    with suppress(NeuronPathError):
        return read_metadata(file).get(by, {}).get("identity") == identity
    return False
