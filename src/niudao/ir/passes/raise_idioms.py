"""Recognise what exporters spelt out: chains of small operators that are one operator of ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import isclose, pi, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute, dims, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, array, graphs, sole_user
from niudao.ir.passes.remove_dead import remove_dead


@dataclass(frozen=True)
class Match:
    """A chain that computes one operator.

    Attributes:
        op: The operator.
        inputs: Its inputs.
        last: The last node of the chain, whose output it takes over.
        attributes: Its attributes.
    """

    op: str
    inputs: tuple[ir.Value | None, ...]
    last: ir.Node
    attributes: dict[str, Any]


@PASSES.register("raise_idioms")
def raise_idioms(model: ir.Model) -> Result:
    """Raise MatMul + Add to Gemm, and the spelt-out HardSwish, HardSigmoid, Swish-like, GELU, Softplus, Mish, Relu6, LayerNormalization
    and ReduceMean over all pixels to the operator they are.

    Requires: types and shapes on every value, constants folded.
    Ensures: results differ by rounding only; inner values that somebody else uses keep being computed.
    """
    raised: Counter[str] = Counter()
    for graph in graphs(model):
        edit = Edit(graph, model)
        for node in list(graph):
            if node.graph is not graph or node.domain != "":
                continue
            for rule in _RULES.get(node.op_type, ()):
                found = rule(node)
                if found is not None and _put(edit, node, found):
                    raised[found.op] += 1
                    break
    if raised:
        remove_dead(model)
    changes = tuple(f"raised {n} {op}" for op, n in sorted(raised.items()))
    return Result(bool(changes), changes)


def _put(edit: Edit, node: ir.Node, found: Match) -> bool:
    old = found.last.outputs[0]
    new = edit.node(found.op, list(found.inputs), before=found.last, like=found.last, **found.attributes)
    if old.shape is not None:
        new.shape = ir.Shape(list(old.shape))
    if not edit.replace(old, new):
        edit.drop(new.producer())  # type: ignore[arg-type]
        return False
    edit.drop(found.last)
    return True


def single(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    held = array(value, 1)
    return float(held.reshape(-1)[0]) if held is not None and held.size == 1 and held.dtype.kind in "fiu" else None


def near(value: float | None, want: float) -> bool:
    """Whether a constant is a number, up to the rounding of float32."""
    return value is not None and isclose(value, want, rel_tol=1e-5, abs_tol=1e-7)


def made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def split(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Variable and number of an operator that takes one of each, in either order."""
    for a, b in ((0, 1), (1, 0)):
        number = single(node.inputs[b])
        x = node.inputs[a]
        if number is not None and x is not None and not is_weight(x):
            return x, number
    return None


def _gemm(node: ir.Node) -> Match | None:
    """MatMul of a matrix by a constant matrix, then Add of a constant row."""
    product = next((m for v in node.inputs if (m := made_by(v, "MatMul")) is not None), None)
    if product is None or sole_user(product.outputs[0]) is not node:
        return None
    bias = next((v for v in node.inputs if v is not product.outputs[0]), None)
    x, w = product.inputs
    columns = dims(w)
    row = dims(bias)
    if not is_weight(bias) or not is_weight(w) or columns is None or len(columns) != 2 or len(dims(x) or ()) != 2 or row is None:
        return None
    if (
        bias is None
        or bias.const_value is None
        or bias.const_value.size != columns[1]
        or len(row) > 2
        or node.outputs[0].dtype != ir.DataType.FLOAT
    ):
        return None
    return Match("Gemm", (x, w, bias), node, {})


