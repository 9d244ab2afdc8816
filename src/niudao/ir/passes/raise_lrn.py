"""Local response normalisation across channels, spelt out as an average over windows of squares.

    x / (bias + alpha * mean of the squares of `size` neighbouring channels) ^ beta

Only odd sizes: of even ones ONNX's window reaches one channel further up, torch's one further down, and ONNX Runtime knows neither.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute, dims
from niudao.ir.passes.chain import Match, Rules, factors, made_by, one, single, split, square_of
from niudao.ir.passes.edit import array


def _lrn(node: ir.Node) -> Match | None:
    x = node.inputs[0]
    if node.op_type == "Div":
        return _match(node, x, node.inputs[1], 1.0)
    return _match(node, x, node.inputs[1], -1.0) or _match(node, node.inputs[1], x, -1.0)


def _match(node: ir.Node, x: ir.Value | None, divisor: ir.Value | None, sign: float) -> Match | None:
    power = made_by(divisor, "Pow", "Sqrt")
    beta = (0.5 if power.op_type == "Sqrt" else single(power.inputs[1])) if power is not None else 1.0
    inside = power.inputs[0] if power is not None else divisor
    add = made_by(inside, "Add")
    outer = split(add) if add is not None else None
    parts, alpha = factors(outer[0] if outer is not None else inside)
    if x is None or beta is None or len(parts) != 1 or (power is None and sign < 0):
        return None
    if len(dims(x) or ()) != 4:  # ONNX Runtime knows LRN of images only
        return None
    size = _window(parts[0], x)
    if size is None:
        return None
    return one("LRN", (x,), node, size=size, alpha=alpha, beta=beta * sign, bias=outer[1] if outer is not None else 0.0)


def _through_shapes(value: ir.Value | None) -> ir.Value | None:
    """What a value was before it only changed its shape."""
    for _ in range(4):
        node = made_by(value, "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
        if node is None:
            break
        value = node.inputs[0]
    return value


def _window(mean: ir.Value, x: ir.Value) -> int | None:
    """How many neighbouring channels of the squares of x a value is the mean of."""
    pool = made_by(_through_shapes(mean), "AveragePool")
    if pool is None or pool.inputs[0] is None or dims(mean) != dims(x):
        return None
    pad = made_by(pool.inputs[0], "Pad")
    stacked = pad.inputs[0] if pad is not None else pool.inputs[0]
    if square_of(_through_shapes(stacked)) is not x:
        return None
    shape, before = dims(stacked), dims(x)
    kernel = [int(k) for k in attribute(pool, "kernel_shape") or ()]
    rank = len(kernel) + 2
    if shape is None or before is None or len(kernel) < 2 or len(shape) != rank or shape[1] != 1 or shape[2] != before[1]:
        return None
    if any(k != 1 for k in kernel[1:]) or any(s != 1 for s in attribute(pool, "strides") or ()) or attribute(pool, "ceil_mode", 0):
        return None
    if any(d != 1 for d in attribute(pool, "dilations") or ()) or attribute(pool, "auto_pad", "NOTSET") != "NOTSET":
        return None
    pads = _pads(pool, pad, rank)
    wanted = [0] * (2 * rank)
    wanted[2] = wanted[rank + 2] = kernel[0] // 2
    return kernel[0] if kernel[0] % 2 and pads == wanted else None


def _pads(pool: ir.Node, pad: ir.Node | None, rank: int) -> list[int] | None:
    """What is added around the squares, before and after each axis; None where it is no zeros, or does not count."""
    own = [int(p) for p in attribute(pool, "pads") or [0] * (2 * rank - 4)]
    if any(own) and not attribute(pool, "count_include_pad", 0):
        return None
    half = rank - 2
    total = np.asarray([0, 0, *own[:half], 0, 0, *own[half:]], dtype=np.int64)
    if pad is not None:
        given = array(pad.inputs[1], 64)
        fill = single(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else 0.0
        axes = len(pad.inputs) > 3 and pad.inputs[3] is not None
        if given is None or given.size != 2 * rank or fill != 0.0 or attribute(pad, "mode", "constant") != "constant" or axes:
            return None
        total = total + given
    return [int(v) for v in total]


RULES: Rules = {"Div": (_lrn,), "Mul": (_lrn,)}
