"""One folder per format. A format reads a file into a model and writes a model into a file; nothing else crosses its wall.

formats/__init__.py   the table of formats, `read` and `write`
formats/detection.py  which format a file is, by content
formats/files.py      opening strangers' files, writing whole or not at all
formats/convert.py    read, write, read back, run both, compare
formats/<name>/       read.py  write.py  ops.py (the operator table)  native.py (run it in the real framework)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import onnx_ir as ir

from niudao.errors import Refusal, UsageError, Where
from niudao.formats.detection import detect as detect
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
        targets: The endings that the writer takes; empty where it takes them all.
        can_write: Whether there is a writer.
        layout: How the framework's images lie, "NHWC" or "NCHW".
        oracle: Module that runs the real framework, as people import it, or "".
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    package: str
    targets: tuple[str, ...] = ()
    can_write: bool = True
    layout: str = "NCHW"
    oracle: str = ""

    def reader(self) -> Any:
        """The function `read(path, *, weights, shapes) -> onnx_ir.Model`; PyTorch's takes `arch` and `trust` as well."""
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
PYTORCH = _add(
    Format(
        "pytorch",
        "PyTorch",
        (".pt2", ".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt", ".pth.tar"),
        "niudao.formats.pytorch",
        targets=(".pt2", ".safetensors", ".py"),
        oracle="torch",
    )
)


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


def read(
    source: str | os.PathLike[str] | bytes | Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    format: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    arch: str | None = None,
    trust: bool = False,
    example_inputs: Sequence[Any] = (),
) -> ir.Model:
    """Read a network of any known format.

    Args:
        source: A path (of a file, or of a folder with one network in it), the bytes of an ONNX file, an `onnx.ModelProto`, or a live
            `torch.nn.Module`.
        weights: The second file of a format that has two; found beside the first one if left out.
        format: Name of the format; found by content if left out.
        shapes: Input name -> shape, for what the file leaves open.
        arch: What the weights of a PyTorch state dict belong to: a name of the zoo, or `FILE.py:FACTORY`, which needs `trust`.
        trust: The source comes from known hands: the file that `arch` names, or the `.py` beside a `.safetensors`, may be run.
        example_inputs: What a live module is called with, as torch tensors; the first axis becomes the free batch.

    Returns:
        The model, at the pinned opset, channels first, in inference mode, with the source's names kept.

    Raises:
        ReadError: The file is missing, broken, mislabelled or hostile.
        Unsupported: It holds nodes that we cannot read; all are named.
    """
    from niudao.formats import sidecar
    from niudao.ir.validate import validate

    if is_module(source):
        model: ir.Model = import_module(f"{PYTORCH.package}.read").read_module(source, example_inputs)
        validate(model, where=Where(file=type(source).__name__))
        return model
    if not isinstance(source, (str, os.PathLike)):
        name = format or "onnx"
        if name != "onnx":
            raise UsageError(f"a {name} model is read from a path.", got=type(source).__name__)
        model = ONNX.reader()(source, weights=None, shapes=shapes)
        validate(model, where=Where(file="model"))
        return model
    source = in_folder(Path(source))
    name = format or detect(source)
    own = {"arch": arch, "trust": trust} if name == "pytorch" else {}
    if arch and not own:
        raise UsageError(
            f"{source.name} is a {FORMATS[name].title} file, which says itself what network it holds.", next="leave --arch out"
        )
    model = FORMATS[name].reader()(source, weights=Path(weights) if weights is not None else None, shapes=shapes, **own)
    sidecar.apply(model, source)
    validate(model, where=Where(file=str(source)))
    return model


def is_module(source: Any) -> bool:
    """Whether this is a live `torch.nn.Module`; answered without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


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


def target_for(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format to write a path in, which takes its ending.

    Raises:
        UsageError: No format has this ending, or the one that has it is only read.
    """
    entry = format_for(path, format)
    if not entry.can_write:
        raise UsageError(f"{entry.title} files are read, not written.")
    if entry.targets and not Path(path).name.lower().endswith(entry.targets):
        ending = Path(path).suffix or "no ending"
        raise UsageError(
            f"a {entry.title} network is not written as {ending}.", where=Where(file=str(path)), expected=", ".join(entry.targets)
        )
    return entry


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
    entry = target_for(path, format)
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
