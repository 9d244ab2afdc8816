"""Damage that keeps a format's structure: protobuf fields changed and encoded anew, JSON values exchanged inside their container.

Flipped bytes mostly break lengths and are refused at the door; these files get further in.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import bad_prototxt
import bad_zip
import h5py
from onnx_traps import varint, wire

NUMBERS = [0, 1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    7,
    2**31,
    2**40,
    2**70,
    0.5,
    float("nan"),
    float("inf"),
    1e300,
    "",
    "x",
    "relu",
    [],
    [[]],
    {},
    [0],
    [1, 1],
    [3, 3],
]


def protobuf(data: bytes, seed: int) -> bytes:
    """One to three fields of an ONNX file changed, lengths kept right."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _message(data, rng, 0)
    return data


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 70:
            raise ValueError("no number")


def _fields(data: bytes) -> list[tuple[int, int, Any]] | None:
    """Number, wire type and payload of each field; None where the bytes are no message."""
    found: list[tuple[int, int, Any]] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _read(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == 0:
                payload: Any
                payload, at = _read(data, at)
            else:
                size = {1: 8, 5: 4}.get(kind)
                if kind == 2:
                    size, at = _read(data, at)
                if size is None or at + size > len(data) or not number:
                    return None
                payload, at = data[at : at + size], at + size
            found.append((number, kind, payload))
    except (IndexError, ValueError):
        return None
    return found


def _message(data: bytes, rng: random.Random, depth: int) -> bytes:
    found = _fields(data)
    if not found:
        return data
    at = rng.randrange(len(found))
    number, kind, payload = found[at]
    if kind == 2 and depth < 8 and rng.random() < 0.85 and _fields(payload):
        found[at] = (number, kind, _message(payload, rng, depth + 1))
    else:
        change = rng.randrange(6)
        if change == 0:
            found.pop(at)
        elif change == 1:
            found.insert(rng.randrange(len(found) + 1), found[at])
        elif change == 2:
            found[at] = (rng.choice([number + 1, max(1, number - 1), rng.randrange(1, 30)]), kind, payload)
        elif change == 3:
            other = rng.randrange(len(found))
            found[at], found[other] = found[other], found[at]
        elif kind == 0:
            found[at] = (number, kind, rng.choice(NUMBERS))
        elif kind == 2:
            found[at] = (number, kind, rng.choice([b"", payload * 2, payload[: len(payload) // 2], payload[::-1], b"\xff" * 9, b"image"]))
    return b"".join(wire(n, k, varint(p) if k == 0 else varint(len(p)) + p if k == 2 else p) for n, k, p in found)


def document(text: str, seed: int) -> str:
    """One to three values of a JSON document exchanged."""
    rng = random.Random(seed)
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        stack = [data]
        while stack:
            holder = stack.pop()
            pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
            for key, inner in pairs:
                places.append((holder, key))
                if isinstance(inner, (dict, list)) and inner:
                    stack.append(inner)
        if not places:
            break
        holder, key = rng.choice(places)
        change = rng.randrange(5)
        if change == 0:
            del holder[key]
        elif change == 1:
            other, name = rng.choice(places)
            try:
                holder[key] = json.loads(json.dumps(other[name]))
            except (KeyError, IndexError):
                holder[key] = None
        elif change == 2 and isinstance(holder, list):
            holder.extend(holder[:3])
        elif change == 3 and isinstance(holder[key], (int, float)):
            holder[key] = rng.choice([-holder[key], holder[key] * 10**6, holder[key] + 1, str(holder[key]), [holder[key]]])
        else:
            holder[key] = rng.choice(VALUES)
    return json.dumps(data)


def archive(data: bytes, seed: int) -> bytes:
    """A .keras archive whose configuration is changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = [(i.filename, z.read(i)) for i in z.infolist()]
    return bad_zip.archive([(n, document(d.decode(), seed).encode() if n == "config.json" else d) for n, d in members])


def hdf5(data: bytes, seed: int) -> bytes:
    """An HDF5 file whose configuration is changed."""
    held = io.BytesIO(data)
    with h5py.File(held, "r+") as file:
        text = file.attrs["model_config"]
        file.attrs["model_config"] = document(text if isinstance(text, str) else text.decode(), seed)
    return held.getvalue()


MUTATE: dict[str, Callable[[bytes, int], bytes]] = {
    "onnx": protobuf,
    "h5": hdf5,
    "keras": archive,
    "caffe": bad_prototxt.mutate,
    "caffemodel": protobuf,
}
