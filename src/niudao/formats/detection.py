"""Which format a file is: by content; the ending only decides between texts."""

from __future__ import annotations

import os
import zipfile
from importlib import import_module
from pathlib import Path

from niudao.errors import ReadError
from niudao.formats import files


def detect(path: str | os.PathLike[str]) -> str:
    """The format's name.

    Raises:
        ReadError: Nothing we know, said with what it looks like.
    """
    path = Path(path)
    with files.open_model(path) as f:
        head = f.read(4096)
    if not head:
        raise ReadError(f"{path.name} is empty.", where=path, expected="a model file", got="0 bytes")
    ending = path.suffix.lower()
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        caffe = import_module("niudao.formats.caffe.sniff")
        return "caffe" if path.name.endswith(".caffemodel.h5") or caffe.holds_blobs(path) else "keras"
    if import_module("niudao.formats.pytorch.checkpoint.sniff").sniff(path, head):
        return "pytorch"
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head.startswith(b"version https://git-lfs"):
        raise ReadError(f"{path.name} stands for a large file that was not downloaded.", where=path, next="git lfs pull")
    if head.startswith(b"\x1f\x8b"):
        raise ReadError(f"{path.name} is packed with gzip.", where=path, next="unpack it first")
    if ending == ".py" and path.with_suffix(".safetensors").is_file():
        return "pytorch"
    text = head.lstrip()
    if text[:1] == b"{" and ending in (".json", ""):
        return "pytorch" if path.name.endswith(".index.json") else "keras"
    if text[:1] == b"<":
        raise ReadError(
            f"{path.name} is an HTML or XML page, no model; a download may have failed.", where=path, got=repr(text[:40].decode("latin-1"))
        )
    caffe = import_module("niudao.formats.caffe.sniff")
    if ending in (".prototxt", ".caffemodel") or caffe.looks_like_text(head) or (ending != ".onnx" and caffe.looks_like_binary(head)):
        return "caffe"
    if ending == ".onnx" or _looks_like_onnx(head):
        return "onnx"
    from niudao.formats import FORMATS

    known = ", ".join(e for _, f in FORMATS.items() for e in f.extensions[:2])
    raise ReadError(
        f"{path.name} holds no format that niudao reads.",
        where=path,
        expected=f"one of {known}",
        got=f"a file that begins {head[:12]!r}",
        next="niudao formats",
    )


def _zip_format(path: Path) -> str:
    try:
        with files.open_model(path) as f, zipfile.ZipFile(f) as z:
            names = set(z.namelist()[:1000])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise ReadError(f"{path.name} is a damaged zip archive: {e}.", where=path) from e
    if "config.json" in names:
        return "keras"
    raise ReadError(
        f"{path.name} is a zip archive without a Keras or PyTorch model in it.",
        where=path,
        expected="config.json and model.weights.h5, or data.pkl, or models/model.json",
        got=", ".join(sorted(names)[:4]) or "an empty archive",
    )


def _looks_like_onnx(head: bytes) -> bool:
    """A ModelProto begins with its IR version (field 1, a small number)."""
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20
