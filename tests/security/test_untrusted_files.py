"""Files from others run no code, whatever they are called and whatever reads them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import neuron_path
from tests.bad_input.refusals import check_refusal
from tests.command import call, run_in


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.marker, "ran")


def zipped(evil: Evil) -> bytes:
    stream = io.BytesIO()
    torch.save({"model": neuron_path.load_model().state_dict(), "hook": evil}, stream)
    return stream.getvalue()


def legacy(evil: Evil) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "hook": evil}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def bare(evil: Evil) -> bytes:
    return pickle.dumps(evil)


def objects(evil: Evil) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, weight=np.array([evil, evil], dtype=object))
    return stream.getvalue()


def mixed(evil: Evil) -> bytes:
    stream = io.BytesIO(objects(evil))
    with zipfile.ZipFile(stream, "a") as archive, archive.open("bias.npy", "w") as entry:
        np.save(entry, np.zeros(3), allow_pickle=False)
    return stream.getvalue()


PAYLOADS = {"zipped": zipped, "legacy": legacy, "bare": bare, "objects": objects, "mixed": mixed}
SUFFIXES = ("pth", "bin", "ckpt", "npz", "safetensors", "png")


@pytest.mark.covering
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_checkpoint_runs_code(kind: str, suffix: str, tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / f"evil.{suffix}"
    file.write_bytes(PAYLOADS[kind](Evil(marker)))
    for overrides in ([f"model.checkpoint={file}"], ["head=file", f"head.path={file}"]):
        outcome = run_in(tmp_path / "run", "search", *overrides)
        assert str(file) in check_refusal(outcome.code, outcome.err)
    assert not marker.exists()
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(bare(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").read_text() == "ran"


def test_an_index_of_shards_names_files_beside_it_only(tmp_path: Path) -> None:
    (tmp_path / "outside.pth").write_bytes(zipped(Evil(tmp_path / "ran")))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("../outside.pth", str(tmp_path / "outside.pth"), "..", "."):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": name}}))
        outcome = run_in(tmp_path / "run", "search", f"model.checkpoint={folder}")
        check_refusal(outcome.code, outcome.err)
    assert not (tmp_path / "ran").exists()


def test_no_table_runs_code(tmp_path: Path) -> None:
    """Arrow's extension types once unpickled what a file's metadata hold."""
    run_dir, marker = tmp_path / "run", tmp_path / "ran"
    assert run_in(run_dir, "search", "data.limit=1", "quadrature.n_steps=1").code == 0
    table = pq.read_table(run_dir / "paths.parquet")
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Evil(marker)),
    }
    place = table.schema.get_field_index("sample_id")
    field = table.schema.field(place).with_metadata(extension)
    pq.write_table(table.set_column(place, field, table["sample_id"]), run_dir / "paths.parquet")
    call("evaluate", f"run_dir={run_dir}", "evaluation.operations=[remove]", "trainer.threads=1")
    call("compare", str(run_dir))
    assert not marker.exists()


def test_no_listing_of_the_cache_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuron_path.data import cache, listing

    monkeypatch.setattr(listing, "WORTHWHILE", 1)
    monkeypatch.setattr(cache, "SETTLED", -60.0)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_text("")
    file = cache._file("files", tmp_path / "data")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bare(Evil(tmp_path / "ran")))
    assert listing.list_files(tmp_path / "data") == ["a.png"]
    assert not (tmp_path / "ran").exists()
    assert pa.types.is_large_string(pq.read_table(file)["file"].type)