def _hard_sigmoid_of(value: ir.Value | None) -> tuple[ir.Value, float, float] | None:
    """x, alpha, beta where value = clip(alpha * x + beta, 0, 1) in any of its spellings."""
    node = made_by(value, "HardSigmoid")
    if node is not None and node.inputs[0] is not None:
        return node.inputs[0], float(attribute(node, "alpha")), float(attribute(node, "beta"))
    scale = 1.0
    node = made_by(value, "Div", "Mul")
    if node is not None:
        parts = split(node)
        if parts is None or (node.op_type == "Div" and node.inputs[0] is not parts[0]) or parts[1] == 0:
            return None
        value, scale = parts[0], 1 / parts[1] if node.op_type == "Div" else parts[1]
    clip = made_by(value, "Clip")
    if (
        clip is None
        or len(clip.inputs) < 3
        or not near(single(clip.inputs[1]), 0.0)
        or not near((single(clip.inputs[2]) or 0) * scale, 1.0)
    ):
        return None
    alpha, beta, x = scale, 0.0, clip.inputs[0]
    add = made_by(x, "Add")
    parts = split(add) if add is not None else None
    if parts is not None:
        x, beta = parts[0], parts[1] * scale
    mul = made_by(x, "Mul") if scale == 1.0 else None
    parts = split(mul) if mul is not None else None
    if parts is not None:
        x, alpha = parts[0], parts[1]
    return (x, alpha, beta) if x is not None and beta else None


def _hard_sigmoid(node: ir.Node) -> Match | None:
    found = _hard_sigmoid_of(node.outputs[0]) if node.op_type != "HardSigmoid" else None
    return Match("HardSigmoid", (found[0],), node, {"alpha": found[1], "beta": found[2]}) if found is not None else None


def _hard_swish(node: ir.Node) -> Match | None:
    """x * hard_sigmoid(x, 1/6, 1/2)."""
    for a, b in ((0, 1), (1, 0)):
        found = _hard_sigmoid_of(node.inputs[b])
        if found is not None and found[0] is node.inputs[a] and near(found[1], 1 / 6) and near(found[2], 0.5):
            return Match("HardSwish", (found[0],), node, {})
    return None


def _hard_swish_late(node: ir.Node) -> Match | None:
    """x * clip(x + 3, 0, 6), divided by 6 at the end."""
    parts = split(node)
    if parts is None or not near(1 / parts[1] if node.op_type == "Div" and parts[1] else parts[1], 1 / 6):
        return None
    product = made_by(parts[0], "Mul")
    if product is None or (node.op_type == "Div" and node.inputs[0] is not parts[0]):
        return None
    for a, b in ((0, 1), (1, 0)):
        clip, x = made_by(product.inputs[b], "Clip"), product.inputs[a]
        add = made_by(clip.inputs[0], "Add") if clip is not None and len(clip.inputs) > 2 else None
        inner = split(add) if add is not None else None
        if clip is None or inner is None or inner[0] is not x or not near(inner[1], 3):
            continue
        if near(single(clip.inputs[1]), 0) and near(single(clip.inputs[2]), 6):
            return Match("HardSwish", (x,), node, {})
    return None


def _factors(value: ir.Value | None) -> tuple[list[ir.Value], float]:
    """A product taken apart: the variables and the number in front."""
    stack: list[ir.Value | None] = [value]
    found: list[ir.Value] = []
    number = 1.0
    while stack:
        current = stack.pop()
        node = made_by(current, "Mul", "Div")
        constant = single(current)
        if constant is not None:
            number *= constant
        elif node is not None and node.op_type == "Mul" and len(found) + len(stack) < 6:
            stack += list(node.inputs)
        elif node is not None and node.op_type == "Div" and single(node.inputs[1]):
            number /= single(node.inputs[1]) or 1.0
            stack.append(node.inputs[0])
        elif current is not None:
            found.append(current)
    return found, number


def _gelu(node: ir.Node) -> Match | None:
    """0.5 * x * (1 + erf(x / sqrt 2)), and its tanh form, whatever the order of the factors."""
    factors, number = _factors(node.outputs[0])
    if len(factors) != 2 or not near(number, 0.5):
        return None
    for x, other in (factors, factors[::-1]):
        add = made_by(other, "Add")
        parts = split(add) if add is not None else None
        if parts is None or not near(parts[1], 1.0):
            continue
        curve = made_by(parts[0], "Erf", "Tanh")
        if curve is None:
            continue
        inner, scale = _factors(curve.inputs[0])
        if curve.op_type == "Erf" and inner == [x] and near(scale, 1 / sqrt(2)):
            return Match("Gelu", (x,), node, {})
        if curve.op_type == "Tanh" and len(inner) == 1 and near(scale, sqrt(2 / pi)) and _is_cubic(inner[0], x):
            return Match("Gelu", (x,), node, {"approximate": "tanh"})
    return None


