"""A sweep of `conf/experiment/NAME.yaml`, then what is gathered from its runs: what the scripts here have in common."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PAPER_FILES: Final = {
    "vit_b_16": "ViT-B_16-224.npz",
    "vit_b_32": "ViT-B_32.npz",
    "vit_l_32": "ViT-L_32.npz",
    "mae_b_16": "mae_finetuned_vit_base.pth",
}
"""The paper's models, as `conf/model` names them, and their files, as Google and Meta name them."""

PAPER_SETTINGS: Final = {"preprocessing": "paper", "data": "image_folder", "evaluation.reference": "null"}
"""How the paper's models see ImageNet; what the command line has goes before it."""


def sweep_and_gather(name: str, arguments: Sequence[str], gather: Callable[[str], int], *, made: str = "tables") -> int:
    """Run `experiment=NAME` into a folder with the given overrides, and gather what it left.

    Args:
        name: of the experiment.
        arguments: [DIR] [weights=FILES] [KEY=VALUE …]; DIR is outputs/NAME where none is given. With weights, a folder
            that holds the files of the paper's models, each of `model` (all four without it) is swept with its own.
        gather: takes the folder, and returns an exit code.
        made: what it writes, for the usage line.

    Returns:
        The exit code: gather's, else the sweep's.
    """
    usage = (
        f"usage: python experiments/{name}.py [DIR] [weights=FILES] [KEY=VALUE …]\n"
        f"    runs and {made} go to DIR, default outputs/{name}; FILES holds the weights of the paper's models"
    )
    if "-h" in arguments or "--help" in arguments:
        print(usage)
        return 0
    folders = [argument for argument in arguments if "=" not in argument]
    if len(folders) > 1 or any(folder.startswith("-") for folder in folders):
        print(usage, file=sys.stderr)
        return 2
    folder = folders[0] if folders else f"outputs/{name}"
    overrides = [argument for argument in arguments if "=" in argument]
    if elsewhere := [one.partition("=")[2] for one in overrides if one.startswith("hydra.sweep.dir=")]:
        print(f"{name}: error: hydra.sweep.dir is DIR here: give {elsewhere[-1]} alone.", file=sys.stderr)
        return 2
    try:
        sweeps = paper_sweeps(overrides)
    except ValueError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    failed = 0
    for sweep in sweeps:
        swept = neuron_path("run", f"experiment={name}", f"hydra.sweep.dir={folder}", *sweep)
        if swept > 1:  # stopped; 1 is a job that failed, and what is gathered says what is missing
            return swept
        failed = failed or swept
    return gather(folder) or failed


def paper_sweeps(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each sweep: one for each of the paper's models where `weights` names their folder, else one.

    Raises:
        ValueError: a model that the paper has not, or a file that is not there.

    >>> paper_sweeps(["data.limit=4"])
    [['data.limit=4']]
    """
    given = dict(override.split("=", 1) for override in overrides)
    if "weights" not in given:
        return [list(overrides)]
    folder, models = Path(given.pop("weights")), given.pop("model", ",".join(PAPER_FILES)).split(",")
    if unknown := [model for model in models if model not in PAPER_FILES]:
        raise ValueError(f"weights=FILES knows no model '{unknown[0]}': take of {', '.join(PAPER_FILES)}.")
    files = {model: folder / PAPER_FILES[model] for model in models}
    if lacking := [file.name for file in files.values() if not file.is_file()]:
        raise ValueError(
            f"'{folder}' lacks {', '.join(lacking)}: fetch it (conf/model says from where), or name fewer."
        )
    rest = [f"{key}={value}" for key, value in (PAPER_SETTINGS | given).items()]
    return [[f"model={model}", f"model.checkpoint={file}", *rest] for model, file in files.items()]


def neuron_path(*arguments: str) -> int:
    """Run the command line in a process of its own, and return its exit code, as a shell does: 128 + N for signal N."""
    code = subprocess.run([sys.executable, "-m", "neuron_path", *arguments], check=False).returncode
    return code if code >= 0 else 128 - code
