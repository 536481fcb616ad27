"""Pixels of every kind: what a model sees of deep, turned, many-banded and moving pictures, and what is refused."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from neuron_path.data.folder import ImageFolderDataset
from neuron_path.errors import NeuronPathError
from neuron_path.models.preprocessing import ImageTransform, image_transform
from tests import pictures

PLAIN = {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "nearest"}


@cache
def _model(channels: int, height: int, width: int) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model("test_vit", in_chans=channels, img_size=(height, width))


def transform_for(channels: int, height: int = 16, width: int = 16, **overrides: Any) -> ImageTransform:
    """Pixels in [0, 1] of the picture itself, where it has that size."""
    own = {"mean": [0.0] * channels, "std": [1.0] * channels}
    return image_transform(_model(channels, height, width), PLAIN | own | overrides)[0]


@pytest.fixture(scope="module")
def seen() -> Callable[..., Tensor]:
    """What a model of so many channels sees of a picture or of its bytes, in [0, 1]."""
    known = {channels: transform_for(channels) for channels in (1, 2, 3, 4, 5)}

    def see(source: bytes | Path, channels: int = 3) -> Tensor:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            return known[channels](picture)

    return see


def png(rows: np.ndarray, color: int) -> bytes:
    """A PNG of 16 bits a band, (H, W, bands), which Pillow does not write for colours."""
    height, width, _ = rows.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)), (b"IDAT", zlib.compress(raw))]
    chunks = [*parts, (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(rows: np.ndarray, order: str = "<", *, deflate: bool = False, **tags: int | Sequence[int]) -> bytes:
    """A TIFF of an array (H, W, bands) of any type, with further tags by number as `t258`."""
    height, width, bands = rows.shape
    data = rows.astype(rows.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    data = zlib.compress(data) if deflate else data
    kind = {"u": 1, "i": 2, "f": 3}[rows.dtype.kind]
    entries: dict[int, Any] = {
        256: width,
        257: height,
        258: [rows.dtype.itemsize * 8] * bands,
        259: 8 if deflate else 1,
        262: 2 if bands >= 3 else 1,
        273: 8,
        277: bands,
        278: height,
        279: len(data),
        339: kind,
    }
    entries |= {int(name[1:]): value for name, value in tags.items()}
    body, end = b"", 8 + len(data)
    extra, place = b"", end + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        values = [value] if isinstance(value, int) else list(value)
        packed = struct.pack(f"{order}{len(values)}I", *values)
        held = packed if len(values) == 1 else struct.pack(f"{order}I", place + len(extra))
        extra += packed if len(values) > 1 else b""
        body += struct.pack(f"{order}HHI", tag, 4, len(values)) + held
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end)
    return head + data + struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", 0) + extra


def noise(bands: int, kind: str = "u2", high: int = 65536, low: int = 0) -> np.ndarray:
    return np.random.default_rng(bands).integers(low, high, (16, 16, bands)).astype(kind)


def as_bytes(picture: Image.Image, suffix: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=suffix, **options)
    return stream.getvalue()


def channels_first(rows: np.ndarray) -> Tensor:
    return torch.tensor(rows.transpose(2, 0, 1), dtype=torch.float64)


def assert_seen(found: Tensor, expected: Tensor, within: float = 1e-5) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected.expand_as(found), rtol=0, atol=within)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_sixteen_bits_is_scaled_by_its_range(seen: Callable[..., Tensor], channels: int) -> None:
    rows = noise(1)
    expected = channels_first(rows) / 65535
    deep = Image.fromarray(rows[..., 0])
    for data in (png(rows, 0), tiff(rows), tiff(rows, ">"), as_bytes(deep, "TIFF", compression="tiff_lzw")):
        assert_seen(seen(data, channels), expected)


def test_integers_of_other_ranges(seen: Callable[..., Tensor]) -> None:
    signed, wide, wide_signed = noise(1, "i2", 32768, -32768), noise(1, "u4", 2**32), noise(1, "i4", 2**31, -(2**31))
    for order in "<>":
        assert_seen(seen(tiff(signed, order)), (channels_first(signed) + 2**15) / 65535)
        assert_seen(seen(tiff(wide_signed, order)), (channels_first(wide_signed) + 2**31) / (2**32 - 1))
    assert_seen(seen(tiff(wide)), channels_first(wide) / (2**32 - 1))
    inverted = noise(1)
    assert_seen(seen(tiff(inverted, t262=0)), 1 - channels_first(inverted) / 65535)
    assert_seen(
        seen(b"P5 16 16 4095\n" + (noise(1) % 4096).astype(">u2").tobytes()),
        channels_first(noise(1) % 4096) / 4095,
        within=1e-4,
    )


@pytest.mark.parametrize("low_only", [False, True])
def test_colours_of_sixteen_bits_keep_them(seen: Callable[..., Tensor], low_only: bool) -> None:
    rows = noise(3, high=256 if low_only else 65536)  # of the former Pillow's upper bytes are all black
    expected = channels_first(rows) / 65535
    for data in (png(rows, 2), tiff(rows), tiff(rows, ">")):
        assert_seen(seen(data), expected)
    assert_seen(seen(png(rows, 2), 1), (expected * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0))
    four = noise(4, high=256 if low_only else 65536)
    assert_seen(seen(png(four, 6), 4), channels_first(four) / 65535)
    assert_seen(seen(png(four, 6), 3), channels_first(four)[:3] / 65535)
    two = noise(2, high=256 if low_only else 65536)
    assert_seen(seen(png(two, 4), 3), channels_first(two)[:1] / 65535)
    assert_seen(seen(png(two, 4), 2), channels_first(two) / 65535)


def test_compressed_colours_of_sixteen_bits_keep_them(seen: Callable[..., Tensor]) -> None:
    rows = noise(3)
    for order in "<>":
        assert_seen(seen(tiff(rows, order, deflate=True)), channels_first(rows) / 65535)


def test_floats_from_0_to_1_are_taken(seen: Callable[..., Tensor]) -> None:
    rows = np.random.default_rng(0).random((16, 16, 1)).astype("f4")
    for order in "<>":
        assert_seen(seen(tiff(rows, order)), channels_first(rows))
    assert_seen(seen(tiff(rows), 1), channels_first(rows))


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "floats of 0 to 255": (tiff(noise(1, "f4", 256)), 3, "floats reach from 1 to 255; expected 0 to 1"),
    "floats below 0": (tiff(noise(1, "f4", 1, -5)), 3, "floats reach from -5 to"),
    "NaN": (tiff(np.full((16, 16, 1), np.nan, "f4")), 3, "holds NaN or infinity"),
    "infinity": (tiff(np.full((16, 16, 1), np.inf, "f4")), 1, "holds NaN or infinity"),
    "eight bits in thirty-two": (tiff(noise(1, "u4", 256)), 3, "differ too little for the range of their type"),
    "tiny floats": (tiff(noise(1, "f4", 256) * np.float32(1e-9)), 3, "differ too little"),
    "planes of sixteen bits": (tiff(noise(3), t284=2, t273=[8, 520, 1032], t279=[512] * 3), 3, "separate planes"),
    "only transparency": (
        as_bytes(
            Image.merge("RGBA", [Image.new("L", (16, 16))] * 3 + [pictures.picture(size=(16, 16), mode="L")]), "PNG"
        ),
        3,
        "only its transparency differs from pixel to pixel",
    ),
    "only deep transparency": (png(noise(4) * np.array([0, 0, 0, 1], np.uint16), 6), 3, "not in what the model sees"),
    "colours of one grey": (
        as_bytes(Image.fromarray(np.array([[[0, 100, 0], [0, 99, 5]]] * 2, np.uint8)), "PNG"),
        1,
        "only its colours differ from pixel to pixel, and a model of 1 channel(s)",
    ),
    "RGB for four channels": (as_bytes(pictures.picture(), "PNG"), 4, "it is RGB, and the model takes 4 channels"),
    "CMYK for four channels": (as_bytes(pictures.picture(mode="CMYK"), "JPEG"), 4, "it is CMYK, and the model takes 4"),
    "grey for two channels": (as_bytes(pictures.picture(mode="L"), "PNG"), 2, "expected grey with transparency, or a"),
    "RGBA for five channels": (
        as_bytes(pictures.picture(mode="RGBA"), "PNG"),
        5,
        "it is RGBA, and the model takes 5 channels: expected a TIFF file of 5 grey pages",
    ),
    "deep RGB for five channels": (png(noise(3), 2), 5, "it is RGB, and the model takes 5 channels"),
    "a stack of colours": (
        as_bytes(pictures.picture(), "TIFF", save_all=True, append_images=[pictures.picture()] * 4),
        5,
        "page 1 of 5 is no grey one (it is RGB)",
    ),
    "a stack of two sizes": (
        as_bytes(
            pictures.picture(mode="L"),
            "TIFF",
            save_all=True,
            append_images=[pictures.picture(mode="L", size=(5, 5))],
        ),
        2,
        "page 2 of 2 has another size",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_model_cannot_see_is_a_named_problem(kind: str, tmp_path: Path) -> None:
    data, channels, expected = REFUSED[kind]
    (tmp_path / "a.tif").write_bytes(data)
    item = ImageFolderDataset(tmp_path, transform_for(channels), preprocessing={})[0]
    assert item["image"] is None
    assert expected in str(item["problem"])
    assert "\n" not in str(item["problem"])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "webp"])
def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    file = tmp_path / f"a.{suffix}"
    pictures.picture(size=(16, 16)).save(file, exif=exif, **options)
    with Image.open(file) as picture:
        stored = np.asarray(picture.convert("RGB"))  # of TIFF it is turned already
    turns = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2)}
    turns |= {6: np.rot90(stored, -1), 7: np.rot90(stored, 2).transpose(1, 0, 2), 8: np.rot90(stored)}
    turned = stored if suffix == "tiff" else turns.get(orientation, stored)
    for way, expected in {"exif": turned, "stored": stored}.items():
        with Image.open(file) as picture:
            assert_seen(transform_for(3, orientation=way)(picture), channels_first(expected.copy()) / 255)
    assert orientation == 1 or suffix == "tiff" or (turned != stored).any()


def test_a_deep_photograph_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = noise(1)
    Image.fromarray(rows[..., 0]).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        assert_seen(transform_for(3)(picture), channels_first(np.rot90(rows, -1).copy()) / 65535)


def test_damaged_metadata_turn_nothing(tmp_path: Path, seen: Callable[..., Tensor]) -> None:
    straight = pictures.picture(size=(16, 16))
    straight.save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert_seen(seen(tmp_path / "a.png"), channels_first(np.asarray(straight)) / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_four_channels_are_colour_and_transparency(seen: Callable[..., Tensor], mode: str) -> None:
    rows = noise(4, "u1", 256)
    picture = Image.fromarray(rows)
    made = picture.convert(mode) if mode != "P" else picture.quantize(200)
    expected = channels_first(np.asarray(made.convert("RGBA"))) / 255
    assert_seen(seen(as_bytes(made, "PNG"), 4), expected)


@pytest.mark.parametrize("mode", ["L", "I;16", "F", "1"])
def test_a_stack_of_pages_is_as_many_channels(seen: Callable[..., Tensor], mode: str) -> None:
    rows = noise(5, "u1", 256)
    bands = [Image.fromarray(rows[..., band]) for band in range(5)]
    expected = channels_first(rows) / 255
    if mode == "I;16":
        bands = [Image.fromarray(rows[..., band].astype(np.uint16) * 257) for band in range(5)]
    elif mode == "F":
        bands = [Image.fromarray((rows[..., band] / 255).astype(np.float32)) for band in range(5)]
    elif mode == "1":
        bands = [Image.fromarray(rows[..., band] > 127) for band in range(5)]
        expected = channels_first(rows > 127)
    assert_seen(seen(as_bytes(bands[0], "TIFF", save_all=True, append_images=bands[1:]), 5), expected)


@pytest.mark.parametrize("crop_mode", ["border", "center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos", "bilinear"])
def test_bands_are_cut_and_scaled_as_a_whole_picture_is(crop_mode: str, interpolation: str) -> None:
    options = {"crop_mode": crop_mode, "interpolation": interpolation, "crop_pct": 0.9, "mean": [0.2, 0.4, 0.6]}
    transform = transform_for(3, 32, 24, **options)
    picture = Image.fromarray(80 + np.asarray(pictures.picture(size=(70, 50))) // 3)  # overshoots are cut in between
    bands = [Image.fromarray(np.asarray(band, np.float32)) for band in picture.split()]
    assert_seen(transform.prepare(bands), transform(picture).double(), within=1.5 / 255)


def test_of_a_moving_picture_the_first_frame_is_seen_and_said_once(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), grey) for grey in (10, 200)]
    for name in ("a.gif", "b.webp", "c.tif", "d.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    pictures.save(tmp_path / "e.png")
    data = ImageFolderDataset(tmp_path, transform_for(3), preprocessing={})
    with pytest.warns(UserWarning, match="4 of the 5 pictures looked at have several frames, as 'a.gif': .* the first"):
        data.check()
    for place in range(4):
        assert_seen(torch.as_tensor(data[place]["image"]), torch.tensor(10 / 255, dtype=torch.float64))


def test_a_stack_that_is_taken_whole_is_no_moving_picture(tmp_path: Path) -> None:
    pages = [pictures.picture(seed, mode="L") for seed in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    ImageFolderDataset(tmp_path, transform_for(5), preprocessing={}).check()


def test_the_largest_picture_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.save(tmp_path / "a.png", size=(40, 30))
    data = ImageFolderDataset(tmp_path, transform_for(3), preprocessing={})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    assert "it is too large: data.max_pixels=1200 allows it" in str(data[0]["problem"])
    data.max_pixels = 1200
    assert data[0]["problem"] is None
    data.max_pixels = 1199
    assert "data.max_pixels=1200" in str(data[0]["problem"])
    assert Image.MAX_IMAGE_PIXELS == 599


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "P", "RGB"),
    "AVIF": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I", "F"),
    "TGA": ("L", "LA", "RGB", "RGBA"),
    "JPEG2000": ("L", "RGB", "I;16"),
    "PCX": ("L", "P", "RGB"),
    "ICO": ("RGBA",),
}
KINDS = [(suffix, mode) for suffix, modes in MODES.items() for mode in modes]
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=20)


def drawn(mode: str, size: tuple[int, int], seed: int, share: float) -> Image.Image:
    """Noise in a part of the mode's range."""
    width, height = size
    values = np.random.default_rng(seed).random((height, width, 4)) * share
    if mode == "F":
        return Image.fromarray(values[..., 0].astype(np.float32))
    if mode in ("I;16", "I"):
        made = Image.fromarray((values[..., 0] * 65535).astype(np.uint16))
        return made if mode == "I;16" else Image.fromarray(np.asarray(made).astype(np.int32) * 2**15)
    return Image.fromarray((values * 255).astype(np.uint8)).convert(mode)


