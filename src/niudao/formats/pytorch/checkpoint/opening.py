"""Opens any checkpoint: the container by what it holds, then its state dict. Nothing is unpickled and torch is not imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niudao.errors import ReadError, Where
from niudao.formats import files
from niudao.formats.pytorch.checkpoint import exported, pickle, safetensors, script, state, zipped
from niudao.formats.pytorch.checkpoint.archive import open_archive
from niudao.formats.pytorch.checkpoint.described import Array, Tensor
from niudao.formats.pytorch.checkpoint.legacy import Legacy
from niudao.formats.pytorch.checkpoint.sniff import sniff
from niudao.formats.pytorch.checkpoint.tensors import StoredTensor, check_total


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights.

    Attributes:
        path: The file.
        kind: "zip", "legacy", "safetensors", "torchscript", "torchscript-old" or "pt2".
        tensors: The state dict, in the file's order, unwrapped, prefixes taken off.
        wrapper: The key that was opened ("state_dict", "model_ema"), "" if none.
        prefix: What was taken off the names ("module."), "" if nothing.
        aliases: Name -> name of the tensor that it is the same as (tied weights).
        others: What else the file holds, for people ("epoch: 7").
        classes: Classes of a whole pickled module; described, never imported.
        version: What the file says about its format or its writer, or "".
        metadata: Texts that safetensors keep beside the tensors.
    """

    path: Path
    kind: str
    tensors: Mapping[str, StoredTensor]
    wrapper: str = ""
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    version: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a file of weights.

    Args:
        path: A file of `torch.save` (any container since 0.1.10), safetensors or their index, TorchScript, or .pt2.

    Returns:
        Its tensors, described; none is read before `tensor()` or `array()` of it is called.

    Raises:
        ReadError: The file is broken, mislabelled or hostile.
        LimitError: It would take more memory or time than allowed.
    """
    path = Path(path)
    where = Where(file=str(path))
    with files.open_model(path) as f:
        size = f.seek(0, 2)
        f.seek(0)
        head = f.read(4096)
    if not head:
        raise ReadError(f"{path.name} is empty.", where=where, expected="a file of torch.save or safetensors", got="0 bytes")
    kind = sniff(path, head)
    if kind in ("safetensors", "safetensors-index"):
        held = safetensors.open_safetensors(path) if kind == "safetensors" else safetensors.open_index(path, _part)
        return _plain(path, "safetensors", dict(held.tensors), str(held.metadata.get("format", ""))[:40], held.metadata)
    if kind == "zip":
        archive = open_archive(path)
        version = archive.read("version", 64).decode("latin-1").strip() if "version" in archive else ""
        return _saved(path, "zip", zipped.load(archive), zipped.Binder(archive), size, version)
    if kind == "legacy":
        legacy = Legacy(path)
        return _saved(path, "legacy", legacy.value, legacy, size, "1001")
    if kind == "torchscript":
        archive = open_archive(path)
        version = archive.read("version", 64).decode("latin-1").strip() if "version" in archive else ""
        return _counted(_plain(path, kind, script.state(archive), version), size)
    if kind == "torchscript-old":
        return _counted(_plain(path, kind, script.old_state(open_archive(path)), "1.0 to 1.3"), size)
    if kind == "pt2":
        return _plain(path, kind, exported.weights(open_archive(path)), "")
    raise _unreadable(path, kind, head, where)


def _part(path: Path) -> safetensors.Safetensors:
    """One file of an index: of safetensors, or of `torch.save`; its names as the index has them."""
    with files.open_model(path) as f:
        kind = sniff(path, f.read(4096))
    if kind not in ("zip", "legacy"):
        return safetensors.open_safetensors(path)
    saved = open_checkpoint(path)
    return safetensors.Safetensors({saved.prefix + name: t for name, t in saved.tensors.items()}, {})


def _unreadable(path: Path, kind: str | None, head: bytes, where: Where) -> ReadError:
    if kind == "tar":
        text = f"{path.name} is a tar archive, of torch before 0.1.10 or of something else; those are not read."
        return ReadError(text, where=where, next="load it with an old torch and save it anew, or unpack it first")
    if kind == "pickle":
        with files.open_model(path) as f:
            data = f.read(zipped.MAX_PICKLE)
        pickle.read(data, where, storages={})  # what is wrong with it is the nearer fault
        return ReadError(
            f"{path.name} is a pickle that torch.save did not write.",
            where=where,
            next="load it where it was made and save it with torch.save",
        )
    if head.startswith(b"PK\x03\x04"):
        return ReadError(f"{path.name} is a zip archive without anything of torch in it.", where=where, expected="data.pkl")
    return ReadError(
        f"{path.name} is no checkpoint of torch.",
        where=where,
        expected="a file of torch.save or safetensors",
        got=f"a file that begins {head[:12]!r}",
    )


def _saved(path: Path, kind: str, value: Any, bind: Callable[[Tensor | Array, str], StoredTensor], size: int, version: str) -> Checkpoint:
    found = state.find_state(value, Where(file=str(path)))
    tensors = state.bind_all(found.tensors, bind)
    opened = Checkpoint(
        path,
        kind,
        tensors,
        found.wrapper,
        found.prefix,
        state.aliases(tensors),
        found.others,
        found.classes,
        version,
    )
    return _counted(opened, size)


def _plain(path: Path, kind: str, tensors: dict[str, StoredTensor], version: str, metadata: Mapping[str, str] | None = None) -> Checkpoint:
    return Checkpoint(path, kind, tensors, aliases=state.aliases(tensors), version=version, metadata=metadata or {})


def _counted(checkpoint: Checkpoint, size: int) -> Checkpoint:
    check_total(checkpoint.tensors.values(), size, Where(file=str(checkpoint.path)))
    return checkpoint


def describe(checkpoint: Checkpoint) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of every tensor, in the file's order."""
    return [(name, t.shape, t.dtype) for name, t in checkpoint.tensors.items()]
