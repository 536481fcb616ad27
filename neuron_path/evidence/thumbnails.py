"""What the model saw, as a small picture."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE: Final = 96
"""The longer side of a thumbnail at most, pixels."""


def thumbnail(pixels: NDArray[np.floating], side: int = SIDE) -> bytes:
    """Make a PNG file of a picture, made smaller where it is larger than `side`, never larger.

    Args:
        pixels: (H, W) or (H, W, 3) in [0, 1].
        side: the longer side at most, pixels.

    >>> Image.open(io.BytesIO(thumbnail(np.zeros((120, 240, 3))))).size
    (96, 48)
    """
    picture = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
