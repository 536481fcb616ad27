"""Why Pillow knows no picture in a file: what lies there in its place, and what to do."""

from __future__ import annotations

import io
from importlib.util import find_spec

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_BITS, _SAMPLES, _SAMPLE_FORMAT, _FLOAT = 258, 277, 339, 3  # tags of TIFF, and a kind of numbers
_NAMED = {2: "a PNG of grey with transparency", 3: "RGB", 4: "RGBA"}


def why_unknown(data: bytes, name: str) -> str:
    """The reason in a few words, by a file's bytes and its name.

    >>> why_unknown(b"", "a.png"), why_unknown(b"hello", "a.png")
    ('it is empty', 'its format is not known')
    """
    if not data:
        return "it is empty"
    if data.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the picture: git lfs pull"
    if data.startswith((b"II*\0", b"MM\0*")):
        return _of_tiff(data)
    if name.lower().endswith((".heic", ".heif", ".hif")) and find_spec("pillow_heif") is None:
        return "its format is not known: pip install pillow-heif"
    return "its format is not known"


def _of_tiff(data: bytes) -> str:
    """What a TIFF file holds that Pillow does not read."""
    tags, file = ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
    try:
        file.seek(tags.next)
        tags.load(file)
        n_bands, bits = int(tags.get(_SAMPLES, 1)), max(tags.get(_BITS, (1,)))
        kind = "floats of" if max(tags.get(_SAMPLE_FORMAT, (1,))) == _FLOAT else "integers of"
    except Exception:  # damaged files make it raise anything
        return "it is a TIFF file that is damaged"
    bands, advice = f"{kind} {bits} bits", "integers of 8 or 16 bits, or floats of 32"
    if n_bands > 1:
        bands = f"{n_bands} bands of {bands} in one page"
        advice = f"each band as a grey page, of {advice}, for a model of {n_bands} channels"
    if n_bands in _NAMED:  # of which pages would be frames to most models
        advice = f"it as {_NAMED[n_bands]}, of integers of 8 or 16 bits from 0 on"
    return f"it is a TIFF file of {bands}, which Pillow does not read: save {advice}"
