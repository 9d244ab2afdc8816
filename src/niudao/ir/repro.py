"""A comparison that failed, kept so that somebody else can run it: one .npz without pickles."""

from __future__ import annotations

import io
import json
import os
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from niudao.errors import ReadError
from niudao.whole import whole

Array = np.ndarray[Any, Any]

_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, RecursionError, NotImplementedError)
_KINDS = {"feeds": "feed", "source": "source", "target": "target"}


@dataclass(frozen=True)
class Repro:
    """What a failing comparison was run on, and what came out.

    Attributes:
        feeds: Inputs in our layout, by the source's names.
        source: Outputs of the first network; `target` those of the second, by its own names.
        seed: Seed the inputs were drawn from, None where they were given.
        rtol: Limit relative to the largest magnitude.
        oracle: What ran the two.
        versions: Package -> version.
    """

    feeds: dict[str, Array]
    source: dict[str, Array]
    target: dict[str, Array]
    seed: int | None = None
    rtol: float = 1e-4
    oracle: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """What a figure may depend on."""
    found = {"python": platform.python_version()}
    for package in ("niudao", "numpy", "onnx", "onnx-ir", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def pack(
    feeds: Mapping[str, Array], source: Mapping[str, Array], target: Mapping[str, Array], seed: int | None, rtol: float, oracle: str
) -> bytes:
    """The file's bytes. Arrays are numbered, because names of layers are no names of files; the names stand in `about`."""
    groups = {"feed": feeds, "source": source, "target": target}
    about = {
        "names": {kind: list(group) for kind, group in groups.items()},
        "seed": seed,
        "rtol": rtol,
        "oracle": oracle,
        "versions": versions(),
    }
    arrays = {f"{kind}_{i}": np.asarray(a) for kind, group in groups.items() for i, a in enumerate(group.values())}
    buffer = io.BytesIO()
    np.savez(buffer, about=np.array(json.dumps(about)), **{k: a for k, a in arrays.items() if a.dtype.kind != "O"})  # type: ignore[arg-type]
    return buffer.getvalue()


def load_repro(path: str | os.PathLike[str]) -> Repro:
    """Read what `save_repro` wrote.

    Raises:
        ReadError: The file is missing or is no such archive.
    """
    path = Path(path)
    try:
        _check(path)
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(str(data["about"]))
            groups = {
                group: {str(n): np.asarray(data[f"{kind}_{i}"]) for i, n in enumerate(about["names"][kind])}
                for group, kind in _KINDS.items()
            }
            return Repro(
                **groups,
                seed=None if about["seed"] is None else int(about["seed"]),
                rtol=float(about["rtol"]),
                oracle=str(about["oracle"]),
                versions={str(k): str(v) for k, v in about["versions"].items()},
            )
    except FileNotFoundError as e:
        raise ReadError(f"{path.name} does not exist.", where=path) from e
    except _BROKEN as e:
        raise ReadError(f"{path.name} is no kept comparison.", where=path, expected="an .npz that `niudao compare --save` wrote") from e


def _check(path: Path) -> None:
    """No member may claim more than the file holds: numpy makes room by the header before it reads."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise ValueError(f"{info.filename} claims {info.file_size} bytes")
            with archive.open(info) as member:
                major, _ = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            count = 1
            for n in shape:
                count *= int(n)
            if dtype.hasobject or count * dtype.itemsize > info.file_size:
                raise ValueError(f"{info.filename} claims {count} elements")


def write(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write the bytes whole or not at all.

    Raises:
        WriteError: The folder is missing or may not be written to.
    """
    with whole(path) as draft:
        draft.write_bytes(data)
    return Path(path)
