"""One folder per format. A format reads a file into a model and writes a model into a file; nothing else crosses its wall.

formats/__init__.py   the table of formats, detection by content, `read` and `write`
formats/files.py      opening strangers' files, writing whole or not at all
formats/convert.py    read, write, read back, run both, compare
formats/<name>/       read.py  write.py  ops.py (the operator table)  native.py (run it in the real framework)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import onnx_ir as ir

from niudao.errors import ReadError, Refusal, UsageError, Where
from niudao.formats import files
from niudao.registry import Registry
from niudao.report import Block, Report, Verdict


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: The word users type.
        title: What people call it.
        extensions: File endings, the usual one first.
        package: Package that holds `read.py`, `write.py` and `native.py`.
        sniff: `package.sniff:SNIFF(path, head)` decides by content; head is the first 4 KiB.
        can_write: Whether there is a writer.
        layout: How the framework's images lie, "NHWC" or "NCHW".
        oracle: Module that runs the real framework, as people import it, or "".
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    package: str
    can_write: bool = True
    layout: str = "NCHW"
    oracle: str = ""

    def reader(self) -> Any:
        """The function `read(path, *, weights, shapes) -> onnx_ir.Model`."""
        return import_module(f"{self.package}.read").read

    def writer(self) -> Any:
        """The function `write(model, path, *, options) -> WriteReport`."""
        return import_module(f"{self.package}.write").write

    def checker(self) -> Any:
        """The function `refusals(model) -> list[Refusal]`, which names every node the target cannot express."""
        return import_module(f"{self.package}.write").refusals


FORMATS: Registry[Format] = Registry("format", entry_points="niudao.formats")


def _add(entry: Format) -> Format:
    return FORMATS.register(entry.name)(entry)


ONNX = _add(Format("onnx", "ONNX", (".onnx",), "niudao.formats.onnx", oracle="onnxruntime"))
CAFFE = _add(Format("caffe", "Caffe", (".prototxt", ".caffemodel", ".caffemodel.h5"), "niudao.formats.caffe", oracle="caffe"))
KERAS = _add(Format("keras", "Keras", (".keras", ".h5", ".hdf5", ".json", ".py"), "niudao.formats.keras", layout="NHWC", oracle="keras"))


@dataclass(frozen=True, kw_only=True)
class WriteReport(Report):
    """What was written.

    Attributes:
        files: Paths, the one the user named first.
        rewrites: Exact rewrites that were needed, one sentence each.
    """

    schema: ClassVar[str] = "niudao.write/1"
    files: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = field(default=())

    def blocks(self) -> list[Block]:
        return [Verdict(True, "wrote " + ", ".join(self.files))]


def detect(path: str | os.PathLike[str]) -> str:
    """The format's name, by content; the ending only decides between texts.

    Raises:
        ReadError: Nothing we know, said with what it looks like.
    """
    path = Path(path)
    with files.open_model(path) as f:
        head = f.read(4096)
    if not head:
        raise ReadError(f"{path.name} is empty.", where=path, expected="a model file", got="0 bytes")
    ending = path.suffix.lower()
    caffe = import_module("niudao.formats.caffe.sniff")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "caffe" if path.name.endswith(".caffemodel.h5") or caffe.holds_blobs(path) else "keras"
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    text = head.lstrip()
    if text[:1] == b"{" and ending in (".json", ""):
        return "keras"
    if text[:1] == b"<":
        raise ReadError(
            f"{path.name} is an HTML or XML page, no model; a download may have failed.", where=path, got=repr(text[:40].decode("latin-1"))
        )
    if ending in (".prototxt", ".caffemodel") or caffe.looks_like_text(head) or (ending != ".onnx" and caffe.looks_like_binary(head)):
        return "caffe"
    if ending == ".onnx" or _looks_like_onnx(head):
        return "onnx"
    known = ", ".join(e for f in (ONNX, CAFFE, KERAS) for e in f.extensions[:2])
    raise ReadError(
        f"{path.name} holds no format that niudao reads.",
        where=path,
        expected=f"one of {known}",
        got=f"a file that begins {head[:12]!r}",
        next="niudao formats",
    )


def _zip_format(path: Path) -> str:
    import zipfile

    try:
        with files.open_model(path) as f, zipfile.ZipFile(f) as z:
            names = set(z.namelist()[:1000])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise ReadError(f"{path.name} is a damaged zip archive: {e}.", where=path) from e
    if "config.json" in names:
        return "keras"
    raise ReadError(
        f"{path.name} is a zip archive without a Keras model in it.",
        where=path,
        expected="config.json and model.weights.h5",
        got=", ".join(sorted(names)[:4]) or "an empty archive",
    )


def _looks_like_onnx(head: bytes) -> bool:
    """A ModelProto begins with its IR version (field 1, a small number)."""
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20


def read(
    source: str | os.PathLike[str] | bytes | Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    format: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> ir.Model:
    """Read a network file of any known format.

    Args:
        source: A path (of a file, or of a folder with one network in it), the bytes of an ONNX file, or an `onnx.ModelProto`.
        weights: The second file of a format that has two; found beside the first one if left out.
        format: Name of the format; found by content if left out.
        shapes: Input name -> shape, for what the file leaves open.

    Returns:
        The model, at the pinned opset, channels first, in inference mode, with the source's names kept.

    Raises:
        ReadError: The file is missing, broken, mislabelled or hostile.
        Unsupported: It holds nodes that we cannot read; all are named.
    """
    from niudao.formats import sidecar
    from niudao.ir.validate import validate

    if not isinstance(source, (str, os.PathLike)):
        name = format or "onnx"
        if name != "onnx":
            raise UsageError(f"a {name} model is read from a path.", got=type(source).__name__)
        model: ir.Model = ONNX.reader()(source, weights=None, shapes=shapes)
    else:
        source = in_folder(Path(source))
        name = format or detect(source)
        model = FORMATS[name].reader()(Path(source), weights=Path(weights) if weights is not None else None, shapes=shapes)
        sidecar.apply(model, Path(source))
    validate(model, where=Where(file=str(source)) if isinstance(source, (str, os.PathLike)) else Where(file="model"))
    return model


def in_folder(path: Path) -> Path:
    """The network in a folder; any other path as it is."""
    try:
        folder = path.is_dir()
    except (OSError, ValueError):  # no path that a file can have: opening it will say so
        return path
    if not folder:
        return path
    from niudao.formats.folder import network_in

    return network_in(path)


def format_for(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format to write a path in: `format`, else by the ending.

    Raises:
        UsageError: No format has this ending.
    """
    if format is not None:
        return FORMATS[format]
    name = Path(path).name.lower()
    fitting = [(len(e), entry) for _, entry in FORMATS.items() for e in entry.extensions if name.endswith(e)]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    ending = Path(path).suffix.lower()
    known = ", ".join(e for _, f in FORMATS.items() for e in f.extensions)
    raise UsageError(f"no format has the ending {ending!r}.", where=Where(file=str(path)), expected=known, next="name one with --to")


def write(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    format: str | None = None,
    **options: Any,
) -> WriteReport:
    """Write a model; whole or not at all.

    Args:
        model: The model; left as it is.
        path: Target. The ending decides the format unless `format` does.
        weights: Second file of a format that has two; placed beside the first if left out.
        format: Name of the format.
        **options: What the format's writer takes besides (ONNX: `opset`, `external_data`; Keras: `version`; Caffe: `fork`).

    Raises:
        Unsupported: Nodes that the format cannot express, all of them; nothing was written.
        WriteError: The target cannot be written; what was there is untouched.
    """
    entry = format_for(path, format)
    if not entry.can_write:
        raise UsageError(f"{entry.title} files are read, not written.")
    report: WriteReport = entry.writer()(model, Path(path), weights=Path(weights) if weights is not None else None, **options)
    return report


def refusals(model: ir.Model, format: str) -> list[Refusal]:
    """Every node of the model that a format cannot express, found without writing anything."""
    found: list[Refusal] = FORMATS[format].checker()(model)
    return found


class _Table(ModuleType):
    """This package is also the verb `niudao.formats()`: the room and the question share their name."""

    def __call__(self) -> Any:
        return import_module("niudao.formats.table").table()


sys.modules[__name__].__class__ = _Table
