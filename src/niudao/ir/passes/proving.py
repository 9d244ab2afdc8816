"""Put matches in the place of their chains, each only after ONNX Runtime found both equal on a small model of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import NiudaoError
from niudao.ir import IR_VERSION, OPSET
from niudao.ir.build import plain
from niudao.ir.operators import is_weight
from niudao.ir.passes import Result
from niudao.ir.passes.chain import Match, Rules
from niudao.ir.passes.edit import Array, Edit, graphs
from niudao.ir.passes.evaluate import by_runtime
from niudao.ir.passes.remove_dead import remove_dead

TOLERANCE = 1e-5
"""Largest difference, as a part of the largest value, at which a chain and its operator are equal."""

_LONGEST = 64
"""Nodes of the longest chain."""
_MODEST = 1 << 18
"""Elements of the inputs up to which a proof takes the real sizes at once."""
_MOST = 1 << 25
_INLINE = 1 << 14
"""Elements of a weight up to which it is copied into the small model."""
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class Unproven(Exception):
    """Why a match was not put in place, in a few words."""


@dataclass
class Tally:
    """What was raised and what was not, over one or several sweeps.

    Attributes:
        raised: Operator -> how many were put in place.
        worst: Operator -> largest difference that a proof found, as a part of the largest value.
        left: Operator and reason -> outputs of the chains that were left alone.
    """

    raised: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    left: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def result(self) -> Result:
        """One line for each kind."""
        done = [f"raised {n} {op} (proven {_exactness(self.worst[op])})" for op, n in sorted(self.raised.items())]
        left = [f"left {len(names)} {op}: {why}" for (op, why), names in sorted(self.left.items())]
        return Result(bool(self.raised), (*done, *left))


def _exactness(error: float) -> str:
    return f"to {error:.0e}" if error else "exactly"


def apply(model: ir.Model, rules: Rules, tally: Tally) -> bool:
    """Raise whatever the rules find, in place; every single match is proven first.

    Requires: types and shapes on every value.
    Ensures: results differ by rounding only; inner values that somebody else uses keep being computed.

    Returns:
        Whether anything was raised; what, is added to `tally`.
    """
    before = tally.raised.total()
    for graph in graphs(model):
        edit: Edit | None = None
        for node in list(graph):
            if node.domain != "" or node.op_type not in rules or node.graph is not graph:
                continue
            for rule in rules[node.op_type]:
                match = rule(node)
                if match is None:
                    continue
                edit = edit or Edit(graph, model)
                if _one(edit, match, tally):
                    break
    if tally.raised.total() == before:
        return False
    remove_dead(model)
    return True


def _one(edit: Edit, match: Match, tally: Tally) -> bool:
    try:
        error = prove(match)
    except Unproven as e:
        tally.left.setdefault((match.op, str(e)), set()).add(match.output.name or "")
        return False
    try:
        done = put(edit, match)
    except NiudaoError as e:  # ONNX's rule for the operator does not accept what ONNX Runtime does
        tally.left.setdefault((match.op, e.message), set()).add(match.output.name or "")
        return False
    if done:
        tally.raised[match.op] += 1
        tally.worst[match.op] = max(tally.worst.get(match.op, 0.0), error)
    return done


def put(edit: Edit, match: Match) -> bool:
    """Let the operator of a match take over, without a proof.

    Returns:
        False, and nothing done, where the network's outputs do not allow it.
    """
    old = match.output
    last = old.producer()
    if last is None or last.graph is not edit.graph:
        return False
    maker = _Editing(edit, last)
    try:
        new = match.emit(maker)
    except NiudaoError:
        for node in reversed(maker.made):
            edit.drop(node)
        raise
    made = new.producer()
    if made is None or made not in maker.made:
        return False
    new.shape = _joined(old.shape, new.shape)
    if not edit.replace(old, new):
        edit.drop(made)
        return False
    name = last.name
    edit.drop(last)
    if last.graph is None:  # people find the operator where the chain was
        next((n for n in maker.made if n.op_type == match.op), made).name = name
    return True


def _joined(old: ir.Shape | None, new: ir.Shape | None) -> ir.Shape | None:
    """What either knows; free axes keep the names they had."""
    if old is None or new is None or len(old) != len(new):
        return new if old is None else old
    dims: list[int | str | None] = []
    for a, b in zip(old, new, strict=True):
        known = a if isinstance(a, int) else b if isinstance(b, int) else None
        dims.append(known if known is not None else a.value or b.value)  # type: ignore[union-attr]
    return ir.Shape(dims)


class _Editing:
    """Builds in the network, before the node that is replaced."""

    def __init__(self, edit: Edit, last: ir.Node) -> None:
        self._edit, self._last = edit, last
        self.made: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        value = self._edit.node(op_type, list(inputs), before=self._last, like=self._last, **attributes)
        self.made.append(value.producer())  # type: ignore[arg-type]
        return value

    def const(self, value: Any) -> ir.Value:
        return self._edit.const(value)

    def weight(self, value: Array, name: str) -> ir.Value:
        return self._edit.weight(ir.tensor(np.ascontiguousarray(value)), f"{self._last.name or 'raised'}/{name}")


class _Small:
    """Builds in the small model of a proof."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, ir.Value] = {}
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"niudao proof {self._count}"  # no file's value is called so by chance

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        attrs = {k: plain(v) for k, v in attributes.items() if v is not None}
        node = ir.node(op_type, list(inputs), attributes=attrs)
        node.outputs[0].name = self._name()
        self.nodes.append(ir.serde.serialize_node(node))
        self.weights |= {v.name or "": v for v in inputs if v is not None and v.const_value is not None}
        for i in range(len(node.inputs)):  # values of the network must not think that they are used here
            node.replace_input_with(i, None)
        return node.outputs[0]

    def const(self, value: Any) -> ir.Value:
        return self.weight(np.asarray(value, dtype=np.int64), "")

    def weight(self, value: Array, name: str) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(value))
        return ir.Value(name=self._name(), shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)


