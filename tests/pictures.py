"""Small pictures of noise, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """Noise of (width, height) in a mode of PIL's."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(file: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """Write noise to a file, whose folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, size, mode).save(file)
    return file


def flat_folder(folder: Path, n: int = 3) -> Path:
    """`n` pictures beside each other: 0.png, 1.png, …"""
    for number in range(n):
        save(folder / f"{number}.png", seed=number)
    return folder


def class_folders(folder: Path, classes: int = 10, each: int = 1) -> Path:
    """Folders 00, 01, … with pictures a.png, b.png, …"""
    for number in range(classes):
        for letter in "abcdef"[:each]:
            save(folder / f"{number:02d}" / f"{letter}.png", seed=10 * number + ord(letter))
    return folder


def truncated(file: Path) -> Path:
    """A JPEG of which half is missing: its header is whole."""
    save(file, size=(80, 80))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    return file
