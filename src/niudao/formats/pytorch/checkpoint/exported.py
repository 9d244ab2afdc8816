"""The weights of .pt2 files, of torch 2.7 and later and of 2.1 to 2.6: a table in JSON beside raw bytes, or pickles of `torch.save`.

Reference: `torch/export/pt2_archive/_package.py`, `torch/export/__init__.py` (PyTorch 2.13).
"""

from __future__ import annotations

from typing import Any

from niudao.errors import ReadError, Where
from niudao.formats.pytorch.checkpoint import zipped
from niudao.formats.pytorch.checkpoint.archive import Archive
from niudao.formats.pytorch.checkpoint.described import Array
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.formats.pytorch.checkpoint.tensors import WIDTHS, Storage, StoredTensor, check_total, check_view

TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""Numbers of element types in the schema."""
_OLD = ("serialized_state_dict", "serialized_constants")


def models(archive: Archive) -> list[str]:
    """Names of the networks in an archive; [""] for one of torch 2.1 to 2.6."""
    if "serialized_exported_program.json" in archive:
        return [""]
    return [n[len("models/") : -len(".json")] for n in archive.names if n.startswith("models/") and n.endswith(".json")]


def weights(archive: Archive, model: str = "") -> dict[str, StoredTensor]:
    """Every parameter, buffer and constant tensor of one network of a .pt2 file, by its name in the state dict.

    Args:
        archive: The opened file.
        model: Which network; "" for the only one.

    Raises:
        ReadError: The file is damaged or hostile, or holds no such network.
    """
    held = models(archive)
    name = model or (held[0] if held else "")
    if name not in held:
        raise ReadError(f"the file holds no network {name[:60]!r}.", where=archive.where(), got=", ".join(held)[:200])
    found: dict[str, StoredTensor] = {}
    if name == "":
        for stem in _OLD:
            member = next((m for m in (f"{stem}.pt", f"{stem}.json") if m in archive), None)
            if member is not None:
                found |= _saved(archive, member)
    for kind in ("weights", "constants"):
        config, saved = f"data/{kind}/{name}_{kind}_config.json", f"data/{kind}/{name}.pt"
        if config in archive:
            found |= _table(archive, f"data/{kind}/", config)
        elif saved in archive:
            found |= _saved(archive, saved)
    check_total(found.values(), sum(archive.size(n) for n in archive.names), archive.where())
    return found


def _saved(archive: Archive, member: str) -> dict[str, StoredTensor]:
    """A dictionary that `torch.save` wrote into a member."""
    if archive.size(member) == 0:
        return {}
    inner = archive.archive(member)
    bind = zipped.Binder(inner)
    value = zipped.load(inner)
    if not isinstance(value, dict):
        raise ReadError("the archive's weights are no dictionary.", where=inner.where("data.pkl"))
    return {str(k): bind(v, str(k)[:80]) for k, v in value.items() if isinstance(v, (Described, Array))}


def _table(archive: Archive, folder: str, config: str) -> dict[str, StoredTensor]:
    table = archive.json(config).get("config")
    if not isinstance(table, dict):
        raise ReadError("the archive's table of weights is none.", where=archive.where(config))
    found: dict[str, StoredTensor] = {}
    runs: dict[str, Storage] = {}
    for name, entry in table.items():
        where = archive.where(f"{config}:{name[:80]}")
        if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str):
            raise ReadError("the archive's table of weights describes one in a way that torch does not.", where=where)
        member = folder + entry["path_name"]
        if entry.get("use_pickle"):
            if entry["path_name"].startswith(("custom_obj", "opaque_obj")):  # objects of other libraries, for whoever meets them
                continue
            inner = archive.archive(member)
            value = zipped.load(inner)
            if isinstance(value, (Described, Array)):
                found[name] = zipped.Binder(inner)(value, name[:80])
            continue
        if member not in runs:
            runs[member] = Storage(archive.path, archive.offset(member), archive.size(member), archive.member(member).crc)
        found[name] = _tensor(runs[member], entry, name, archive.where(member))
    return found


def _tensor(storage: Storage, entry: dict[str, Any], name: str, where: Where) -> StoredTensor:
    meta = entry.get("tensor_meta")
    meta = meta if isinstance(meta, dict) else {}
    try:
        code = meta["dtype"]
        shape, strides = (tuple(_int(d) for d in meta[k]) for k in ("sizes", "strides"))
        offset = _int(meta["storage_offset"])
    except (KeyError, TypeError, ValueError) as e:
        raise ReadError(f"the weight {name[:80]!r} has no shape that torch would write.", where=where) from e
    dtype = TYPES.get(code) if type(code) is int else None
    if dtype is None or len(shape) != len(strides) or len(shape) > 64:
        raise ReadError(f"the weight {name[:80]!r} is of a type or shape that is not read.", where=where, got=repr(code)[:40])
    if meta.get("layout", 7) != 7:
        raise ReadError(f"the weight {name[:80]!r} is sparse, which has no dense values to read.", where=where)
    check_view(shape, strides, offset, storage.size // WIDTHS[dtype], where)
    return StoredTensor(shape, dtype, storage, offset, strides, trainable=bool(entry.get("is_param")))


def _int(size: Any) -> int:
    value = size["as_int"]
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("no number of elements")
    return value
