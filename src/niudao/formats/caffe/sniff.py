"""What a file is, by its first bytes."""

from __future__ import annotations

import re
from pathlib import Path

from niudao.formats import files

_TEXT = re.compile(rb"(?:name|input|input_dim|input_shape|layers?|state|force_backward|debug_info)\s*[:{<]")
_FIELDS = {1: 2, 2: 2, 3: 2, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 100: 2}
"""Field number -> wire type of a NetParameter; `input_dim` may also be packed."""


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file."""
    with files.open_model(path) as f:
        return f.read(size)


def is_text(path: Path) -> bool:
    """Whether a file is a prototxt: by its ending, else by its first statement."""
    return path.suffix.lower() == ".prototxt" or looks_like_text(head(path))


def looks_like_text(data: bytes) -> bool:
    """Whether these bytes begin a network in protobuf's text format."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    at = 0
    while at < len(data):  # comments and white space
        if data[at : at + 1].isspace():
            at += 1
        elif data[at : at + 1] == b"#":
            end = data.find(b"\n", at)
            at = len(data) if end < 0 else end + 1
        else:
            break
    return _TEXT.match(data, at) is not None


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5."""
    return head(path, 8) == b"\x89HDF\r\n\x1a\n"


def holds_blobs(path: Path) -> bool:
    """Whether an HDF5 file is one of Caffe's: a group `data` and nothing that Keras writes."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "data" in file and set(file) <= {"data", "diff"} and not set(file.attrs)
    except (OSError, RuntimeError, ValueError, KeyError, UnicodeError):
        return False


def is_binary(path: Path) -> bool:
    """Whether a file is a binary network."""
    return looks_like_binary(head(path))


def looks_like_binary(data: bytes) -> bool:
    """Whether these bytes begin a NetParameter with a layer in it: known fields in their wire types, one of them a layer."""
    at, layers = 0, 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = (tag or 0) >> 3, (tag or 0) & 7
        if tag is None:
            break
        if _FIELDS.get(number) != wire and not (number == 4 and wire == 2):
            return False
        value, at = _varint(data, at)
        if value is None:
            break
        if wire == 2:
            layers += number in (2, 100)
            at += value
    return layers > 0


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            return None, len(data)
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return None, at
