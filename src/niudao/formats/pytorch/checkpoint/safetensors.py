"""Files of safetensors: the length of a JSON header, the header, the bytes; and the index of a network in several of them.

Reference: the format's description in github.com/huggingface/safetensors; header at most 100 MB, no holes, no overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import documents, files
from niudao.formats.pytorch.checkpoint.tensors import WIDTHS, Storage, StoredTensor, contiguous

MAX_HEADER = 64 << 20
MAX_FILES = 1000
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


@dataclass(frozen=True)
class Safetensors:
    """An opened file or index: its tensors in the order of their bytes, and what else it says about itself."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def open_safetensors(path: Path) -> Safetensors:
    """Read the header of one file.

    Raises:
        ReadError: It is damaged, has holes, overlaps, or says more than the file holds.
        LimitError: The header is too long.
    """
    where = Where(file=str(path))
    with files.open_model(path) as f:
        size = f.seek(0, 2)
        f.seek(0)
        length = int.from_bytes(f.read(8), "little")
        if size < 8 or length > size - 8:
            raise ReadError("the file is cut short: its header reaches beyond its end.", where=where, got=f"{size:,} bytes")
        if length > MAX_HEADER:
            raise LimitError("the header is too long.", where=where, expected=f"at most {MAX_HEADER:,} bytes", got=f"{length:,}")
        raw = f.read(length)
    if raw[:1] != b"{":
        raise ReadError(f"{path.name} has no header of safetensors.", where=where, got=repr(raw[:12]))
    header = documents.parse(raw.rstrip(b" "), where, unique=True)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ReadError("the header's __metadata__ is no table of texts.", where=where)
    start = 8 + length
    found = sorted((_tensor(path, name, entry, start, size) for name, entry in header.items()), key=lambda f: f[0])
    at = start
    for begin, end, name, _ in found:
        if begin != at:
            fault = "overlaps the one before it" if begin < at else "leaves a hole before it"
            raise ReadError(f"a tensor of the file {fault}.", where=Where(file=str(path), node=name))
        at = end
    if at != size:
        raise ReadError("the file has other bytes than its tensors take.", where=where, expected=f"{at:,}", got=f"{size:,}")
    return Safetensors({name: tensor for _, _, name, tensor in found}, metadata)


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> tuple[int, int, str, StoredTensor]:
    where = Where(file=str(path), node=name)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ReadError(
            "the header describes a tensor in a way that safetensors does not.", where=where, expected="dtype, shape, data_offsets"
        )
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise ReadError("a tensor is of a type that is not read.", where=where, expected=", ".join(_DTYPES), got=repr(code)[:40])
    if not isinstance(shape, list) or len(shape) > 64 or not all(type(d) is int and 0 <= d < 1 << 62 for d in shape):
        raise ReadError("a tensor has a shape that is none.", where=where, got=repr(shape)[:80])
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(d) is int for d in offsets):
        raise ReadError("a tensor has offsets that are none.", where=where, got=repr(offsets)[:80])
    begin, end = offsets
    count = 1
    for d in shape:
        count *= d
        if count > 1 << 62:
            raise ReadError("a tensor has more elements than there can be.", where=where, got=repr(shape)[:80])
    if not 0 <= begin <= end <= size - start or end - begin != count * WIDTHS[dtype]:
        expected, got = f"{count * WIDTHS[dtype]:,} bytes inside {size - start:,}", f"{begin} to {end}"
        raise ReadError(
            "a tensor's bytes are not as many as its shape says, or lie outside the file.", where=where, expected=expected, got=got[:60]
        )
    storage = Storage(path, start + begin, end - begin)
    return start + begin, start + end, name, StoredTensor(tuple(shape), dtype, storage, 0, contiguous(tuple(shape)))


def open_index(path: Path, open_part: Callable[[Path], Safetensors]) -> Safetensors:
    """Read `*.safetensors.index.json` or `*.bin.index.json`: which tensor lies in which of the files beside it.

    Args:
        path: The index.
        open_part: Opens one of those files.

    Raises:
        ReadError: It is no index, names a file elsewhere, or the files hold other tensors than it says.
    """
    where = Where(file=str(path))
    with files.open_model(path) as f:
        document = documents.parse(f.read(MAX_HEADER + 1), where, unique=True)
    placed = document.get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(v, str) for v in placed.values()):
        raise ReadError("the index has no weight_map, which says where each tensor lies.", where=where)
    names = list(dict.fromkeys(placed.values()))
    if len(names) > MAX_FILES:
        raise LimitError("the index names too many files.", where=where, expected=f"at most {MAX_FILES:,}", got=f"{len(names):,}")
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for name in names:
        if "/" in name:
            raise ReadError("the index names a file that does not lie beside it.", where=where, got=repr(name)[:80])
        part = open_part(files.beside(path.parent, name))
        metadata |= part.metadata
        for key, tensor in part.tensors.items():
            if placed.get(key) != name:
                raise ReadError("a tensor lies in another file than the index says.", where=Where(file=f"{path.parent / name}", node=key))
            tensors[key] = tensor
    missing = next((k for k in placed if k not in tensors), None)
    if missing is not None:
        raise ReadError("the index names a tensor that its file does not hold.", where=Where(file=str(path), node=missing))
    return Safetensors({k: tensors[k] for k in placed}, metadata)
