"""Which file is which: prototxt, caffemodel (binary or HDF5), mean file and class names, found beside each other.

net.prototxt  + net.caffemodel | net.caffemodel.h5 | the only one in the folder
net.caffemodel + net.prototxt | deploy.prototxt | the only one in the folder, else the topology inside it
mean file:   what transform_param names, net.binaryproto, net_mean.binaryproto, mean.binaryproto
class names: net.labels.txt, synset_words.txt, labels.txt
"""

from __future__ import annotations

import mmap
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from niudao.errors import InvalidModel, ReadError, Where
from niudao.formats import files, sidecar
from niudao.formats.caffe import compressed, hdf5, sniff
from niudao.formats.caffe.net import Blob, Net, blob_of
from niudao.formats.caffe.schema import schema
from niudao.formats.caffe.upgrade import layer_messages, network
from niudao.formats.protobuf import binary, text
from niudao.formats.protobuf.message import Limits, Message

MAX_TEXT = 32 << 20
"""Bytes of a prototxt; the largest that people write has a few hundred thousand."""

MAX_MEAN = 1 << 23
"""Numbers of a mean file; a picture of 256 x 256 has 196,608."""

MAX_LABELS = 1 << 22
"""Bytes of a list of class names; that of ImageNet's 21,841 has a million."""

LIMITS = Limits(messages=300_000, bytes=4 * MAX_TEXT)
"""A network of 10,000 layers has a tenth of that. Blobs stay in the file and cost nothing."""

SPANS = {"BlobProto": {"data", "double_data", "diff", "double_diff", "raw_data"}}
"""Arrays that are looked at only when somebody asks for them."""


@dataclass(frozen=True)
class Opened:
    """A network with everything that lies beside it.

    Attributes:
        net: The network.
        weights: Path of the weights file, None without one.
        mean: The mean of every channel, in the order of the channels.
        classes: Class names.
    """

    net: Net
    weights: Path | None
    mean: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()


def open_net(path: Path, weights: Path | None = None) -> Opened:
    """Open a Caffe network by either of its files.

    Raises:
        ReadError: A file is broken, hostile, or is not what its place says.
    """
    structure, stored = _roles(path, weights)
    notes = []
    if structure is not None:
        net = network(read_prototxt(structure), str(structure))
    else:
        assert stored is not None
        if sniff.is_hdf5(stored) or (stored.suffix == ".net" and not sniff.is_binary(stored)):
            raise ReadError(f"{stored.name} holds weights and no network.", where=stored, next="name the .prototxt first, then the weights")
        net = network(_layered(stored), str(stored))
    if stored is not None:
        net.blobs = _blobs(stored, net)
    else:
        notes.append("no weights were found: random ones of a fixed seed stand in. Name the .caffemodel as the second file.")
    net.notes = notes + net.notes
    beside = structure or path
    if _is_file(sidecar.path_for(beside)):  # ours, which says more than these files can
        return Opened(net, stored)
    return Opened(net, stored, _mean(net, beside), _classes(net, beside))


def _roles(path: Path, other: Path | None) -> tuple[Path | None, Path | None]:
    """(prototxt, weights), whichever of them was named."""
    if other is not None:
        first, second = sniff.is_text(path), sniff.is_text(other)
        if first and second:
            raise ReadError(f"{path.name} and {other.name} are both prototxt files.", where=other, expected="a .caffemodel")
        if second:
            return other, path
        if first:
            return path, other
        raise ReadError(f"neither {path.name} nor {other.name} is a prototxt.", where=path, expected="a .prototxt and a .caffemodel")
    if sniff.is_text(path):
        return path, _partner(path, (".caffemodel", ".caffemodel.h5"))
    stem = path.with_name(path.name.removesuffix(".h5"))
    found = _partner(stem, (".prototxt",), "deploy.prototxt")
    return (found if found is not None and sniff.is_text(found) else None), path


def _partner(path: Path, endings: tuple[str, ...], usual: str = "") -> Path | None:
    """The other file of the pair: of the same name, else of the usual name, else the only one of its kind in the folder."""
    for name in (*(path.stem + ending for ending in endings), usual):
        if name and _is_file(path.with_name(name)):
            return path.with_name(name)
    try:
        others = [p for p in path.parent.iterdir() if p.name.endswith(endings) and _is_file(p)]
    except OSError:
        return None
    plain = [p for p in others if p.name.endswith(endings[0])] or others
    return plain[0] if len(plain) == 1 else None