def test_any_picture_is_seen_or_refused_and_never_made_constant() -> None:
    transforms = {channels: transform_for(channels, 48, 48) for channels in (1, 3, 4)}
    seen: set[str] = set()
    kinds = cycle(KINDS)

    @settings(max_examples=94, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(
        st.tuples(st.integers(1, 40), st.integers(2, 40)),
        st.integers(0, 9),
        st.integers(0, 99),
        st.sampled_from([1.0, 0.1, 0.004, 0.0]),
        names,
        st.sampled_from(sorted(transforms)),
    )
    def check(size: tuple[int, int], turn: int, seed: int, share: float, name: str, channels: int) -> None:
        suffix, mode = kind = next(kinds)
        exif = Image.Exif()
        exif[0x0112] = turn
        picture = drawn(mode, size, seed, share)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"a{name}.png"  # what is inside is told by its bytes
            picture.save(file, format=suffix, **({"exif": exif} if suffix in ("PNG", "TIFF", "JPEG", "WEBP") else {}))
            pixels = None
            with suppress(OSError), Image.open(file) as stored:  # not each Pillow reads all that it writes
                stored.load()
                pixels = np.asarray(stored if mode in ("I", "I;16", "F") else stored.convert("RGBA"))
            item = ImageFolderDataset(folder, transforms[channels], preprocessing={})[0]
        if item["image"] is None:
            assert item["problem"]
            if channels == 3 and mode not in ("RGBA", "LA", "P", "F") and pixels is not None:
                assert share < 0.1, item["problem"]
            return
        assert pixels is not None
        assert item["image"].shape == (channels, 48, 48)
        assert item["image"].isfinite().all()
        seen.add(suffix + mode)
        if (pixels != pixels[:1, :1]).any():
            assert (item["image"] != item["image"][:, :1, :1]).any(), (kind, size, seed, share)

    check()
    assert len(seen) >= 0.8 * len(KINDS)


def test_a_picture_that_is_refused_in_a_notebook_is_a_named_mistake(seen: Callable[..., Tensor]) -> None:
    with pytest.raises(NeuronPathError, match="expected 0 to 1"):
        seen(tiff(noise(1, "f4", 256)))