def prove(match: Match) -> float:
    """Run a chain and the operator that shall take its place on equal inputs.

    The inputs are seeded, of the real shapes; free axes are small numbers, and large images are cut where the chain lets itself be
    cut. Each proof runs twice, on large numbers and on small ones, so that an epsilon counts.

    Returns:
        The largest difference as a part of the largest value.

    Raises:
        Unproven: They differ, or one of them cannot be run.
    """
    chain, ends = _chain(match)
    small = _Small()
    result = match.emit(small)
    weights = {v.name or "": v for n in chain for v in n.inputs if v is not None and is_weight(v)} | small.weights
    nodes = [*(ir.serde.serialize_node(n) for n in chain), *small.nodes]
    wide = not any(n.op_type in ("Cast", "CastLike") for n in chain)
    reason = "its values are too large to be tried"
    for shapes in _shapes(ends, chain):
        try:
            return max(_differ(nodes, weights, ends, shapes, (match.output, result), scale, wide) for scale in (3.0, 1e-2))
        except Unproven as e:  # where sizes were cut, the real ones may do
            reason = str(e)
        except Exception as e:  # onnxruntime's exceptions share no base class; a cut image may not fit the chain
            reason = f"it could not be run ({' '.join(str(e).split())[-160:]})"
    raise Unproven(reason)


