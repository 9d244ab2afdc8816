"""Types and shapes of every value, by one sweep forward; weights are never serialised."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import InvalidModel
from niudao.ir.build import infer
from niudao.ir.operators import attribute
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import array
from niudao.ir.validate import subgraphs

Elements = list[int | str | None]
"""Content of a small integer tensor: numbers, names of free dimensions, None for what is not known."""

_LIMIT = 256


@PASSES.register("infer_shapes")
def infer_shapes(model: ir.Model) -> Result:
    """Set type and shape of every value from the inputs on, following shapes that the graph itself computes.

    Requires: a sorted graph whose inputs have types.
    Ensures: every value of an operator with a shape rule has a type, and a shape where one can be known; a free batch axis
        stays the symbol it is.

    Raises:
        InvalidModel: An operator does not accept its inputs.
    """
    count = _sweep(model.graph, model, {})
    return Result(count > 0, (f"inferred {count} shapes",) if count else ())


def known_elements(model: ir.Model) -> dict[str, tuple[Elements, tuple[int, ...]]]:
    """Name -> content and shape of the small integer tensors that the main graph computes from shapes and constants."""
    known: dict[str, tuple[Elements, tuple[int, ...]]] = {}
    for node in model.graph:
        _follow(node, known)
    return known


def _sweep(graph: ir.Graph, model: ir.Model, outer: dict[str, tuple[Elements, tuple[int, ...]]]) -> int:
    known = dict(outer)
    count = 0
    for node in graph:
        before = [(v.dtype, v.shape) for v in node.outputs]
        bodies = subgraphs(node)
        if bodies:
            count += _bodies(node, bodies, model, known)
        elif node.domain in ("", "ai.onnx"):
            _infer_one(node, known)
        count += sum(1 for v, (t, s) in zip(node.outputs, before, strict=True) if v.dtype != t or v.shape != s)
        _follow(node, known)
    return count


def _infer_one(node: ir.Node, known: dict[str, tuple[Elements, tuple[int, ...]]]) -> None:
    values = {}
    for v in node.inputs:
        if v is not None and v.const_value is None and v.name in known:
            elements, size = known[v.name]
            if all(isinstance(e, int) for e in elements):
                values[v.name] = np.asarray(elements, dtype=np.int64).reshape(size)
    saved = [(v.type, v.shape) for v in node.outputs]
    declared = [v.shape for v in node.outputs]
    if any(v is not None and v.type is None for v in node.inputs):
        return
    infer(node, values)
    for v, (type_, shape) in zip(node.outputs, saved, strict=True):
        v.type = v.type or type_
        v.shape = v.shape if v.shape is not None else shape
    _from_elements(node, known)
    for v, shape in zip(node.outputs, declared, strict=True):
        _keep_known(v, shape)


def _keep_known(value: ir.Value, declared: ir.Shape | None) -> None:
    """What the file declares fills what the rule leaves open; names of free axes that the rule invents give way."""
    if declared is None or value.shape is None or len(declared) != len(value.shape):
        return
    merged: list[int | str | None] = []
    for new, old in zip(value.shape, declared, strict=True):
        if isinstance(new, int):
            merged.append(new)
        elif isinstance(old, int) or new.value is None:
            merged.append(old if isinstance(old, int) else old.value)
        else:
            merged.append(new.value)
    value.shape = ir.Shape(merged)


def _from_elements(node: ir.Node, known: dict[str, tuple[Elements, tuple[int, ...]]]) -> None:
    """Shapes that ONNX's rule cannot tell because a target shape holds a free dimension."""
    if node.op_type in ("Resize", "Tile"):
        _kept_axes(node)
    if node.op_type not in ("Reshape", "Expand", "ConstantOfShape"):
        return
    source = node.inputs[0 if node.op_type == "ConstantOfShape" else 1]
    held = _get(source, known)
    if held is None:
        return
    elements, _ = held
    out = node.outputs[0]
    data = node.inputs[0].shape if node.inputs[0] is not None else None
    if node.op_type == "Reshape":
        result = reshape_dims(list(data) if data is not None else None, elements, bool(attribute(node, "allowzero", 0)))
        if result is not None and (out.shape is None or not out.shape.is_static()):
            out.shape = ir.Shape(result)
    elif node.op_type == "ConstantOfShape":
        out.shape = ir.Shape(elements)
    elif data is not None and len(data) == len(elements):
        out.shape = ir.Shape([e if d == 1 else d for d, e in zip(_plain(list(data)), elements, strict=True)])