def _is_cubic(value: ir.Value, x: ir.Value) -> bool:
    """x + 0.044715 x^3."""
    add = made_by(value, "Add")
    if add is None or x not in (add.inputs[0], add.inputs[1]):
        return False
    rest = add.inputs[1] if add.inputs[0] is x else add.inputs[0]
    factors, number = _factors(rest)
    if not near(number, 0.044715):
        return False
    if all(f is x for f in factors):
        return len(factors) == 3
    power = made_by(factors[0], "Pow") if len(factors) == 1 else None
    return power is not None and power.inputs[0] is x and near(single(power.inputs[1]), 3.0)


def _softplus(node: ir.Node) -> Match | None:
    """log(1 + exp(x))."""
    add = made_by(node.inputs[0], "Add")
    parts = split(add) if add is not None else None
    exp = made_by(parts[0], "Exp") if parts is not None and near(parts[1], 1.0) else None
    return Match("Softplus", (exp.inputs[0],), node, {}) if exp is not None else None


def _mish(node: ir.Node) -> Match | None:
    """x * tanh(softplus(x))."""
    for a, b in ((0, 1), (1, 0)):
        tanh = made_by(node.inputs[b], "Tanh")
        soft = made_by(tanh.inputs[0], "Softplus") if tanh is not None else None
        if soft is not None and soft.inputs[0] is node.inputs[a]:
            return Match("Mish", (soft.inputs[0],), node, {})
    return None


