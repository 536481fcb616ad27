"""From an opened picture of any kind to the bands that a model takes, without losing what eight bits cannot hold.

Pillow clips deep pictures when it converts them, and keeps the upper eight of sixteen bits of a colour. Here integers
are scaled by the range of their type, and what cannot be shown to the model as it is becomes an error that says why.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from neuron_path.errors import NeuronPathError

ORIENTATIONS = ("exif", "stored")
"""`exif` turns a photograph as its camera was held; `stored` leaves it as it lies in the file, as timm does."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2
_LUMA = (0.299, 0.587, 0.114)  # Pillow's own, of ITU-R 601-2
_VISIBLE = 1e-3  # of 255: a sixteenth bit is 4e-3
_FAINT = "its pixels differ too little for the range of their type, or not in what the model sees: scale them"
_PLANAR = "bands of 16 bits in separate planes: save it with them interleaved"


def read_pixels(picture: Image.Image, channels: int, orientation: str = "exif") -> list[Image.Image]:
    """The pixels of a picture as one image of mode L or RGB, or as `channels` images of one band each.

    Bands have mode L, or F with values in [0, 255]. A model of one or three channels sees the first frame, in grey or
    in colour, without its transparency; one of two or four sees grey or colour with transparency. A model of any number
    but one and three sees the pages of a TIFF file that has as many.

    Args:
        picture: as `PIL.Image.open` gives it, before its pixels are loaded; after that 16-bit colours have lost bits.
        channels: of the model.
        orientation: one of `ORIENTATIONS`.

    Raises:
        NeuronPathError: floats outside [0, 1], integers without a known range, another number of bands than channels,
            or differences that the model would not see.
        Exception: whatever Pillow makes of a damaged file.
    """
    if channels not in (1, 3) and picture.format == "TIFF" and getattr(picture, "n_frames", 1) == channels:
        images = _pages(picture, channels)
    else:
        images = _bands(picture, channels)
    turn = _TURNS.get(_orientation(picture)) if orientation == "exif" else None
    return images if turn is None else [image.transpose(turn) for image in images]


