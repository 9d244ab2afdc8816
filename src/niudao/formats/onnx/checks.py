"""What a message claims against what it holds: tensors against their bytes, names against their definitions, order.

All sums are over Python integers and come before any allocation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import files

_TYPED = {
    "float_data": {TensorProto.FLOAT, TensorProto.COMPLEX64},
    "double_data": {TensorProto.DOUBLE, TensorProto.COMPLEX128},
    "int64_data": {TensorProto.INT64},
    "uint64_data": {TensorProto.UINT64, TensorProto.UINT32},
    "string_data": {TensorProto.STRING},
}
"""Field -> the types stored in it; everything else lies in int32_data."""

MAX_RANK = 64
UNFOLDED, UNFOLDED_BYTES, UNFOLDING = 20_000, 64 << 20, 16
"""Nodes and bytes that functions may always unfold into, and how many times the file's own if it is larger; exporters reach 4."""
MAX_DEPTH = 100
"""Of functions that call functions; exporters of PyTorch reach about 20."""


def field_of(dtype: int) -> str:
    """Name of the typed field that holds a dtype."""
    return next((name for name, types in _TYPED.items() if dtype in types), "int32_data")


@dataclass(frozen=True)
class Place:
    """Where tensors may lie outside the message.

    Attributes:
        folder: The model file's folder, None if the model came without a file.
        itself: What `scan.skeleton` calls the model file.
    """

    folder: Path | None = None
    itself: str = ""


def check_tensor(tensor: TensorProto, where: Where, place: Place) -> None:
    """Dims, type and bytes of one tensor must agree.

    Args:
        tensor: The message.
        where: The file; the tensor's name is added.
        place: Where external data may lie.

    Raises:
        ReadError: They do not.
    """
    where = Where(file=where.file, node=where.node, attribute=f"tensor {tensor.name!r}" if tensor.name else where.attribute)
    dims = list(tensor.dims)
    if any(d < 0 for d in dims) or len(dims) > MAX_RANK:
        raise ReadError("a tensor has an impossible shape.", where=where, got=str(dims[:8]))
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise ReadError("a tensor is of no type that ONNX knows.", where=where, got=f"data type {tensor.data_type}")
    count = math.prod(dims)
    name = field_of(int(dtype))
    if dtype == ir.DataType.STRING:
        _same(len(tensor.string_data), count, "strings", where)
        return
    wanted = (count * dtype.bitwidth + 7) // 8
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, wanted, where, place)
    elif tensor.HasField("raw_data"):
        _same(len(tensor.raw_data), wanted, "bytes", where)
    else:
        held = len(getattr(tensor, name))
        if name in ("float_data", "double_data") and dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            held, odd = divmod(held, 2)
            held = -1 if odd else held
        if dtype.bitwidth < 8:
            count = (count * dtype.bitwidth + 7) // 8
        _same(held, count, "numbers", where)


def _same(held: int, wanted: int, unit: str, where: Where) -> None:
    if held != wanted:
        raise ReadError("a tensor does not hold what its shape says.", where=where, expected=f"{wanted} {unit}", got=f"{held} {unit}")


def _check_external(tensor: TensorProto, wanted: int, where: Where, place: Place) -> None:
    facts = {e.key: e.value for e in tensor.external_data}
    if place.itself and facts.get("location") == place.itself:
        _same(int(facts["length"]), wanted, "bytes", where)
        return
    if place.folder is None:
        raise ReadError(
            "the weights lie in another file, and this model came without a folder.", where=where, next="read the model from its path"
        )
    try:
        offset = int(facts.get("offset") or 0)
        length = int(facts.get("length") or wanted)
    except ValueError as e:
        raise ReadError("a tensor's place in the data file is no number.", where=where, got=str(facts)[:120]) from e
    location = facts.get("location", "")
    if not PurePosixPath(location).parts:
        raise ReadError("the model names a data file outside its folder, or none.", where=where, got=repr(location))
    path = files.beside(place.folder, location)
    size = path.stat().st_size
    if offset < 0 or length < 0 or offset + length > size:
        raise ReadError(f"the data file {path.name} is too short.", where=where, expected=f"{offset + length} bytes", got=f"{size} bytes")
    _same(length, wanted, "bytes", where)


def graphs_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from graphs_of(inner)


