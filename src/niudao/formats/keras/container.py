"""The files that a Keras network comes in: an HDF5 file, a .keras archive, or JSON with HDF5 weights, opened without trusting them."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from niudao.errors import LimitError, NiudaoError, ReadError, Where
from niudao.formats import files
from niudao.formats.keras.hdf5 import Contents, Region, survey, text

ARCHIVE_ROOTS = ("layers", "_layer_checkpoint_dependencies")
"""The group that holds a network's layers: in Keras 3, and in the archives of TensorFlow 2.12 and 2.13."""

MAX_TEXT, MAX_DEPTH, MAX_MEMBERS = 64 << 20, 100, 10_000
_ATTRIBUTES = frozenset(("layer_names", "weight_names", "name", "model_config", "keras_version", "backend", "niudao"))
_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Container:
    """An opened model.

    Attributes:
        path: The file that holds the topology.
        config: The network's configuration, parsed.
        version: Keras's version as the file says it, or "".
        backend: What Keras ran on, or "".
        contents: The stored arrays; None where there is no weights file.
        root: Group under which the layers' weights lie.
        by_class: Weights are addressed by class and number (.keras archives and .weights.h5) instead of by layer name.
        extra: What niudao wrote into the file: card, classes, source.
    """

    path: Path
    config: Mapping[str, Any]
    version: str
    backend: str
    contents: Contents | None
    root: str
    by_class: bool
    extra: Mapping[str, Any] = field(default_factory=dict)


def open_container(path: Path, weights: Path | None = None) -> Container:
    """Open a model; of a pair either file may be named first, and a partner that lies beside it is found.

    Raises:
        ReadError: Missing, broken or hostile; or weights without a topology.
    """
    head = _head(path)
    if head.startswith(b"PK"):
        return _archive(path)
    if head.startswith(_MAGIC):
        return _hdf5(path, weights)
    return _json(path, weights)


def _head(path: Path) -> bytes:
    with files.open_model(path) as f:
        return f.read(8)


# HDF5


def _hdf5(path: Path, weights: Path | None) -> Container:
    contents = survey(Region(path), _ATTRIBUTES)
    top = contents.groups.get("", {})
    if "model_config" not in top:
        topology = weights or _beside(path, (f"{_stem(path)}.json", "model.json"))
        if topology is None or _head(topology).startswith((_MAGIC, b"PK")):
            raise ReadError(
                f"{path.name} holds weights without a topology: a network cannot be built from them alone.", where=path,
                expected="an attribute model_config, or the JSON of the topology beside it", next=f"niudao inspect {path.name}",
            )
        return _json(topology, path)
    config = _object(parse(text(top["model_config"]), Where(file=str(path), attribute="model_config")), path, "model_config")
    extra = _extra(text(top["niudao"])) if "niudao" in top else {}
    if weights is not None:
        if not _head(weights).startswith(_MAGIC):
            raise ReadError(f"{weights.name} is no HDF5 file of weights.", where=weights)
        contents = survey(Region(weights), _ATTRIBUTES)
    root, by_class = _layout(contents)
    if weights is None and not by_class and not root and "layer_names" not in top:
        raise ReadError(f"{path.name} holds a topology without weights.", where=path, expected="a group model_weights")
    return Container(path, config, _says(top, contents, "keras_version"), _says(top, contents, "backend"), contents, root, by_class, extra)


def _layout(contents: Contents) -> tuple[str, bool]:
    """Under which group the layers lie, and whether they are addressed by class."""
    if "layer_names" not in contents.groups.get("", {}) and "layer_names0" not in contents.groups.get("", {}):
        if "model_weights" in contents.groups:
            return "model_weights", False
        if any(r in contents.groups for r in ARCHIVE_ROOTS):
            return "", True
    return "", False


def _says(top: Mapping[str, Any], contents: Contents, key: str) -> str:
    value = next((g[key] for g in (top, contents.groups.get("model_weights", {}), contents.groups.get("", {})) if key in g), "")
    return text(value)[:40]


# JSON with weights beside it


def _json(path: Path, weights: Path | None) -> Container:
    with files.open_model(path) as f:
        data = f.read(MAX_TEXT + 1)
    config = _object(parse(data, Where(file=str(path))), path, "the file")
    stem = _stem(path)
    partner = weights or _beside(path, (f"{stem}.h5", f"{stem}.weights.h5", f"{stem}_weights.h5", f"{stem}.hdf5", "weights.h5", "model.weights.h5"))
    if partner is None:
        raise ReadError(f"{path.name} is a topology without weights.", where=path, expected=f"{stem}.h5 or weights.h5 beside it", next="name the weights with --weights")
    if not _head(partner).startswith(_MAGIC):
        raise ReadError(f"{partner.name} is no HDF5 file of weights.", where=partner)
    contents = survey(Region(partner), _ATTRIBUTES)
    root, by_class = _layout(contents)
    top = {k: v for k in ("keras_version", "backend") if isinstance(v := config.get(k), str)}
    own = config.get("niudao")
    extra = own if isinstance(own, dict) else _extra(text(contents.groups[""]["niudao"])) if "niudao" in contents.groups.get("", {}) else {}
    return Container(path, config, _says(top, contents, "keras_version"), _says(top, contents, "backend"), contents, root, by_class, extra)


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix).removesuffix(".weights")


