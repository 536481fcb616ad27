"""Table 1 as whoever has ImageNet and the paper's weights will make it, on files laid out as theirs: a rehearsal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sweep import PAPER_FILES, paper_sweeps
from tests.models.checkpoints import as_google, make, save_npz

ROOT = Path(__file__).parents[2]
SYNSETS = ("n01440764", "n01443537", "n02099601")
N_OF_EACH = 4
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 12, "num_heads": 3}
OPTIONS = (
    *(f"++model.kwargs.{name}={value}" for name, value in TINY.items()),
    *("scorer=joint_attribution,random", "top_k=1,5", "data.batch_size=3", "data.num_workers=0"),
    *("trainer=cpu", "trainer.threads=1"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two folders: `val` as ImageNet's validation pictures lie in class folders, `weights` as they are fetched."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for number in range(N_OF_EACH * len(SYNSETS)):
        file = folder / "val" / SYNSETS[number % len(SYNSETS)] / f"ILSVRC2012_val_{number:08d}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(30 + number, 40, 3), dtype=np.uint8)).save(file, "JPEG")
    weights = folder / "weights"
    weights.mkdir()
    for seed, name in enumerate(PAPER_FILES.values()):
        options: dict[str, Any] = {"depth": TINY["depth"], "num_classes": 1000}
        if name.endswith(".npz"):
            save_npz(weights / name, as_google(make(seed=seed, **options)))
        else:
            mae = make("vit_base_patch16_224.mae", seed=seed, global_pool="avg", **options)
            torch.save({"model": mae.state_dict()}, weights / name)
    return folder


def command(files: Path, out: Path, *options: str) -> list[str]:
    script = str(ROOT / "experiments" / "table1.py")
    paths = (f"data.root={files / 'val'}", f"weights={files / 'weights'}")
    return [sys.executable, script, str(out), *paths, *OPTIONS, *options]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def finish(files: Path, out: Path, *options: str) -> str:
    ran = subprocess.run(command(files, out, *options), env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_two_paths_make_the_paper_s_tables_also_after_a_kill(files: Path, tmp_path: Path) -> None:
    told = finish(files, tmp_path / "whole")
    print("\n".join(told.splitlines()[-40:]))
    cells = pd.read_csv(tmp_path / "whole" / "comparison" / "table.csv")
    n_models = {"vit_base_patch16_224", "vit_base_patch32_224", "vit_large_patch32_384"}
    assert {str(name).partition(".")[0] for name in cells["model"]} == n_models
    assert set(cells["n"]) == {N_OF_EACH * len(SYNSETS)}
    of_mae = cells.loc[cells["model"] == "vit_base_patch16_224.mae"]
    assert set(of_mae["token_scope"]) == {"patch"}
    assert set(cells.loc[~cells.index.isin(of_mae.index), "token_scope"]) == {"cls"}

    beside = pd.read_csv(tmp_path / "whole" / "protocol_corrected" / "published.csv")
    assert len(beside) == 36  # every number of the paper has a row, and those of k 1 and 5 a verdict
    assert (beside["n"] > 0).tolist() == beside["verdict"].notna().tolist()
    assert set(beside.loc[beside["n"] > 0, "top_k"].dropna()) == {1, 5}
    assert "Of the 36 numbers that the paper has of these models, " in told
    assert "The others ask for top_k=10, 20, 50" in told

    # Killed when the first run has found some paths, then given once more: the same digits.
    out = tmp_path / "killed"
    search = subprocess.Popen(
        command(files, out, "model=mae_b_16"),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(out.glob("**/parts/*.parquet")):
        assert search.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    assert not (out / "comparison").exists()
    finish(files, out, "model=mae_b_16")
    again = pd.read_csv(out / "comparison" / "table.csv")
    pd.testing.assert_frame_equal(again, of_mae.reset_index(drop=True), check_exact=False, rtol=1e-9)


def test_each_model_has_its_own_file_and_the_paper_s_settings(tmp_path: Path) -> None:
    for name in PAPER_FILES.values():
        (tmp_path / name).touch()
    given = [f"weights={tmp_path}", "model=vit_l_32,mae_b_16", "data.root=VAL", "evaluation.reference=TRAIN"]
    settings = ["preprocessing=paper", "data=image_folder", "evaluation.reference=TRAIN", "data.root=VAL"]
    assert paper_sweeps(given) == [
        ["model=vit_l_32", f"model.checkpoint={tmp_path}/ViT-L_32.npz", *settings],
        ["model=mae_b_16", f"model.checkpoint={tmp_path}/mae_finetuned_vit_base.pth", *settings],
    ]
    assert [sweep[0] for sweep in paper_sweeps([f"weights={tmp_path}"])] == [f"model={name}" for name in PAPER_FILES]


def test_a_model_or_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model 'vit_b_8': take of vit_b_16, "):
        paper_sweeps([f"weights={tmp_path}", "model=vit_b_8"])
    with pytest.raises(ValueError, match=r"lacks ViT-B_16-224\.npz, ViT-B_32\.npz, "):
        paper_sweeps([f"weights={tmp_path}"])
