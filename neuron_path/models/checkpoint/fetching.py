"""Fetching: the files of a repository of the Hugging Face hub, into its cache, or one line on why not."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub

from neuron_path.errors import NeuronPathError
from neuron_path.progress import hushed

_DESCRIPTIONS = ["*.json"]
_WEIGHTS = (["model*.safetensors"], ["pytorch_model*.bin"])


def fetch(name: str) -> Path:
    """The folder with the weights of a repository and what it tells of them, from the network or the cache.

    Of the code that a repository may hold nothing is fetched.

    Raises:
        NeuronPathError: no network, no such repository, or one without weights.
    """
    for weights in _WEIGHTS:
        try:
            with hushed("huggingface_hub"):  # five retries on a lost network are one error
                patterns = [*_DESCRIPTIONS, *weights]
                folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            raise NeuronPathError(
                f"Could not fetch '{name}' from the Hugging Face hub ({first_line(error)}). Check the name and the "
                "network, or download it elsewhere and give its folder as model.checkpoint=DIR (checkpoint=DIR in "
                "Python)."
            ) from error
        if any(file for pattern in weights for file in folder.glob(pattern)):
            return folder
    raise NeuronPathError(f"The repository '{name}' holds no model.safetensors or pytorch_model.bin.")


def first_line(error: Exception) -> str:
    """An outside error's first line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
