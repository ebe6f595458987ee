"""Files of weights that are damaged or mean harm, as bytes. `marker` is a file that code in them would write."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch


class Call:
    """Pickled, a call made when it is loaded."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def saved(content: object, **options: Any) -> bytes:
    """As torch saves it."""
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tensors(header: dict[str, Any] | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """safetensors of any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def f32(start: int, stop: int, *shape: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


def pickles(marker: Path) -> dict[str, bytes]:
    system = {"w": Call(os.system, f"touch {marker}")}
    zipped_tensor = unzipped(saved({"w": torch.zeros(10**6)}))
    old = saved({"w": torch.zeros(1)}, _use_new_zipfile_serialization=False)
    return {
        "calls os.system": pickle.dumps(system, 2),
        "opens a file": pickle.dumps({"w": Call(open, str(marker), "w")}, 2),
        "calls eval": pickle.dumps({"w": Call(eval, f"open({str(marker)!r}, 'w')")}, 2),
        "calls os.system, saved by torch": saved(system),
        "calls os.system, in torch's old format": saved(system, _use_new_zipfile_serialization=False),
        "a zip within a zip": zipped(
            {"a/data.pkl": pickle.dumps(system, 2), "a/version": b"3", "a/b.zip": saved(system)}
        ),
        "a zip that unpacks into a thousand times as much": zipped(zipped_tensor, zipfile.ZIP_DEFLATED),
        "a tensor of 4 TB in a header": old.replace(b"K\x01Nt", b"\x8a\x08" + struct.pack("<q", 10**12) + b"Nt"),
        "text": b"hello, world",
        "empty": b"",
        "a list": saved([torch.zeros(1)]),
        "keys that are numbers": saved({1: torch.zeros(1)}),
        "a sparse tensor": saved({"w": torch.eye(2).to_sparse()}),
        "a tensor without values": saved({"w": torch.zeros(2, device="meta")}),
        "cut off": saved({"w": torch.zeros(100)})[:300],
    }


def safetensors() -> dict[str, bytes]:
    return {
        "tensors that overlap": tensors({"a": f32(0, 4, 1), "b": f32(0, 4, 1)}, bytes(4)),
        "bytes that belong to no tensor": tensors({"a": f32(4, 8, 1)}, bytes(8)),
        "a header of 2^62 bytes": tensors(b"{}", length=2**62),
        "a tensor of 4 TB": tensors({"a": f32(0, 4 * 10**12, 10**12)}, bytes(8)),
        "a shape that does not fit its bytes": tensors({"a": f32(0, 8, 3)}, bytes(8)),
        "cut off": tensors({"a": f32(0, 8, 2)}, bytes(4)),
        "a header nested 100,000 deep": tensors(b"[" * 100_000),
        "a header that is no JSON": tensors(b"not json"),
        "an unknown type": tensors({"a": f32(0, 4, 1) | {"dtype": "F33"}}, bytes(4)),
        "empty": b"",
    }
