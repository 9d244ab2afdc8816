"""The weights of TorchScript archives: of 1.4 and later, a pickle of objects; of 1.0 to 1.3, a table in JSON. No code of theirs is run.

Reference: `torch/csrc/jit/serialization/export_module.cpp`; for the old ones `caffe2/proto/torch.proto` of PyTorch 1.0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from niudao.errors import LimitError, ReadError, UsageError
from niudao.formats.pytorch.checkpoint import zipped
from niudao.formats.pytorch.checkpoint.archive import Archive, open_archive
from niudao.formats.pytorch.checkpoint.described import Array, Instance
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.formats.pytorch.checkpoint.sniff import zip_kind
from niudao.formats.pytorch.checkpoint.tensors import WIDTHS, Storage, StoredTensor, check_view, contiguous

MAX_DEPTH, MAX_NAMES = 100, 100_000
_OLD_TYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "BOOL": "bool",
    "BYTE": "uint8",
}


def script_state(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of a TorchScript archive's modules, under the name that `state_dict()` gives it; plain tensor attributes are among them.

    Raises:
        ReadError: It is damaged, hostile, or no TorchScript.
    """
    archive = open_archive(path)
    kind = zip_kind(archive)
    if kind == "torchscript-old":
        return old_state(archive)
    if kind != "torchscript":
        raise UsageError(f"{path.name} is no TorchScript archive.", where=archive.where(), got=kind)
    return state(archive)


def state(archive: Archive) -> dict[str, StoredTensor]:
    """`script_state` of an opened archive of 1.4 or later."""
    root = zipped.load(archive)
    if not isinstance(root, Instance):
        raise ReadError("the archive's data is no module.", where=archive.where("data.pkl"))
    bind = zipped.Binder(archive)
    found: dict[str, StoredTensor] = {}
    visited = 0

    def visit(module: Instance, prefix: str, depth: int) -> None:
        nonlocal visited
        visited += 1
        if max(depth, len(prefix) >> 6) > MAX_DEPTH or max(visited, len(found)) > MAX_NAMES:
            raise LimitError("the modules of the archive are nested too deeply or are too many.", where=archive.where("data.pkl"))
        state = module.state if isinstance(module.state, dict) else {}
        held = {k: v for k, v in state.items() if isinstance(k, str) and len(k) <= 1000}
        for name, value in held.items():
            if isinstance(value, (Described, Array)):
                found[f"{prefix}{name}"] = bind(value, f"{prefix}{name}"[:80])
        for name, value in held.items():
            if isinstance(value, Instance):
                visit(value, f"{prefix}{name}.", depth + 1)

    visit(root, "", 0)
    return found


def constants(archive: Archive) -> list[StoredTensor | Any]:
    """What the code of an archive calls `CONSTANTS.c0`, `c1`, ...; tensors are bound, other things as described."""
    if "constants.pkl" not in archive:
        return []
    held = zipped.load(archive, "constants.pkl")
    if not isinstance(held, (tuple, list)):
        raise ReadError("the archive's constants are no list.", where=archive.where("constants.pkl"))
    bind = zipped.Binder(archive, "constants")
    return [bind(c, f"c{i}") if isinstance(c, (Described, Array)) else c for i, c in enumerate(held)]


# 1.0 to 1.3


def old_state(archive: Archive) -> dict[str, StoredTensor]:
    """`script_state` of an archive of 1.0 to 1.3."""
    document = archive.json("model.json")
    listed = document.get("tensors")
    if not isinstance(listed, list) or not isinstance(document.get("mainModule"), dict):
        raise ReadError("model.json in the archive describes no module.", where=archive.where("model.json"))
    tensors = [_old_tensor(archive, entry) for entry in listed]
    found: dict[str, StoredTensor] = {}

    def visit(module: dict[str, Any], prefix: str) -> None:
        if len(prefix) > 64 * MAX_DEPTH:
            raise LimitError("the names of the archive's modules are too long.", where=archive.where("model.json"))
        for entry in _list(archive, module, "parameters"):
            name, number = entry.get("name"), _number(archive, entry.get("tensorId"))
            if not isinstance(name, str) or number >= len(tensors):
                raise ReadError("model.json in the archive names a tensor that it does not list.", where=archive.where("model.json"))
            tensor = tensors[number]
            if tensor is None:
                raise ReadError("a tensor of the archive is of a type that is not read.", where=archive.where(f"{prefix}{name}"))
            found[f"{prefix}{name}"] = replace(tensor, trainable=not entry.get("isBuffer", False))
        for inner in _list(archive, module, "submodules"):
            visit(inner, f"{prefix}{str(inner.get('name', ''))[:1000]}.")

    visit(document["mainModule"], "")
    return found


def _list(archive: Archive, module: dict[str, Any], key: str) -> list[dict[str, Any]]:
    held = module.get(key, [])
    if not isinstance(held, list) or not all(isinstance(e, dict) for e in held):
        raise ReadError(f"model.json in the archive has {key} that are no list.", where=archive.where("model.json"))
    return held


def _number(archive: Archive, value: Any) -> int:
    """JSON of protobuf spells 64-bit numbers as texts."""
    text = str(value)[:20]
    if not text.isascii() or not text.isdecimal():
        raise ReadError(
            "model.json in the archive holds no number where one belongs.", where=archive.where("model.json"), got=repr(value)[:40]
        )
    return int(text)


def _old_tensor(archive: Archive, entry: Any) -> StoredTensor | None:
    """One tensor of the list; None for a type that is not read."""
    if not isinstance(entry, dict) or not isinstance(entry.get("data"), dict):
        raise ReadError("model.json in the archive lists a tensor that is none.", where=archive.where("model.json"))
    dtype = _OLD_TYPES.get(str(entry.get("dataType")))
    member = entry["data"].get("key")
    if dtype is None or not isinstance(member, str):
        return None
    dims, strides = entry.get("dims", []), entry.get("strides", [])
    if not isinstance(dims, list) or not isinstance(strides, list):
        raise ReadError("model.json in the archive gives a tensor no shape.", where=archive.where(member))
    shape = tuple(_number(archive, d) for d in dims)
    steps = tuple(_number(archive, s) for s in strides) or contiguous(shape)
    if len(steps) != len(shape) or len(shape) > 64:
        raise ReadError("model.json in the archive gives a tensor as many strides as it has not axes.", where=archive.where(member))
    offset = _number(archive, entry.get("offset", 0))
    storage = Storage(archive.path, archive.offset(member), archive.size(member), archive.member(member).crc)
    check_view(shape, steps, offset, storage.size // WIDTHS[dtype], archive.where(member))
    return StoredTensor(shape, dtype, storage, offset, steps)