def check_tensors(proto: onnx.ModelProto, where: Where, place: Place) -> None:
    """Every tensor of the model; sparse ones are made dense on the way, within the budget.

    Raises:
        ReadError: A tensor does not hold what it says.
        LimitError: A sparse tensor would unfold beyond the budget.
    """
    budget = [files.MAX_MEMORY // 16]
    roots: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    for root in roots:
        for graph in graphs_of(root):
            if isinstance(graph, onnx.GraphProto):
                for tensor in graph.initializer:
                    check_tensor(tensor, where, place)
                for sparse in graph.sparse_initializer:
                    graph.initializer.append(dense(sparse, where, budget))
                del graph.sparse_initializer[:]
            for node in graph.node:
                here = Where(file=where.file, node=node.name or (node.output[0] if node.output else node.op_type))
                for attribute in node.attribute:
                    for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors:
                        check_tensor(tensor, here, place)
                    if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                        attribute.t.CopyFrom(dense(attribute.sparse_tensor, here, budget))
                        attribute.ClearField("sparse_tensor")
                        attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR


def dense(sparse: onnx.SparseTensorProto, where: Where, budget: list[int]) -> TensorProto:
    """The dense twin of a sparse tensor.

    Raises:
        ReadError: Indices or values do not fit the shape.
        LimitError: It would be too large.
    """
    name = sparse.values.name
    where = Where(file=where.file, node=where.node, attribute=f"sparse tensor {name!r}")
    check_tensor(sparse.values, where, Place())
    check_tensor(sparse.indices, where, Place())
    dims = list(sparse.dims)
    if any(d < 0 for d in dims) or len(dims) > MAX_RANK or sparse.values.data_type == TensorProto.STRING:
        raise ReadError("a sparse tensor has an impossible shape or type.", where=where, got=str(dims[:8]))
    values, indices = onnx.numpy_helper.to_array(sparse.values), onnx.numpy_helper.to_array(sparse.indices)
    size = math.prod(dims)
    budget[0] -= size * values.dtype.itemsize
    if budget[0] < 0:
        raise LimitError(
            "the sparse tensors would unfold beyond the memory budget.", where=where, got=str(dims), next="set NIUDAO_MAX_MEMORY"
        )
    if indices.ndim == 2 and indices.shape[1] == len(dims):
        if any(((indices[:, i] < 0) | (indices[:, i] >= d)).any() for i, d in enumerate(dims)):
            raise ReadError("a sparse tensor's indices leave its shape.", where=where)
        indices = np.ravel_multi_index(tuple(indices.T), tuple(dims)) if dims else indices.reshape(-1)
    if values.ndim != 1 or indices.shape != values.shape or (indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size):
        raise ReadError("a sparse tensor's indices do not fit its values.", where=where, got=f"{indices.shape} and {values.shape}")
    out = np.zeros(size, values.dtype)
    out[indices] = values
    return onnx.numpy_helper.from_array(out.reshape(dims), name)


def order(graph: onnx.GraphProto | onnx.FunctionProto, where: Where, outer: frozenset[str] = frozenset()) -> None:
    """Names are defined once and before they are read; nodes of old files that are out of order are sorted.

    Raises:
        ReadError: A name is made twice, or read and never made, or the nodes form a circle.
    """
    if isinstance(graph, onnx.GraphProto):
        known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        if len({v.name for v in graph.input}) != len(graph.input) or len({t.name for t in graph.initializer}) != len(graph.initializer):
            raise ReadError("two inputs or two weights share one name.", where=where)
        outputs = [v.name for v in graph.output]
    else:
        known, outputs = set(graph.input), list(graph.output)
    made = set(known)
    for node in graph.node:
        for name in node.output:
            if name and name in made:
                raise ReadError(f"two things are called {name!r}.", where=Where(file=where.file, node=node.name or node.op_type))
            made.add(name)
    made.discard("")
    reach = frozenset(outer | made)
    needs = [_needs(node, where) - outer for node in graph.node]
    for node, names in zip(graph.node, needs, strict=True):
        missing = sorted(names - made)
        if missing:
            raise ReadError(
                f"a node reads {missing[0]!r}, which nothing makes.", where=Where(file=where.file, node=node.name or node.op_type)
            )
    absent = [n for n in outputs if n not in made and n not in outer]
    if absent:
        raise ReadError(f"the network's output {absent[0]!r} is made by no node.", where=where)
    _sort(graph, known, needs, where)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                order(inner, where, reach)


def _needs(node: onnx.NodeProto, where: Where) -> set[str]:
    """Names a node reads, those its inner graphs take from outside included."""
    names = {n for n in node.input if n}
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            own = {v.name for v in inner.input} | {t.name for t in inner.initializer} | {o for n in inner.node for o in n.output}
            names |= {v.name for v in inner.output if v.name} - own
            for n in inner.node:
                names |= _needs(n, where) - own
    return names


def _sort(graph: onnx.GraphProto | onnx.FunctionProto, known: set[str], needs: list[set[str]], where: Where) -> None:
    """Kahn's algorithm, stable; does nothing to a graph that is in order."""
    done, ordered = set(known), True
    for node, names in zip(graph.node, needs, strict=True):
        ordered = ordered and names <= done
        done.update(node.output)
    if ordered:
        return
    maker = {o: i for i, node in enumerate(graph.node) for o in node.output if o}
    waits = [{maker[n] for n in names if n in maker and n not in known} for names in needs]
    readers: dict[int, list[int]] = {}
    for i, sources in enumerate(waits):
        for s in sources:
            readers.setdefault(s, []).append(i)
    left = [len(w) for w in waits]
    ready = deque(i for i in range(len(left)) if not left[i])
    sequence: list[int] = []
    while ready:
        i = ready.popleft()
        sequence.append(i)
        for r in readers.get(i, ()):
            left[r] -= 1
            if not left[r]:
                ready.append(r)
    if len(sequence) != len(left):
        stuck = next(i for i, n in enumerate(left) if n)
        node = graph.node[stuck]
        raise ReadError("the nodes form a circle.", where=Where(file=where.file, node=node.name or node.op_type))
    nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in sequence]
    del graph.node[:]
    graph.node.extend(nodes)