def _chain(match: Match) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes between the inputs of a match and its output, in order, and the inputs that are no weights."""
    stop = {id(v) for v in match.inputs if v is not None}
    ends: dict[int, ir.Value] = {}
    order: list[ir.Node] = []
    seen: set[int] = set()
    first = match.output.producer()
    stack: list[tuple[ir.Node, bool]] = [(first, False)] if first is not None else []
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(seen) > _LONGEST:
            raise Unproven("its chain does not begin where the rule says")
        stack.append((node, True))
        for value in node.inputs:
            if value is None or is_weight(value):
                continue
            producer = value.producer()
            if id(value) in stop or producer is None:
                ends[id(value)] = value
            elif id(producer) not in seen:
                stack.append((producer, False))
    return order, list(ends.values())


def _shapes(ends: list[ir.Value], chain: list[ir.Node]) -> Iterable[dict[str, tuple[int, ...]]]:
    """Sizes to try, the modest ones first."""
    names: dict[str, int] = {}
    columns: dict[ir.Value, int] = {}
    for node in chain:  # what a matrix product asks of a free last axis
        rows = node.inputs[1].shape if node.op_type == "MatMul" and node.inputs[1] is not None else None
        if rows is not None and len(rows) == 2 and isinstance(rows[0], int) and node.inputs[0] is not None:
            columns[node.inputs[0]] = rows[0]
    full: dict[str, tuple[int, ...]] = {}
    for value in ends:
        if value.shape is None:
            raise Unproven("the shape of its input is not known")
        sizes = []
        for d in value.shape:
            if isinstance(d, int):
                sizes.append(d)
            else:
                sizes.append(names.setdefault(d.value or f"{value.name} {len(names)}", (2, 3, 5, 7)[len(names) % 4]))
        if value in columns:
            sizes[-1] = columns[value]
        full[value.name or ""] = tuple(sizes)
    if _size(full) > _MODEST:  # the smallest that may do first; weights tie channels, and sizes that are stated tie pixels
        yield {k: _cut(size, (2, 4, 16)) for k, size in full.items()}
        fewer = {k: _cut(size, (2, 4, None)) for k, size in full.items()}
        if _size(fewer) <= _MOST >> 3:
            yield fewer
        yield {k: _cut(size, (2, None, 16)) for k, size in full.items()}
    if _size(full) <= _MOST:
        yield full


def _size(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(prod(s) for s in shapes.values())


def _cut(shape: tuple[int, ...], limits: tuple[int | None, int | None, int | None]) -> tuple[int, ...]:
    """An image with at most so many samples, channels, and rows and columns; what is no image stays."""
    if len(shape) < 4:
        return shape
    bounds = [limits[min(i, 2)] for i in range(len(shape))]
    return tuple(d if b is None else min(d, b) for d, b in zip(shape, bounds, strict=True))


def _array(tensor: ir.TensorProtocol, wide: bool) -> Array:
    held = np.asarray(tensor.numpy())
    return held.astype(np.float32) if wide and tensor.dtype in _HALF else held


def _differ(
    nodes: list[onnx.NodeProto],
    weights: dict[str, ir.Value],
    ends: list[ir.Value],
    shapes: dict[str, tuple[int, ...]],
    outputs: tuple[ir.Value, ir.Value],
    scale: float,
    wide: bool,
) -> float:
    """The difference on inputs of one size and scale; half floats are tried as float32, whose rounding hides nothing."""
    before, after = outputs
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for value in ends:
        narrow = value.dtype is None or (wide and value.dtype in _HALF)
        drawn = rng.standard_normal(shapes[value.name or ""]) * scale
        feeds[value.name or ""] = drawn.astype(np.float32 if narrow or value.dtype is None else value.dtype.numpy())
    initializers = []
    for name, value in weights.items():
        tensor = value.const_value
        if tensor is not None and tensor.size > _INLINE:  # handed over as it lies in its file, never copied into the message
            feeds[name] = _array(tensor, wide)
        elif tensor is not None:
            initializers.append(onnx.numpy_helper.from_array(_array(tensor, wide), name))
    graph = onnx.helper.make_graph(
        nodes,
        "proof",
        [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for k, a in feeds.items()],
        [onnx.ValueInfoProto(name=before.name), onnx.ValueInfoProto(name=after.name)],
        initializer=initializers,
    )
    for entry in graph.output:
        entry.type.tensor_type.elem_type = int(
            before.dtype if before.dtype is not None and not (wide and before.dtype in _HALF) else ir.DataType.FLOAT
        )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    want, got = by_runtime(proto, feeds)
    if want.shape != got.shape:
        raise Unproven(f"its shape is {list(got.shape)}, not {list(want.shape)}")
    finite = np.isfinite(want)
    if want.size == 0 or 2 * np.count_nonzero(finite) < want.size:
        raise Unproven("the chain gives no numbers that could be compared")
    if not np.array_equal(want[~finite], got[~finite], equal_nan=want.dtype.kind == "f"):
        raise Unproven("it differs where there are no numbers")
    a, b = want[finite].astype(np.float64), got[finite].astype(np.float64)
    largest = float(np.abs(a).max(initial=0.0))
    error = float(np.abs(a - b).max(initial=0.0)) / (largest or 1.0)
    if not error <= TOLERANCE:
        raise Unproven(f"it differs by {error:.0e} of the largest value")
    return error
