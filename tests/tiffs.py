"""TIFFs of any kind, written from TIFF 6.0 (Adobe, 1992) alone, so that the pixels are known without a reader."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np


def tiff(
    values: np.ndarray,
    bits: int = 8,
    photometric: int | None = 1,
    *,
    planar: bool = False,
    deflate: bool = False,
    big_endian: bool = False,
    reversed_bits: bool = False,
    sample_format: int = 1,
    rows_per_strip: int | None = None,
    extra: Sequence[int] = (),
    more: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """(H, W, channels) unsigned integers below 2^bits, or floats of so many bits -> the bytes of a TIFF.

    `planar` stores the channels one after another, `reversed_bits` every byte from its lowest bit. `extra` says what
    the channels beyond the colours are; `more` holds other tags of 16-bit values.
    """
    height, _, channels = values.shape
    order, rows = ">" if big_endian else "<", rows_per_strip or height
    planes = np.split(values, channels, axis=2) if planar else [values]
    strips = [
        _packed(plane[y : y + rows].reshape(len(plane[y : y + rows]), -1), bits, order)
        for plane in planes
        for y in range(0, height, rows)
    ]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    if reversed_bits:
        strips = [
            np.packbits(np.unpackbits(np.frombuffer(s, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes() for s in strips
        ]
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [values.shape[1]]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [8 if deflate else 1]),
        266: ("H", [2 if reversed_bits else 1]),
        273: ("I", [0] * len(strips)),  # where the strips are; filled in below
        277: ("H", [channels]),
        278: ("I", [rows]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planar else 1]),
        339: ("H", [sample_format] * channels),
        **{tag: ("H", numbers) for tag, numbers in (more or {}).items()},
    }
    if photometric is not None:
        tags[262] = "H", [photometric]
    if extra:
        tags[338] = "H", extra
    start = len(_directory(tags, order))
    ends = np.cumsum([start, *map(len, strips)])
    tags[273] = "I", [int(end) for end in ends[:-1]]
    return _directory(tags, order) + b"".join(strips)


def _packed(rows: np.ndarray, bits: int, order: str) -> bytes:
    """(N, values) -> their bits, every row from a byte of its own on."""
    if bits % 8 == 0:
        return rows.astype(
            rows.dtype.newbyteorder(order) if rows.dtype.kind == "f" else f"{order}u{bits // 8}"
        ).tobytes()
    of_values = (rows[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(of_values.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def _directory(tags: Mapping[int, tuple[str, Sequence[int]]], order: str) -> bytes:
    """Tags with their types and values -> header, directory, and the values that are too long for it."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags))
    entries, values = b"", b""
    behind = len(head) + 12 * len(tags) + 4
    for tag, (code, numbers) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[code], len(numbers))
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", behind + len(values))
            values += data.ljust(len(data) + len(data) % 2, b"\0")
    return head + entries + bytes(4) + values
