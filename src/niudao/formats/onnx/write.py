"""Model -> ONNX file, in the oldest opset from 13 on that says the same, a weight at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from niudao.errors import Refusal, UsageError, Where, WriteError
from niudao.formats import WriteReport, files
from niudao.ir import OPSET, wire
from niudao.ir.lower import OLDEST, lowered, oldest

ROOM = 32 << 20
"""Bytes left for the graph itself below protobuf's 2 GiB."""


def refusals(model: ir.Model) -> list[Refusal]:
    """Nothing: every model is an ONNX model."""
    return []


def write(
    model: ir.Model,
    path: Path,
    *,
    weights: Path | None = None,
    opset: int | None = None,
    external_data: bool | None = None,
) -> WriteReport:
    """Write an ONNX file.

    Args:
        model: The model; left as it is.
        path: Target.
        weights: Name of the data file beside it, where there is one; `<name>.onnx.data` if left out.
        opset: The opset to write, 13 to the newest; the oldest that says the same if left out.
        external_data: Weights in a file of their own; only where protobuf's 2 GiB demand it if left out.

    Raises:
        Unsupported: Nodes that the wanted opset cannot express, all of them.
        UsageError: An opset that is not written.
        WriteError: The target cannot be written; what was there is untouched.
    """
    path = Path(path)
    if opset is not None and not OLDEST <= opset <= OPSET:
        raise UsageError("this opset is not written.", expected=f"{OLDEST} to {OPSET}", got=str(opset))
    target = oldest(model) if opset is None else opset
    copy = lowered(model, target, Where(file=str(path)))
    _own_small_tensors(copy)
    large = wire.size(copy) > (1 << 31) - ROOM
    if external_data is False and large:
        raise WriteError("the weights do not fit one file.", where=path, expected="less than 2 GiB", next="leave external_data out")
    data = weights if weights is not None else path.with_name(path.name + ".data")
    if data.parent != path.parent or data.name == path.name:
        raise UsageError("the data file of an ONNX model lies beside it.", expected=f"a name in {path.parent}", got=str(data))
    written = [str(path)]
    with files.whole(path) as draft:
        if large or external_data or weights is not None:
            with open(draft.with_name(data.name), "wb") as f:
                proto = wire.skeleton(copy, f, data.name)
            draft.write_bytes(proto.SerializeToString())
            written.append(str(data))
        else:
            with open(draft, "wb") as f:
                wire.stream(copy, f)
    note = f"opset {target}"
    return WriteReport(files=tuple(written), notes=(note,), rewrites=())


def _own_small_tensors(model: ir.Model) -> None:
    """Small tensors that lie in some file are taken along; big ones are streamed from there."""
    big = {id(v) for v in wire.big_weights(model)}
    roots = [model.graph, *(f.graph for f in model.functions.values())]
    for graph in [*roots, *(g for r in roots for g in r.subgraphs())]:
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and id(value) not in big:
                value.const_value = _in_memory(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref() and isinstance(attribute.value, ir.ExternalTensor):
                    node.attributes[name] = ir.AttrTensor(name, _in_memory(attribute.value))


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name)