def _layer_norm(node: ir.Node) -> Match | None:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gamma + beta over the last axes."""
    gamma_node = next((m for v in node.inputs if (m := made_by(v, "Mul")) is not None), None)
    beta = next((v for v in node.inputs if is_weight(v)), None)
    if gamma_node is None or beta is None:
        return None
    gamma = next((v for v in gamma_node.inputs if is_weight(v)), None)
    div = next((d for v in gamma_node.inputs if (d := made_by(v, "Div")) is not None), None)
    if gamma is None or div is None:
        return None
    centred, root = made_by(div.inputs[0], "Sub"), made_by(div.inputs[1], "Sqrt")
    add = made_by(root.inputs[0], "Add") if root is not None else None
    parts = split(add) if add is not None else None
    variance = made_by(parts[0], "ReduceMean") if parts is not None else None
    if centred is None or parts is None or variance is None:
        return None
    square = made_by(variance.inputs[0], "Pow", "Mul")
    mean = made_by(centred.inputs[1], "ReduceMean")
    x = centred.inputs[0]
    if square is None or mean is None or mean.inputs[0] is not x or x is None:
        return None
    squared = made_by(square.inputs[0], "Sub")
    fine = near(single(square.inputs[1]), 2.0) if square.op_type == "Pow" else square.inputs[0] is square.inputs[1]
    if not fine or squared is None or list(squared.inputs) != list(centred.inputs):
        return None
    axis = _tail_axes(mean, x)
    if axis is None or _tail_axes(variance, x) != axis or x.shape is None:
        return None
    tail = list(x.shape)[axis:]
    if any(v is None or v.shape is None or list(v.shape) != tail for v in (gamma, beta)):
        return None
    return Match("LayerNormalization", (x, gamma, beta), node, {"axis": axis - len(x.shape), "epsilon": parts[1]})


def _tail_axes(node: ir.Node, x: ir.Value) -> int | None:
    """The first of the axes that a reduction takes, if it takes all from there on and keeps them."""
    axes = array(node.inputs[1], 16) if len(node.inputs) > 1 else None
    if axes is None or x.shape is None or not attribute(node, "keepdims", 1):
        return None
    rank = len(x.shape)
    found = sorted(int(a) % rank for a in axes)
    return found[0] if found and found == list(range(found[0], rank)) else None


def _global_average(node: ir.Node) -> Match | None:
    """ReduceMean over all pixels of a channels-first image, axes kept."""
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) < 4 or x.dtype != ir.DataType.FLOAT:
        return None
    op = "GlobalAveragePool" if node.op_type == "ReduceMean" else "GlobalMaxPool"
    return Match(op, (x,), node, {}) if _tail_axes(node, x) == 2 else None


def _lrn(node: ir.Node) -> Match | None:
    """x / (bias + alpha/size * windowed sum of squares over channels)^beta, the sum by AveragePool over a channel axis of its own."""
    x = node.inputs[0]
    power = made_by(node.inputs[1], "Pow")
    beta = single(power.inputs[1]) if power is not None else None
    add = made_by(power.inputs[0], "Add") if power is not None else None
    outer = split(add) if add is not None else None
    mul = made_by(outer[0], "Mul") if outer is not None else None
    inner = split(mul) if mul is not None else None
    if x is None or beta is None or outer is None or inner is None:
        return None
    squeeze = made_by(inner[0], "Squeeze", "Reshape")
    pool = made_by(squeeze.inputs[0], "AveragePool") if squeeze is not None else None
    source = pool.inputs[0] if pool is not None else None
    pad = made_by(source, "Pad")
    if pool is None or squeeze is None or dims(squeeze.outputs[0]) != dims(x):
        return None
    kernel = list(attribute(pool, "kernel_shape") or ())
    size = kernel[0] if kernel else 0
    pads = array(pad.inputs[1], 64) if pad is not None else None
    own = list(attribute(pool, "pads") or [0] * (2 * len(kernel)))
    unsqueezed = made_by(pad.inputs[0] if pad is not None else source, "Unsqueeze", "Reshape")
    square = made_by(unsqueezed.inputs[0], "Mul", "Pow") if unsqueezed is not None else None
    if (
        square is None
        or unsqueezed is None
        or size < 1
        or any(k != 1 for k in kernel[1:])
        or any(s != 1 for s in attribute(pool, "strides") or ())
    ):
        return None
    squares = square.inputs[0] is x and (square.inputs[1] is x or (square.op_type == "Pow" and near(single(square.inputs[1]), 2.0)))
    shape, before = dims(unsqueezed.outputs[0]), dims(x)
    if not squares or shape is None or before is None or len(kernel) != 3 or len(shape) != 5 or shape[1] != 1 or shape[2] != before[1]:
        return None
    total = np.zeros(10, dtype=np.int64) if pads is None else np.asarray(pads)
    if len(total) != 10 or attribute(pool, "auto_pad", "NOTSET") != "NOTSET" or (any(own) and not attribute(pool, "count_include_pad", 0)):
        return None
    total = total + np.asarray([0, 0, *own[:3], 0, 0, *own[3:]])
    low, high = int(total[2]), int(total[7])
    if (low, high) != ((size - 1) // 2, size // 2) or total.sum() != low + high:
        return None
    return Match("LRN", (x,), node, {"size": size, "alpha": inner[1], "beta": beta, "bias": outer[1]})


_RULES: dict[str, tuple[Callable[[ir.Node], Match | None], ...]] = {
    "Add": (_gemm, _layer_norm),
    "Clip": (_hard_sigmoid,),
    "Div": (_hard_swish_late, _hard_sigmoid, _lrn),
    "Mul": (_hard_swish, _hard_swish_late, _gelu, _mish, _hard_sigmoid),
    "Log": (_softplus,),
    "ReduceMean": (_global_average,),
    "ReduceMax": (_global_average,),
}


def channel_shuffle(node: ir.Node) -> int | None:
    """The number of groups, if Reshape -> Transpose -> Reshape ending in `node` deals channels out like cards; else None."""
    swap = made_by(node.inputs[0], "Transpose") if node.op_type == "Reshape" and node.domain == "" else None
    first = made_by(swap.inputs[0], "Reshape") if swap is not None else None
    if swap is None or first is None:
        return None
    middle, before, after = dims(first.outputs[0]), dims(first.inputs[0]), dims(node.outputs[0])
    if middle is None or before is None or len(middle) != len(before) + 1 or before != after or middle[3:] != before[2:]:
        return None
    return middle[1] if attribute(swap, "perm") == [0, 2, 1, *range(3, len(middle))] else None
