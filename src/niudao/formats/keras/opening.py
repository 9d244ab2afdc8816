"""The three containers of a Keras network: one HDF5 file, JSON beside HDF5 weights, and the .keras archive.

References: `keras.src.legacy.saving.legacy_h5_format` and `keras.src.saving.saving_lib` of Keras 3.15.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import documents, files
from niudao.formats.hdf5.survey import Contents, Region, names, survey, text

MAX_JSON = 32 << 20
"""Bytes of a configuration."""
_UNPACKED, _RATIO = 64 << 20, 20
"""Weights of floats hardly shrink when packed; small ones may, for they may be zeros."""
_ATTRIBUTES = frozenset(("model_config", "keras_version", "backend", "layer_names", "weight_names", "niudao", "name"))
_MAGIC = b"\x89HDF\r\n\x1a\n"
ARCHIVE_ROOTS = ("layers", "_layer_checkpoint_dependencies")
"""Groups under which the weights of an archive lie: Keras 3, and tf.keras 2.12 and later."""


@dataclass(frozen=True)
class Container:
    """A network's parts, nothing interpreted yet.

    Attributes:
        path: The file the user named.
        config: The configuration of the model.
        version: The Keras that wrote it, or "".
        backend: What that Keras ran on, or "".
        contents: The weights file, or None where there is none.
        root: The group that holds the weights.
        by_class: Whether weights are addressed by class and number rather than by layer name.
        extra: What niudao itself wrote beside the network.
    """

    path: Path
    config: Mapping[str, Any]
    version: str
    backend: str
    contents: Contents | None
    root: str = ""
    by_class: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


def open_container(path: Path, weights: Path | None = None) -> Container:
    """Open a Keras network.

    Args:
        path: An HDF5 file, a .keras archive, or a JSON file; of JSON and weights either may be named first.
        weights: The other one.

    Raises:
        ReadError: Broken, hostile, or only half of a network.
    """
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head.startswith(_MAGIC):
        contents = survey(Region(path), _ATTRIBUTES)
        if "model_config" in contents.groups[""]:
            return _full(path, contents)
        return _weights_first(path, contents, weights)
    if weights is not None:
        if not _head(weights).startswith(_MAGIC):
            raise ReadError(f"{weights.name} is no HDF5 file.", where=weights, expected="the weights of the network")
        return _pair(path, path, weights)
    if path.suffix.lower() == ".json" or head.lstrip()[:1] == b"{":
        for name in (f"{path.stem}.h5", f"{path.stem}.weights.h5", f"{path.stem}.hdf5", "weights.h5", "model.weights.h5"):
            if path.with_name(name).is_file():
                return _pair(path, path, path.with_name(name))
        _json(path)  # a broken configuration is the nearer fault
        raise ReadError(
            f"{path.name} is a network without weights.",
            where=path,
            expected=f"{path.stem}.h5 or weights.h5 beside it",
            next="name the weights with --weights FILE",
        )
    raise ReadError(f"{path.name} is no Keras file.", where=path, expected="HDF5, a .keras archive or JSON", got=repr(head[:12]))


def tensors(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of every array in a file of bare weights.

    Raises:
        ReadError: Broken, hostile, or a whole network: what is wrong with that is for its own reader to say.
    """
    path = Path(path)
    if _head(path).startswith(b"PK\x03\x04"):
        raise ReadError(f"{path.name} is an archive, no file of bare weights.", where=path)
    contents = survey(Region(path), _ATTRIBUTES)
    if "model_config" in contents.groups[""]:
        raise ReadError(f"{path.name} is a network, no file of bare weights.", where=path)
    found = contents.datasets.items()
    return [(name, d.shape, str(d.dtype)) for name, d in found if not name.startswith("optimizer")]


def _head(path: Path) -> bytes:
    with files.open_model(path) as f:
        return f.read(64)


def _full(path: Path, contents: Contents) -> Container:
    root = contents.groups[""]
    config = parse(_whole_text(root["model_config"]), Where(file=str(path), attribute="model_config"))
    group = "model_weights" if "model_weights" in contents.groups else ""
    inner = contents.groups[group]
    version, backend = (_text(root, key) or _text(inner, key) for key in ("keras_version", "backend"))
    return Container(path, config, version, backend, contents, group, _by_class(contents, group), _extra(root.get("niudao"), path))


def _whole_text(value: Any) -> bytes | str:
    return value if isinstance(value, bytes) else text(value)


def _by_class(contents: Contents, root: str) -> bool:
    return names(contents.groups[root], "layer_names") is None and any(f"{root}/{a}".strip("/") in contents.groups for a in ARCHIVE_ROOTS)


