"""Write a model as Caffe: prototxt, caffemodel, and beside them what Caffe's files have no place for.

    net.prototxt       the network, as a person would have written it
    net.caffemodel     the same with its weights (net.caffemodel.h5 where `weights` says so)
    net.card.json      the input card and the class names, read back by niudao
    net.binaryproto    the mean, where the card has one
    net.labels.txt     the class names, one a line

Caffe itself is not needed. What Caffe cannot express is refused by name, everything in one pass, before a file is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx_ir as ir

from niudao.errors import Refusal, Unsupported, UsageError, Where
from niudao.formats import WriteReport, files, sidecar
from niudao.formats.caffe.emit.naming import Named
from niudao.formats.caffe.emit.network import Network, emit
from niudao.formats.caffe.schema import schema
from niudao.formats.protobuf import binary, text
from niudao.formats.protobuf.message import Lazy, Message, message
from niudao.ir import card

FORK_LAYERS = (
    "Permute",
    "Reverse",
    "Swish",
    "Interp",
    "Upsample",
    "ReLU6",
    "ShuffleChannel",
    "DepthwiseConvolution",
    "Axpy",
    "Normalize",
    "Clip",
)
"""Layers beyond BVLC Caffe 1.0 that `fork` may name."""


def write(model: ir.Model, path: Path, *, weights: Path | None = None, fork: str | Sequence[str] = ()) -> WriteReport:
    """Write a model as Caffe's pair of files.

    Args:
        model: The model; left as it is.
        path: Target, a `.prototxt` (or the `.caffemodel`; the other one is called alike).
        weights: Name of the other file, beside the first; one that ends in `.h5` is written as HDF5.
        fork: Types of layers that the target's Caffe has beyond BVLC's 1.0 ("Permute,Interp"), as in `FORK_LAYERS`.

    Raises:
        Unsupported: Nodes that Caffe cannot express, all of them; nothing was written.
        UsageError: An unknown layer of a fork.
        WriteError: The target cannot be written; what was there is untouched.
    """
    path = Path(path)
    structure, stored = _places(path, weights)
    network = emit(model, _fork(fork))
    if network.refusals:
        raise Unsupported("Caffe", network.refusals, where=Where(file=str(path)))
    extras: list[str] = []
    with files.whole(path) as draft:
        (draft.with_name(structure.name)).write_text(prototxt(network), encoding="utf-8")
        if stored.suffix == ".h5":
            _write_h5(network, draft.with_name(stored.name))
        else:
            with open(draft.with_name(stored.name), "wb") as f:
                binary.write(_message(network, blobs=True), f)
        extras += _write_extras(model, draft, structure.stem)
    named = [str(path), str(stored if path == structure else structure), *(str(path.with_name(n)) for n in extras)]
    return WriteReport(files=tuple(named), rewrites=network.rewrites)


def refusals(model: ir.Model) -> list[Refusal]:
    """Every node that BVLC Caffe 1.0 cannot express."""
    return list(emit(model).refusals)


def prototxt(network: Network) -> str:
    """The network as text."""
    return text.write(_message(network, blobs=False))


def _places(path: Path, weights: Path | None) -> tuple[Path, Path]:
    """(prototxt, weights file)"""
    if path.name.endswith((".caffemodel", ".caffemodel.h5")):
        stem = path.name.removesuffix(".h5").removesuffix(".caffemodel")
        structure, stored = path.with_name(f"{stem}.prototxt"), path
        if weights is not None:
            structure = Path(weights)
    else:
        structure, stored = path, Path(weights) if weights is not None else path.with_suffix(".caffemodel")
    if stored.parent.resolve() != structure.parent.resolve() or stored.name == structure.name:
        raise UsageError("the weights lie beside the prototxt.", where=stored, expected=f"another name in {structure.parent}")
    return structure, stored


def _fork(fork: str | Sequence[str]) -> frozenset[str]:
    wanted = [w.strip() for w in fork.split(",") if w.strip()] if isinstance(fork, str) else list(fork)
    known = {n.lower(): n for n in FORK_LAYERS}
    unknown = [w for w in wanted if w.lower() not in known]
    if unknown:
        raise UsageError(f"no layer of a fork is called {unknown[0]!r}.", expected=", ".join(FORK_LAYERS))
    return frozenset(known[w.lower()] for w in wanted)


def _message(network: Network, *, blobs: bool) -> Message:
    layers = [_layer(x, blobs) for x in network.layers]
    return message(schema(), "NetParameter", name=network.name, layer=layers)


def _layer(named: Named, blobs: bool) -> Message:
    layer = named.layer
    m = message(schema(), "LayerParameter", name=named.name, type=layer.type)
    if named.bottoms:
        m.set("bottom", *named.bottoms)
    if named.tops:
        m.set("top", *named.tops)
    if layer.share:
        m.set("param", *(message(schema(), "ParamSpec", name=f"{layer.share}_{i}") for i in range(len(layer.weights))))
    for part, settings in layer.params.items():
        field = schema().messages["LayerParameter"][part]
        if settings and (field.number or not blobs):  # forks disagree about numbers: their fields are said in the prototxt alone
            m.set(part, _filled(field.type, settings))
    if blobs:
        for weight in layer.weights:
            blob = message(schema(), "BlobProto", shape=message(schema(), "BlobShape", dim=list(weight.shape)))
            m.add("blobs", blob.set("data", Lazy(int(np.prod(weight.shape)), "float", weight.load)))
    return m


def _filled(kind: str, settings: dict[str, Any]) -> Message:
    """A message from plain Python: dictionaries are sub-messages, lists are repeated fields."""
    fields = schema().messages[kind]
    values: dict[str, Any] = {}
    for name, value in settings.items():
        inner = fields[name].type
        if isinstance(value, dict):
            value = _filled(inner, value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            value = [_filled(inner, v) for v in value]
        values[name] = value
    return message(schema(), kind, **values)


def _write_h5(network: Network, path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for named in network.layers:
            for i, weight in enumerate(named.layer.weights):
                data.create_dataset(f"{named.name}/{i}", data=weight.load())


def _write_extras(model: ir.Model, draft: Path, stem: str) -> list[str]:
    """The card, the mean and the class names; the names of the files."""
    cards, classes = card.get_cards(model), card.get_classes(model)
    written: list[str] = []
    beside = sidecar.write(model, draft.with_name(f"{stem}.prototxt"))
    written += [beside.name] if beside is not None else []
    first = model.graph.inputs[0] if model.graph.inputs else None
    mean = _mean(cards[first.name], first) if first is not None and first.name in cards else None
    if mean is not None:
        with open(draft.with_name(f"{stem}.binaryproto"), "wb") as f:
            binary.write(mean, f)
        written.append(f"{stem}.binaryproto")
    if classes and not any("\n" in c or "\r" in c for c in classes):
        draft.with_name(f"{stem}.labels.txt").write_text("".join(f"{c}\n" for c in classes), encoding="utf-8")
        written.append(f"{stem}.labels.txt")
    return written


def _mean(facts: card.InputCard, value: ir.Value) -> Message | None:
    """The card's mean as a mean picture of the input's size, in Caffe's order: (pixel - mean) * scale."""
    dims = [d for d in value.shape] if value.shape is not None else []
    sizes = [d for d in dims[1:] if isinstance(d, int)]
    if not facts.mean or not any(facts.mean) or len(dims) != 4 or len(sizes) != 3 or len(facts.mean) not in (1, sizes[0]):
        return None
    scale = facts.scale or 1.0
    planes = np.broadcast_to(np.asarray(facts.mean, np.float32)[:, None, None] / np.float32(scale), sizes)
    shape = {"num": 1, "channels": sizes[0], "height": sizes[1], "width": sizes[2]}
    return message(schema(), "BlobProto", **shape).set("data", Lazy(int(np.prod(sizes)), "float", lambda: np.ascontiguousarray(planes)))