def _is_file(path: Path) -> bool:
    """Whether there is a file; a name that is too long for one has none."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_prototxt(path: Path) -> Message:
    """The NetParameter of a prototxt.

    Raises:
        ReadError: A syntax error, with line and column; or no network.
    """
    with files.open_model(path) as f:
        data = f.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise ReadError(f"{path.name} is too long for a prototxt.", where=path, expected=f"at most {MAX_TEXT >> 20} MB of text")
    net = text.read(data, schema(), "NetParameter", file=str(path), limits=LIMITS, lenient_text=schema().messages)
    if not net.has("layer") and not net.has("layers"):
        solver = any(u.name in ("net", "train_net", "base_lr") for u in net.unknown)
        what = "a solver, no network" if solver else "no network: it has no layer"
        raise ReadError(f"{path.name} is {what}.", where=path, expected="layer { ... }")
    return net


def read_binary(path: Path, kind: str = "NetParameter") -> Message:
    """A message of a binary file; its big arrays stay in the file.

    Raises:
        ReadError: The file is broken, or holds something else.
    """
    with files.open_model(path) as f:
        try:
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError) as e:
            raise ReadError(f"{path.name} is empty or cannot be mapped: {e}.", where=path) from e
    return binary.read(data, schema(), kind, file=str(path), spans=SPANS, limits=LIMITS, lenient_text=schema().messages)


def _layered(path: Path) -> Message:
    net = read_binary(path)
    if not net.has("layer") and not net.has("layers"):
        raise ReadError(f"{path.name} holds no layers.", where=path, expected="a .caffemodel", next="is it a mean file, or an ONNX file?")
    return net


def _blobs(path: Path, net: Net) -> dict[str, tuple[Blob, ...]]:
    """Layer name -> blobs; layers are matched by name alone, as Caffe does it."""
    if sniff.is_hdf5(path):
        return hdf5.blobs(path)
    if path.suffix == ".net" and not sniff.is_binary(path):
        return compressed.blobs(path, net)
    found: dict[str, tuple[Blob, ...]] = {}
    for m in layer_messages(_layered(path))[0]:
        name = str(m.get("name"))
        blobs = m.all("blobs")
        if blobs and name not in found:
            found[name] = tuple(blob_of(b, str(path), name) for b in blobs)
    return found


def _mean(net: Net, beside: Path) -> tuple[float, ...]:
    """The mean of each channel from the mean file; a mean picture is averaged, and that is noted."""
    transform = net.inputs[0].transform if net.inputs else None
    if transform is not None and transform.has("mean_value"):
        return tuple(float(v) for v in transform.all("mean_value"))
    named = Path(str(transform.get("mean_file"))).name if transform is not None and transform.has("mean_file") else ""
    for name in dict.fromkeys((named, f"{beside.stem}.binaryproto", f"{beside.stem}_mean.binaryproto", "mean.binaryproto")):
        path = _own(net, beside, name)
        if path is None:
            continue
        blob = blob_of(read_binary(path, "BlobProto"), str(path), name)
        dims = list(blob.shape)[-3:]
        if len(dims) != 3 or dims[0] not in (1, 3, 4) or not 0 < blob.count <= MAX_MEAN:
            raise ReadError(f"{name} is no mean of a picture.", where=path, expected="channels, height, width", got=str(list(blob.shape)))
        planes = blob.load().reshape(dims[0], -1)
        if float(abs(planes - planes.mean(1, keepdims=True)).max()) > 1e-3:
            net.notes.append(f"the mean picture {name} was averaged: the input card holds one mean per channel.")
        return tuple(round(float(v), 4) for v in planes.astype("f8").mean(1))
    if named:
        net.notes.append(f"the mean file {named!r} was not found; the input card has no mean.")
    return ()


def _own(net: Net, beside: Path, name: str) -> Path | None:
    """The plain file of this name beside another one. A link is left alone: nobody named it, and what it shows would go into the model."""
    try:
        path = beside.with_name(name)
        mode = path.lstat().st_mode
    except (OSError, ValueError):  # none, or no name that a file can have
        return None
    if stat.S_ISLNK(mode):
        net.notes.append(f"{name} is a link and was not read.")
    return path if stat.S_ISREG(mode) else None


def _classes(net: Net, beside: Path) -> tuple[str, ...]:
    """Class names, one a line, without WordNet's number in front."""
    for name in (f"{beside.stem}.labels.txt", "synset_words.txt", "labels.txt"):
        path = _own(net, beside, name)
        if path is None:
            continue
        with files.open_model(path) as f:
            data = f.read(MAX_LABELS + 1)
        if len(data) > MAX_LABELS:
            net.notes.append(f"{name} is too long for a list of class names and was not read.")
            return ()
        lines = data.decode("utf-8", "replace").splitlines()
        return tuple(re.sub(r"^n\d{8}\s+", "", line.strip()) for line in lines if line.strip())
    return ()


def relocate(error: InvalidModel, file: str) -> ReadError:
    """The same error as one about a file."""
    where = Where(file=file, line=error.where.line, node=error.where.node, attribute=error.where.attribute)
    return ReadError(error.message, where=where, expected=error.expected, got=error.got, next=error.next)