def _kept_axes(node: ir.Node) -> None:
    """An axis that is scaled or repeated by 1 keeps the name of its free dimension, which ONNX's rule forgets."""
    source, out = node.inputs[0], node.outputs[0]
    place = 2 if node.op_type == "Resize" else 1
    scales = array(node.inputs[place], 16) if len(node.inputs) > place else None
    if source is None or source.shape is None or out.shape is None or scales is None or scales.size == 0:
        return
    axes = attribute(node, "axes") or list(range(len(source.shape)))
    factors = dict(zip((a % len(source.shape) for a in axes), scales.tolist(), strict=False))
    dims, old = _plain(list(source.shape)), _plain(list(out.shape))
    out.shape = ir.Shape([d if factors.get(i, 1.0) == 1.0 else o for i, (d, o) in enumerate(zip(dims, old, strict=True))])


def _plain(shape: list[Any]) -> Elements:
    return [d if isinstance(d, int) else d.value if isinstance(d, ir.SymbolicDim) else d for d in shape]


def reshape_dims(data: list[Any] | None, target: Elements, allowzero: bool = False) -> Elements | None:
    """Dimensions after a Reshape whose target may hold names of free dimensions."""
    dims = _plain(data) if data is not None else None
    result: Elements = []
    for i, t in enumerate(target):
        result.append((dims[i] if dims is not None and i < len(dims) else None) if t == 0 and not allowzero else t)
    if -1 not in result:
        return result
    hole = result.index(-1)
    rest = result[:hole] + result[hole + 1 :]
    result[hole] = None
    if dims is None or any(d is None for d in (*dims, *rest)):
        return result
    names_in = sorted(d for d in dims if isinstance(d, str))
    names_out = sorted(d for d in rest if isinstance(d, str))
    top, bottom = 1, 1
    for d in dims:
        top *= d if isinstance(d, int) else 1
    for d in rest:
        bottom *= d if isinstance(d, int) else 1
    for name in names_out:
        if name not in names_in:
            return result
        names_in.remove(name)
    if bottom and top % bottom == 0:
        if not names_in:
            result[hole] = top // bottom
        elif len(names_in) == 1 and top == bottom:
            result[hole] = names_in[0]
    return result


