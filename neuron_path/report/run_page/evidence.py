"""What neurons answer to, and pictures of images, within what a page may hold."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from neuron_path.report.run_page.packing import PER_BYTE, pack_floats, pack_integers
from neuron_path.store.evidence import EDGE, KINDS, MAP, MAP_ZERO, PATCHES_ARE

MOST_ROWS: Final = 30_000
"""Rows of evidence in the page, at some 36 letters each; of more, the highest ranks."""
MOST_PICTURE_BYTES: Final = 4_000_000
"""Letters that pictures and maps of activations may take in the page."""
MOST_MAP_BYTES: Final = 1_100_000
"""Letters that the maps may take of these."""

_PER_MAP: Final = 10
_LIGHT: Final = 2500
_SIDE: Final = 96
_QUALITY: Final = 80
_BOX: Final = ("left", "top", "right", "bottom")
_STEPS: Final = 65_535

Data = dict[str, Any]


def evidence_data(evidence: pd.DataFrame, *, most_rows: int = MOST_ROWS) -> Data:
    """Put the table of evidence into columns for the page.

    Args:
        evidence: what :func:`neuron_path.store.evidence.load_evidence` returns.
        most_rows: of more rows, those of the highest ranks are taken.

    Returns:
        A mapping that JSON can hold, with a row per neuron, kind and rank, sorted by these: packed ``block``,
        ``neuron``, ``kind`` (place in ``kinds``), ``image`` (place in ``ids``), ``activation``, ``patchActivation``
        (NaN where there is none) and ``box`` (rows × left, top, right, bottom in 1/65535 of the picture; all 0 where
        there is none); ``patchesAre``, which must stand beside patches; ``nTop``, how many images a neuron has at most,
        and ``shown``, how many of them are here at least.
    """
    ranks = evidence["rank"].to_numpy(dtype=np.int64)
    n_top = int(ranks.max()) + 1 if len(ranks) else 0
    shown = n_top
    while shown > 1 and np.count_nonzero(ranks < shown) > most_rows:
        shown -= 1
    rows = evidence.loc[ranks < shown].sort_values(["block", "neuron", "kind", "rank"], kind="stable")
    rows = rows.iloc[: 2 * most_rows]
    ids, places = np.unique(rows["sample_id"].to_numpy(dtype=np.str_), return_inverse=True)
    boxes = rows[list(_BOX)].to_numpy(dtype=np.float64)
    whole = np.isfinite(boxes).all(axis=1, keepdims=True)
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    return {
        "ids": ids.tolist(),
        "kinds": list(KINDS),
        "patchesAre": PATCHES_ARE,
        "nTop": n_top,
        "shown": shown,
        "block": pack_integers(rows["block"].to_numpy()),
        "neuron": pack_integers(rows["neuron"].to_numpy()),
        "kind": pack_integers(rows["kind"].map(kinds).to_numpy(dtype=np.int64)),
        "image": pack_integers(places),
        "activation": pack_floats(rows["activation"].to_numpy()),
        "patchActivation": pack_floats(rows["patch_activation"].to_numpy(dtype=np.float64)),
        "box": pack_integers(np.rint(np.where(whole, boxes, 0).clip(0, 1) * _STEPS)),
    }


def maps_data(evidence: pd.DataFrame, *, most_bytes: int = MOST_MAP_BYTES) -> Data | None:
    """Put the maps of activations into columns for the page, until they take what they may.

    Args:
        evidence: what :func:`neuron_path.store.evidence.load_evidence` returns.
        most_bytes: letters for all of them.

    Returns:
        None where there are none, else ``rows`` and ``columns`` of patches, ``zero``: the byte of an activation of 0,
        ``ids`` of the images, and packed, a row for each neuron of an image, ``image`` (place in ``ids``), ``block``,
        ``neuron``, ``largest`` and ``values`` (rows × patches).
    """
    grid = evidence.attrs.get("provenance", {}).get("evidence", {}).get("patch_grid")
    size = 0 if grid is None else grid[0] * grid[1]
    room = float(most_bytes)
    ids: list[str] = []
    found: dict[str, list[Any]] = {name: [] for name in ("image", *MAP)}
    for sample_id, maps in evidence.loc[evidence["maps"].notna(), ["sample_id", "maps"]].itertuples(index=False):
        own = [one for one in maps if len(one["values"]) == size]
        room -= PER_BYTE * (size + _PER_MAP) * len(own) + len(json.dumps(sample_id)) + 1
        if room < 0:
            break
        found["image"] += [len(ids)] * len(own)
        for name in MAP:
            found[name] += [one[name] for one in own]
        ids.append(sample_id)
    if grid is None or not found["image"]:
        return None
    data = {name: pack_integers(found[name]) for name in ("image", "block", "neuron")}
    values = np.frombuffer(b"".join(found["values"]), dtype=np.uint8)
    data |= {"largest": pack_floats(found["largest"]), "values": pack_integers(values)}
    return {"rows": grid[0], "columns": grid[1], "zero": MAP_ZERO, "ids": ids} | data


def edges_data(evidence: pd.DataFrame) -> Data | None:
    """Put the strongest edges of images' paths into columns for the page.

    Args:
        evidence: what :func:`neuron_path.store.evidence.load_evidence` returns.

    Returns:
        None where there are none, else ``ids`` of the images, packed ``n`` and ``magnitude`` of all edges of each, and
        packed, a row for each edge that is kept, ``image`` (place in ``ids``), and what :data:`EDGE` names.
    """
    rows = evidence.loc[evidence["edges"].notna(), ["sample_id", "edges"]]
    if rows.empty:
        return None
    of_images = rows["edges"].tolist()
    strongest = [edge for own in of_images for edge in own["strongest"]]
    data: Data = {name: pack_integers([edge[name] for edge in strongest]) for name in EDGE[:-1]}
    return data | {
        "ids": rows["sample_id"].tolist(),
        "n": pack_integers([own["n"] for own in of_images]),
        "magnitude": pack_floats([own["magnitude"] for own in of_images]),
        "image": pack_integers(np.repeat(np.arange(len(rows)), [len(own["strongest"]) for own in of_images])),
        "value": pack_floats([edge["value"] for edge in strongest]),
    }


def picture_uris(
    pictures: Mapping[str, bytes], wanted: Iterable[str], *, most_bytes: int = MOST_PICTURE_BYTES
) -> dict[str, str]:
    """Make data URIs of pictures, the first wanted first, until they take what they may.

    Args:
        pictures: PNG files by sample id. Small ones are taken as they are, others scaled to 96 pixels and written as
            WebP; what is no picture is left out.
        wanted: sample ids in the order of their importance; those without a picture are passed over.
        most_bytes: letters for all of them.
    """
    uris: dict[str, str] = {}
    room = most_bytes
    for name in dict.fromkeys(wanted):
        uri = _uri(pictures[name]) if name in pictures else None
        if uri is None:
            continue
        room -= len(uri)
        if room < 0:
            break
        uris[name] = uri
    return uris


def _uri(data: bytes) -> str | None:
    kind = "png"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if len(data) > _LIGHT:
                data, kind = _lighter(picture), "webp"
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError, SyntaxError):
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _lighter(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()