def _orientation(picture: Image.Image) -> int:
    """Of the pixels as they are now: Pillow turns TIFF files by itself."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata say nothing, and the pixels may be whole
        return 1


def _bands(picture: Image.Image, channels: int) -> list[Image.Image]:
    deep = _deep_bands(picture)
    if deep is None:
        return _shallow(picture, channels)
    names, values = deep
    chosen = _choose(names, values, channels)
    if chosen is None:
        raise _unlike(names, channels)
    _check_visible(chosen, values)
    return [Image.fromarray(band.astype(np.float32)) for band in chosen]


def _pages(picture: Image.Image, channels: int) -> list[Image.Image]:
    """The pages of a TIFF file, each as a band."""
    values: list[np.ndarray] = []
    for page in range(channels):
        picture.seek(page)
        deep = _deep_bands(picture)
        names, bands = deep if deep is not None else (picture.mode, [np.asarray(picture.convert("L"), np.float64)])
        if len(names) > 1 or picture.mode == "P":
            raise NeuronPathError(f"page {page + 1} of {channels} is no grey one (it is {picture.mode})")
        if values and bands[0].shape != values[0].shape:
            raise NeuronPathError(f"page {page + 1} of {channels} has another size than the first")
        values += bands
    _check_visible(values, values)
    return [Image.fromarray(band.astype(np.float32)) for band in values]


def _shallow(picture: Image.Image, channels: int) -> list[Image.Image]:
    """Of a picture of eight bits or fewer a band."""
    has_alpha = picture.has_transparency_data
    if channels in (1, 3):
        made = picture.convert("L" if channels == 1 else "RGB")
        if _is_flat(made) and not _is_flat(picture.convert("RGBA")):
            what = "transparency differs" if has_alpha and _is_flat(picture.convert("RGB")) else "colours differ"
            raise NeuronPathError(
                f"only its {what} from pixel to pixel, and a model of {channels} channel(s) does not see that"
            )
        return [made]
    if channels == 4 and has_alpha:
        return list(picture.convert("RGBA").split())
    if channels == 2 and has_alpha and picture.mode in ("L", "LA", "La"):
        return list(picture.convert("LA").split())
    raise _unlike(picture.mode, channels)


def _is_flat(picture: Image.Image) -> bool:
    """Whether all pixels are the same."""
    extrema: Any = picture.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)


def _deep_bands(picture: Image.Image) -> tuple[str, list[np.ndarray]] | None:
    """Letters of the bands, and the bands (H, W) in [0, 255], of a picture that eight bits do not hold.

    None for any other. The picture is loaded then in both cases.
    """
    lower = _lower_bytes(picture)
    picture.load()
    if lower is not None:
        both = zip(picture.split(), lower.split(), strict=True)
        if picture.mode == "RGBA" and lower.mode == "CMYK":  # grey and transparency, two bytes each
            grey, grey_lower, alpha, alpha_lower = lower.split()
            return "LA", [_wide(grey, grey_lower), _wide(alpha, alpha_lower)]
        return picture.mode, [_wide(upper, under) for upper, under in both]
    if picture.mode == "F":
        return "L", [_scaled_floats(picture)]
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return "L", [_scaled_integers(picture)]
    return None


def _wide(upper: Image.Image, lower: Image.Image) -> np.ndarray:
    return (np.asarray(upper, np.float64) * 256 + np.asarray(lower)) / 257


def _lower_bytes(picture: Image.Image) -> Image.Image | None:
    """What Pillow leaves out of a picture of sixteen bits a colour: the same bands of the lower bytes.

    They are what it reads when it is given the other order of bytes. Of grey with transparency all four bytes of a
    pixel are returned, as an image of mode CMYK.
    """
    tiles: Any = getattr(picture, "tile", None)
    file: Any = getattr(picture, "fp", None)
    tags: Any = getattr(picture, "tag_v2", {})
    if tags.get(_PLANES) == _SEPARATE and max(tags.get(_BITS, (8,))) > 8 and len(tags[_BITS]) > 1:
        raise NeuronPathError(_PLANAR)  # Pillow would take each byte for a pixel
    rawmode = _rawmode(tiles[0]) if tiles else ""
    if file is None or not (rawmode == "LA;16B" or re.fullmatch(r"(RGB[AXa]?|CMYK);16[LBN]", rawmode)):
        return None
    file.seek(0)
    again: Any = Image.open(io.BytesIO(file.read()))
    if rawmode == "LA;16B":
        again._mode, other = "CMYK", "CMYK"
    else:
        native = "L" if sys.byteorder == "little" else "B"
        order = rawmode[-1].replace("N", native)
        other = rawmode[:-1] + {"L": "B", "B": "L"}[order]
    again.tile = [tile._replace(args=_with_rawmode(tile.args, other)) for tile in again.tile]
    again.load()
    if rawmode.startswith(("RGBa", "CMYK")):  # whose bytes do not add up band by band: the upper ones have to do
        picture.load()
        if _is_flat(picture) and not _is_flat(again):
            raise NeuronPathError(_FAINT)
        return None
    return again


def _rawmode(tile: Any) -> str:
    args = tile[3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with_rawmode(args: Any, rawmode: str) -> Any:
    return (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode


def _scaled_floats(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture, np.float64)
    if not np.isfinite(values).all():
        raise NeuronPathError("it holds NaN or infinity; expected floats from 0 to 1")
    if values.size and (values.min() < 0 or values.max() > 1):
        raise NeuronPathError(
            f"its floats reach from {values.min():g} to {values.max():g}; expected 0 to 1: scale them and save it again"
        )
    return _white_above(values * 255, picture)


def _scaled_integers(picture: Image.Image) -> np.ndarray:
    tags: Any = getattr(picture, "tag_v2", {})
    bits = max(tags.get(_BITS, (16,)))
    values = np.asarray(picture).astype(np.float64)
    is_signed = max(tags.get(_SAMPLE_FORMAT, (1,))) == _SIGNED
    if picture.mode == "I" and picture.format not in ("TIFF", "PPM"):
        raise NeuronPathError("its integers of 32 bits have no known range: save it in 16 bits, as PNG or TIFF")
    if is_signed:
        values += 2 ** (bits - 1)
    elif picture.mode == "I":  # Pillow's are signed
        values %= 2**32
    values *= 255 / (2**bits - 1)
    if bits > 16 and 0 < np.ptp(values) < 1:  # less than one of 256 steps: sixteen bits or fewer in thirty-two
        raise NeuronPathError(_FAINT)
    return _white_above(values, picture)


def _white_above(values: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Values in [0, 255] of which 255 is white; a TIFF file may have it the other way round."""
    tags: Any = getattr(picture, "tag_v2", {})
    return 255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values


def _choose(names: str, values: Sequence[np.ndarray], channels: int) -> list[np.ndarray] | None:
    """The bands for so many channels, of bands with these names; None where there are none."""
    band = dict(zip(names, values, strict=True))
    if channels == 1:
        return [band["L"] if "L" in band else np.tensordot(_LUMA, [band[name] for name in "RGB"], axes=1)]
    color = [band["L"]] * 3 if "L" in band else [band[name] for name in "RGB"]
    if channels == 3:
        return color
    if channels == 4 and "A" in band:
        return [*color, band["A"]]
    return [band["L"], band["A"]] if channels == 2 and names == "LA" else None


def _check_visible(chosen: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    """Raise a NeuronPathError where all pixels would look the same and are not."""
    if all(np.ptp(band) < _VISIBLE for band in chosen) and any(np.ptp(band) > 0 for band in values):
        raise NeuronPathError(_FAINT)


def _unlike(names: str, channels: int) -> NeuronPathError:
    with_alpha = {2: "grey with transparency", 4: "RGBA"}
    expected = f"{with_alpha[channels]}, or " if channels in with_alpha else ""
    return NeuronPathError(
        f"it is {names}, and the model takes {channels} channels: expected {expected}a TIFF file of {channels} grey "
        "pages"
    )