def _bodies(node: ir.Node, bodies: list[ir.Graph], model: ir.Model, known: dict[str, tuple[Elements, tuple[int, ...]]]) -> int:
    """Shapes inside If, Loop and Scan, and of what they give out, as far as all branches and turns agree."""
    count = 0
    if node.op_type == "Loop":
        for inner, outside in zip(bodies[0].inputs[2:], node.inputs[2:], strict=False):
            if outside is not None and inner.type is None:
                inner.type = outside.type
        for inner, dtype in zip(bodies[0].inputs[:2], (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
            inner.type = inner.type or ir.TensorType(dtype)
            inner.shape = inner.shape if inner.shape is not None else ir.Shape(())
    for body in bodies:
        count += _sweep(body, model, known)
    results = [list(body.outputs) for body in bodies]
    if node.op_type == "If":
        for i, out in enumerate(node.outputs):
            ends = [r[i] for r in results if i < len(r)]
            out.type = out.type or next((e.type for e in ends if e.type is not None), None)
            first = ends[0].shape if ends else None
            if out.shape is None and first is not None and all(e.shape is not None and len(e.shape) == len(first) for e in ends):
                columns = zip(*(e.shape for e in ends if e.shape is not None), strict=True)
                out.shape = ir.Shape([c[0] if all(x == c[0] for x in c) else None for c in columns])
    elif node.op_type == "Loop":
        carried = len(node.inputs) - 2
        for i, out in enumerate(node.outputs):
            end = results[0][i + 1] if i + 1 < len(results[0]) else None
            if end is None:
                continue
            out.type = out.type or end.type
            if out.shape is None and end.shape is not None:
                out.shape = ir.Shape(list(end.shape)) if i < carried and _steady(node, bodies[0], i) else None
                if i >= carried:
                    out.shape = ir.Shape([None, *end.shape])
    return count


def _steady(node: ir.Node, body: ir.Graph, i: int) -> bool:
    """Whether the i-th carried value keeps its shape from turn to turn."""
    outside, end = node.inputs[i + 2], body.outputs[i + 1]
    return outside is not None and outside.shape is not None and outside.shape == end.shape


def _get(value: ir.Value | None, known: dict[str, tuple[Elements, tuple[int, ...]]]) -> tuple[Elements, tuple[int, ...]] | None:
    if value is None:
        return None
    if value.name in known:
        return known[value.name]
    held = array(value, _LIMIT)
    if held is None or held.dtype.kind not in "iu":
        return None
    return [int(e) for e in held.reshape(-1)], held.shape


def _follow(node: ir.Node, known: dict[str, tuple[Elements, tuple[int, ...]]]) -> None:
    """Note the content of a small integer tensor that this node computes."""
    if node.domain not in ("", "ai.onnx") or not node.outputs or node.op_type not in _RULES:
        return
    try:
        result = _RULES[node.op_type](node, [_get(v, known) for v in node.inputs])
    except (ValueError, IndexError, TypeError, ZeroDivisionError, InvalidModel):
        return  # what cannot be followed stays unknown; ONNX's own rule complains about wrong graphs
    if result is not None and result.size <= _LIMIT and node.outputs[0].name:
        known[node.outputs[0].name] = (list(result.reshape(-1)), result.shape)


Known = list[tuple[Elements, tuple[int, ...]] | None]


def _objects(item: tuple[Elements, tuple[int, ...]] | None) -> np.ndarray[Any, Any]:
    """The content as an array of objects, so that numpy's indexing rules apply to names too."""
    if item is None:
        raise ValueError("not known")
    elements, shape = item
    out = np.empty(len(elements), dtype=object)
    out[:] = elements
    return out.reshape(shape)


def _shape_of(node: ir.Node, _: Known) -> np.ndarray[Any, Any] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    dims = _plain(list(source.shape))
    stop = attribute(node, "end", None)
    return _objects((dims[attribute(node, "start", 0) : stop], (len(dims[attribute(node, "start", 0) : stop]),)))


def _ints(item: tuple[Elements, tuple[int, ...]] | None) -> list[int]:
    if item is None or not all(isinstance(e, int) for e in item[0]):
        raise ValueError("not known")
    return [int(e) for e in item[0] if e is not None]


def _gather(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    index = np.asarray(_ints(items[1]), dtype=np.int64).reshape(items[1][1])  # type: ignore[index]
    return np.asarray(np.take(_objects(items[0]), index, axis=attribute(node, "axis", 0)), dtype=object)


def _concat(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    parts = [_objects(i) if i is not None else _unknown(v) for i, v in zip(items, node.inputs, strict=True)]
    return np.concatenate(parts, axis=attribute(node, "axis", 0))


def _unknown(value: ir.Value | None) -> np.ndarray[Any, Any]:
    """Unknown elements of a known number."""
    if value is None or value.shape is None or not all(isinstance(d, int) for d in value.shape):
        raise ValueError("not known")
    dims = tuple(value.shape.numpy())
    if prod(dims) > _LIMIT:  # a declared shape, which may be any
        raise ValueError("too many to follow")
    return np.full(dims, None, dtype=object)


def _same(_: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    return _objects(items[0])


def _cast(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    if attribute(node, "to") not in (int(ir.DataType.INT32), int(ir.DataType.INT64)):
        raise ValueError("not an integer any more")
    return _objects(items[0])


def _slice(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    data = _objects(items[0])
    starts, ends = _ints(items[1]), _ints(items[2])
    axes = _ints(items[3]) if len(items) > 3 and node.inputs[3] is not None else list(range(len(starts)))
    steps = _ints(items[4]) if len(items) > 4 and node.inputs[4] is not None else [1] * len(starts)
    if axes != [0] or data.ndim != 1 or steps[0] < 0:
        raise ValueError("not a plain slice")
    return data[starts[0] : ends[0] : steps[0]]


def _shaped(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    out = node.outputs[0].shape
    if out is None or not all(isinstance(d, int) for d in out):
        raise ValueError("not known")
    return _objects(items[0]).reshape(tuple(out.numpy()))


def _arithmetic(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    a, b = np.broadcast_arrays(_objects(items[0]), _objects(items[1]))
    out = np.empty(a.shape, dtype=object)
    for i, (x, y) in enumerate(zip(a.reshape(-1), b.reshape(-1), strict=True)):
        out.reshape(-1)[i] = _combine(node.op_type, x, y)
    return out


def _combine(op: str, x: int | str | None, y: int | str | None) -> int | str | None:
    if isinstance(x, int) and isinstance(y, int):
        if op == "Div":  # integers divide towards zero
            quotient = abs(x) // abs(y)
            return quotient if (x < 0) == (y < 0) else -quotient
        return {"Add": x + y, "Sub": x - y, "Mul": x * y}[op]
    if (op == "Mul" and x == 1) or (op == "Add" and x == 0):
        return y
    return x if y == {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0}[op] else None


def _product(node: ir.Node, items: Known) -> np.ndarray[Any, Any]:
    numbers = _ints(items[0])
    total = 1
    for n in numbers:
        total *= n
    shape = (1,) * (1 if attribute(node, "keepdims", 1) else 0)
    return _objects(([total], shape))


_RULES = {
    "Shape": _shape_of,
    "Gather": _gather,
    "Concat": _concat,
    "Identity": _same,
    "Cast": _cast,
    "Slice": _slice,
    "Squeeze": _shaped,
    "Unsqueeze": _shaped,
    "Reshape": _shaped,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "ReduceProd": _product,
}