def _weights_first(path: Path, contents: Contents, other: Path | None) -> Container:
    """Weights were named; the configuration is `other` or lies beside them."""
    stem = path.name.removesuffix(".h5").removesuffix(".hdf5").removesuffix(".weights")
    found = [path.with_name(n) for n in (f"{stem}.json", "model.json") if path.with_name(n).is_file()]
    chosen = other or (found[0] if found else None)
    if chosen is None:
        raise ReadError(
            f"{path.name} holds weights only, no network.",
            where=path,
            expected="a whole network (model.save, not save_weights), or its JSON beside it",
            got=f"{len(contents.datasets)} arrays",
            next=f"put the text of model.to_json() into {stem}.json beside it",
        )
    return _pair(path, chosen, path, contents)


def _pair(path: Path, config: Path, weights: Path, contents: Contents | None = None) -> Container:
    document = _json(config)
    contents = contents or survey(Region(weights), _ATTRIBUTES)
    root = contents.groups[""]
    group = "model_weights" if "model_weights" in contents.groups else ""
    inner = contents.groups[group]
    version, backend = document.get("keras_version"), document.get("backend")
    version = version if isinstance(version, str) else _text(root, "keras_version") or _text(inner, "keras_version")
    backend = backend if isinstance(backend, str) else _text(root, "backend") or _text(inner, "backend")
    extra = document.get("niudao")
    extra = extra if isinstance(extra, dict) else _extra(root.get("niudao"), path)
    return Container(path, document, version, backend, contents, group, _by_class(contents, group), extra)


def _json(path: Path) -> Mapping[str, Any]:
    with files.open_model(path) as f:
        data = f.read(MAX_JSON + 1)
    return parse(data, Where(file=str(path)))


def _text(attributes: Mapping[str, Any], key: str) -> str:
    return text(attributes[key])[:40] if key in attributes else ""


def _extra(value: Any, path: Path) -> Mapping[str, Any]:
    return parse(text(value), Where(file=str(path), attribute="niudao")) if value is not None else {}


def parse(data: bytes | str, where: Where) -> Mapping[str, Any]:
    """JSON that must be an object, its size and depth bounded.

    Raises:
        ReadError: It is not.
    """
    held = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return documents.parse(held, where, called="configuration", limit=MAX_JSON)


# the .keras archive


def _archive(path: Path) -> Container:
    try:
        with files.open_model(path) as raw, zipfile.ZipFile(raw) as archive:
            members = _members(path, archive)
            config = parse(_member(path, archive, members, "config.json", MAX_JSON), Where(file=f"{path}:config.json"))
            about, extra = (
                parse(_member(path, archive, members, name, 16 << 20), Where(file=f"{path}:{name}")) if name in members else {}
                for name in ("metadata.json", "niudao.json")
            )
            region = _region(path, raw, archive, members) if "model.weights.h5" in members else None
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError, RuntimeError, OverflowError) as e:
        raise ReadError(f"{path.name} is a damaged zip archive: {str(e)[:120]}.", where=path) from e
    contents = survey(region, _ATTRIBUTES) if region is not None else None
    return Container(path, config, str(about.get("keras_version", "3"))[:40], "", contents, "", True, extra)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name in members:
            raise ReadError(f"the archive holds {name[:80]!r} twice.", where=path)
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise ReadError("the archive names a file outside itself.", where=path, got=repr(name)[:120])
        if info.flag_bits & 1:
            raise ReadError("the archive is encrypted.", where=path)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ReadError("the archive is compressed in a way that Keras does not use.", where=path, got=f"method {info.compress_type}")
        members[name] = info
    return members


def _member(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, limit: int) -> bytes:
    """The bytes of one member, never more than it declares or than the limit."""
    if name not in members:
        held = ", ".join(list(members)[:4])
        raise ReadError(f"{path.name} is an archive without {name}.", where=path, expected="config.json and model.weights.h5", got=held)
    info = members[name]
    if info.file_size > limit:
        raise LimitError(f"{name} in the archive is too long.", where=path, expected=f"at most {limit:,} bytes", got=f"{info.file_size:,}")
    with archive.open(info) as f:
        data = f.read(info.file_size + 1)
    if len(data) != info.file_size:
        reason = f"{name} in the archive has another length than declared."
        raise ReadError(reason, where=path, expected=f"{info.file_size:,}", got=f"{len(data):,}")
    return data


def _region(path: Path, raw: Any, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> Region:
    """Where the weights lie: in the archive itself if they were stored as they are, as Keras does."""
    name = "model.weights.h5"
    info = members[name]
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > max(_UNPACKED, _RATIO * info.compress_size):
            expected = f"at most {_RATIO} times its packed size, or {_UNPACKED:,} bytes"
            raise LimitError(f"{name} in the archive unpacks to more than weights do.", where=path, expected=expected)
        return Region(path, data=_member(path, archive, members, name, files.MAX_MEMORY), member=name)
    if info.file_size != info.compress_size:
        raise ReadError(f"{name} in the archive has another length than declared.", where=path)
    raw.seek(info.header_offset)
    header = raw.read(30)
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    raw.seek(0, 2)
    if len(header) != 30 or header[:4] != b"PK\x03\x04" or start + info.file_size > raw.tell():
        raise ReadError(f"{name} in the archive is cut short.", where=path)
    return Region(path, start, info.file_size, member=name)