def check_functions(proto: onnx.ModelProto, where: Where) -> None:
    """Unfolding the model's own functions must end, and end small.

    Raises:
        ReadError: A function calls itself.
        LimitError: The unfolded network would hold too many nodes, or too many bytes, for the file it comes from.
    """
    bodies = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(bodies) != len(proto.functions):
        raise ReadError("two functions of the model share one name.", where=where)
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    depths: dict[tuple[str, str, str], int] = {}
    stack: list[tuple[str, str, str]] = []

    def total(graph: onnx.GraphProto | onnx.FunctionProto) -> tuple[int, int]:
        nodes = weight = 0
        for inner in graphs_of(graph):
            for node in inner.node:
                more, heavier = size((node.domain, node.op_type, node.overload))
                nodes, weight = nodes + more, weight + heavier + sum(a.ByteSize() for a in node.attribute)
        return nodes, weight

    def size(key: tuple[str, str, str]) -> tuple[int, int]:
        """Nodes, and bytes of attributes, that a call unfolds into."""
        if key not in bodies:
            return 1, 0
        if key in stack:
            raise ReadError(f"the function {key[1]!r} calls itself.", where=where)
        if key not in sizes:
            stack.append(key)
            nodes, weight = total(bodies[key]) if len(stack) <= MAX_DEPTH else (0, 0)
            sizes[key] = nodes + 1, weight
            calls = {(n.domain, n.op_type, n.overload) for g in graphs_of(bodies[key]) for n in g.node}
            depths[key] = 1 + max((depths.get(c, 0) for c in calls), default=0)
            stack.pop()
            if depths[key] > MAX_DEPTH or len(stack) >= MAX_DEPTH:
                raise LimitError("functions nest deeper than any network does.", where=where, expected=f"at most {MAX_DEPTH} levels")
        return sizes[key]

    for key in bodies:
        size(key)
    if not bodies:
        return
    held = sum(len(g.node) for root in (proto.graph, *proto.functions) for g in graphs_of(root))
    most, heaviest = max(UNFOLDED, UNFOLDING * held), max(UNFOLDED_BYTES, UNFOLDING * sum(f.ByteSize() for f in proto.functions))
    nodes, weight = total(proto.graph)
    if nodes > most or weight > heaviest:
        expected, got = f"at most {most} nodes and {heaviest} bytes", f"{nodes} nodes and {weight} bytes"
        raise LimitError(
            "the network's functions unfold into more nodes than allowed, or heavier ones.", where=where, expected=expected, got=got
        )