def _beside(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((p for n in names if (p := path.with_name(n)) != path and p.is_file()), None)


# archives


def _archive(path: Path) -> Container:
    try:
        with files.open_model(path) as raw, zipfile.ZipFile(raw) as archive:
            members = _members(path, archive)
            for name, what in (("config.json", "topology (config.json)"), ("model.weights.h5", "weights (model.weights.h5)")):
                if name not in members:
                    raise ReadError(f"{path.name} holds no {what}, so it is no Keras archive.", where=path, got=_listed(members))
            config = _object(parse(_unpack(path, archive, members["config.json"]), Where(file=f"{path}:config.json")), path, "config.json")
            metadata = _extra(_unpack(path, archive, members["metadata.json"])) if "metadata.json" in members else {}
            extra = _extra(_unpack(path, archive, members["niudao.json"])) if "niudao.json" in members else {}
            region = _region(path, archive, raw, members["model.weights.h5"])
    except NiudaoError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, KeyError, IndexError, EOFError, RuntimeError, MemoryError) as e:
        raise ReadError(f"{path.name} is a damaged zip archive: {(str(e) or type(e).__name__)[:120]!s}.".replace("\n", " "), where=path) from e
    version = metadata.get("keras_version")
    return Container(path, config, version[:40] if isinstance(version, str) else "", "", survey(region, _ATTRIBUTES), "", True, extra)


def _listed(members: Mapping[str, Any]) -> str:
    return ", ".join(sorted(members)[:4]) or "an empty archive"


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name, once none of them plays a trick that Keras never plays."""
    if len(archive.infolist()) > MAX_MEMBERS:
        raise LimitError(f"{path.name} holds {len(archive.infolist()):,} members.", where=path, expected=f"at most {MAX_MEMBERS:,}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        where = Where(file=str(path), node=info.filename[:80])
        if info.filename in members:
            raise ReadError("the archive holds a member twice.", where=where)
        if info.filename.startswith(("/", "\\")) or ".." in info.filename.replace("\\", "/").split("/"):
            raise ReadError("a member of the archive has a name outside of it.", where=where)
        if info.flag_bits & 1:
            raise ReadError("the archive is encrypted.", where=where)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ReadError("a member of the archive is packed in a way that is not read.", where=where, got=f"method {info.compress_type}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ReadError("a member of the archive is a link.", where=where)
        members[info.filename] = info
    return members


def _unpack(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int = MAX_TEXT) -> bytes:
    """One member's bytes; its real size is counted, whatever it declares."""
    where = Where(file=f"{path}:{info.filename}")
    if info.file_size > limit:
        raise LimitError("a member of the archive is too large.", where=where, expected=f"at most {limit:,} bytes", got=f"{info.file_size:,}")
    with archive.open(info) as f:
        data = f.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ReadError("a member of the archive has another size than it declares.", where=where)
    return data


def _region(path: Path, archive: zipfile.ZipFile, raw: IO[bytes], info: zipfile.ZipInfo) -> Region:
    """Where the weights lie: in the archive itself if they are stored, else unpacked into memory."""
    where = Where(file=f"{path}:{info.filename}")
    if info.compress_type == zipfile.ZIP_DEFLATED:
        if info.file_size > 1100 * max(1, info.compress_size):
            raise ReadError("the packed weights declare more than their bytes can hold.", where=where)
        return Region(path, data=_unpack(path, archive, info, files.MAX_MEMORY), member=info.filename)
    if info.compress_size != info.file_size or info.file_size > path.stat().st_size:
        raise ReadError("the weights have another size than the archive declares.", where=where)
    count = 0
    with archive.open(info) as f:  # compares both headers and, at the end, the checksum; nothing is kept
        while block := f.read(1 << 20):
            count += len(block)
    if count != info.file_size:
        raise ReadError("the weights have another size than the archive declares.", where=where)
    raw.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", raw.read(4))
    return Region(path, info.header_offset + 30 + name + extra, info.file_size, member=info.filename)


# texts


def parse(data: str | bytes, where: Where) -> Any:
    """JSON that is neither too long nor too deep.

    Raises:
        ReadError: It is no JSON.
        LimitError: It is too long or nests too deeply.
    """
    if len(data) > MAX_TEXT:
        raise LimitError("the configuration is too long.", where=where, expected=f"at most {MAX_TEXT:,} bytes")
    try:
        tree = json.loads(data)
    except RecursionError as e:
        raise LimitError("the configuration nests too deeply.", where=where, expected=f"at most {MAX_DEPTH} levels") from e
    except ValueError as e:
        raise ReadError(f"the configuration is no JSON: {str(e)[:100]}.", where=where) from e
    level, depth = [tree], 0
    while level := [v for x in level for v in (x.values() if isinstance(x, dict) else x if isinstance(x, list) else ())]:
        depth += 1
        if depth > MAX_DEPTH:
            raise LimitError("the configuration nests too deeply.", where=where, expected=f"at most {MAX_DEPTH} levels")
    return tree


def _object(tree: Any, path: Path, what: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ReadError(f"{what} is no description of a Keras network.", where=path, expected="a JSON object", got=type(tree).__name__)
    return tree


def _extra(data: str | bytes) -> dict[str, Any]:
    """A JSON object that the network can do without; anything else counts as absent."""
    try:
        tree = parse(data, Where())
    except ReadError:
        return {}
    return tree if isinstance(tree, dict) else {}


def tensors(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of every array in an HDF5 file, for one that holds weights without a topology.

    Raises:
        ReadError: It is no HDF5 file, or a hostile one.
    """
    if not _head(path).startswith(_MAGIC):
        raise ReadError(f"{path.name} is no HDF5 file.", where=path)
    return [(d.path, d.shape, str(d.dtype)) for d in survey(Region(path), _ATTRIBUTES).datasets.values()]
