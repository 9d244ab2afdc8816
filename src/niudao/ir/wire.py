"""Models on the wire, without a second copy of their weights.

`onnx_ir.save` builds a protobuf message that holds every weight, then the bytes of that message: three times the network.
Here big weights are cut out first: `skeleton` gives the message without them, and `stream` writes an ONNX file weight by
weight (protobuf allows a repeated field to be split, so initializers may follow the rest of the graph).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnx_ir as ir

BIG = 1 << 16
"""Weights of at least this many bytes are written and mapped one by one."""

_GRAPH_FIELD, _INITIALIZER_FIELD, _RAW_DATA_FIELD = 7, 5, 9


def big_weights(model: ir.Model) -> list[ir.Value]:
    """The initializers of the main graph that are worth cutting out."""
    return [
        v
        for v in model.graph.initializers.values()
        if v.const_value is not None and v.const_value.dtype != ir.DataType.STRING and v.const_value.nbytes >= BIG
    ]


@contextmanager
def _without(model: ir.Model, values: list[ir.Value]) -> Iterator[None]:
    """The same model, its initializers gone for a moment."""
    saved = list(model.graph.initializers.items())
    cut = {v.name for v in values}
    try:
        for name, _ in saved:
            if name in cut:
                del model.graph.initializers[name]
        yield
    finally:
        model.graph.initializers.clear()
        model.graph.initializers.update(saved)


def raw_bytes(tensor: ir.TensorProtocol) -> memoryview:
    """A tensor's little-endian bytes, mapped from its file where it lies in one."""
    array = tensor.numpy()
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if tensor.dtype.bitwidth < 8 or not array.flags.c_contiguous:
        return memoryview(tensor.tobytes())
    return memoryview(array.reshape(-1).view(np.uint8).data)


def skeleton(model: ir.Model, data: IO[bytes], location: str) -> onnx.ModelProto:
    """The model as a message whose big weights were written to `data`, known there as `location`."""
    values = big_weights(model)
    with _without(model, values):
        proto = ir.to_proto(model)
    for value in values:
        tensor = value.const_value
        assert tensor is not None
        data.write(b"\0" * (-data.tell() % 4096))
        offset = data.tell()
        data.write(raw_bytes(tensor))
        entry = proto.graph.initializer.add(name=value.name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
        point_to(entry, location, offset, tensor.nbytes)
    return proto


def mapped_skeleton(model: ir.Model) -> tuple[onnx.ModelProto, Path] | None:
    """As `skeleton`, but pointing at the files the weights already lie in; None unless one folder holds them all."""
    values = big_weights(model)
    folders = {Path(v.const_value.path).parent if isinstance(v.const_value, ir.ExternalTensor) else None for v in values}
    if len(folders) != 1 or None in folders:
        return None
    folder = folders.pop()
    assert folder is not None
    with _without(model, values):
        proto = ir.to_proto(model)
    for value in values:
        tensor = value.const_value
        assert isinstance(tensor, ir.ExternalTensor)
        entry = proto.graph.initializer.add(name=value.name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
        point_to(entry, Path(tensor.path).name, tensor.offset or 0, tensor.nbytes)
    return proto, folder.resolve()


def point_to(entry: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Say in a tensor's message that its bytes lie elsewhere."""
    entry.data_location = onnx.TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry.external_data.add(key=key, value=text)


def varint(n: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number: int, length: int) -> bytes:
    """The bytes before a length-delimited field."""
    return varint(number << 3 | 2) + varint(length)


def size(model: ir.Model) -> int:
    """Bytes of the weights, the part of a file that counts."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def stream(model: ir.Model, file: IO[bytes]) -> None:
    """Write one ONNX file, a weight at a time. The model must be smaller than protobuf's 2 GiB."""
    values = big_weights(model)
    with _without(model, values):
        proto = ir.to_proto(model)
    heads: list[tuple[bytes, ir.TensorProtocol]] = []
    for value in values:
        tensor = value.const_value
        assert tensor is not None
        head = onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy())).SerializeToString()
        heads.append((head + _field(_RAW_DATA_FIELD, tensor.nbytes), tensor))
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    total = len(graph) + sum(
        len(_field(_INITIALIZER_FIELD, len(head) + tensor.nbytes)) + len(head) + tensor.nbytes for head, tensor in heads
    )
    file.write(proto.SerializeToString())
    file.write(_field(_GRAPH_FIELD, total))
    file.write(graph)
    for head, tensor in heads:
        file.write(_field(_INITIALIZER_FIELD, len(head) + tensor.nbytes))
        file.write(head)
        file.write(raw_bytes(tensor))
