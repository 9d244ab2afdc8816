"""Arithmetic of two or more values: Eltwise, Scale, Bias, and Power where the other side is one number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.activation import clip, raised, swish
from niudao.formats.caffe.emit.broadcast import Operand, greatest, operand, product, scaled, total
from niudao.formats.caffe.emit.graph import Array, Net, Top, constant, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import affine, linear, ours


def operands(net: Net, node: ir.Node) -> list[Operand]:
    """The inputs of a node, blobs and arrays."""
    return [operand(net, v) for v in node.inputs if v is not None]


def whole(node: ir.Node, count: int | None = None) -> bool:
    """Whether one of its inputs, or of the first `count`, holds integers."""
    return any(v is not None and v.dtype is not None and v.dtype.is_integer() for v in node.inputs[:count])


@emits("Add", "Sum", "Sub", "Mean")
def _sum(net: Net, node: ir.Node) -> None:
    terms = operands(net, node)
    signs = {"Sub": [1.0, -1.0], "Mean": [1 / len(terms)] * len(terms)}.get(node.op_type, [1.0] * len(terms))
    if node.op_type == "Add" and net.knows("Axpy") and all(isinstance(t, Top) for t in terms):
        for gated, other in (terms, terms[::-1]):
            if isinstance(gated, Top) and isinstance(other, Top) and _gate(gated) and gated.shape == other.shape and ours(net, gated):
                x, a = gated.layer.bottoms
                net.put(node.outputs[0], net.layer("Axpy", [a, x, other], shape=x.shape))
                return
    held = _embed_bias(net, terms) if node.op_type == "Add" else None
    net.put(node.outputs[0], total(net, terms, signs) if held is None else held)


def _embed_bias(net: Net, terms: list[Operand]) -> Top | None:
    """Rows of a table and a bias, where both were one Embed layer."""
    x, bias = terms if isinstance(terms[0], Top) else terms[::-1]
    if not isinstance(x, Top) or isinstance(bias, Top) or x.layer.type != "Embed" or x.layer.node != net.title():
        return None
    if bias.shape != x.shape[-1:] or len(x.layer.weights) != 1:
        return None
    params = {k: v for k, v in x.layer.params["embed_param"].items() if k != "bias_term"}
    weights = [*x.layer.weights, constant(bias)]
    return net.layer("Embed", x.layer.bottoms, {"embed_param": params}, shape=x.shape, weights=weights)


def _gate(x: Top) -> bool:
    """Whether a blob is another one times a factor for each channel."""
    held = x.layer.params.get("scale_param", {})
    return (
        x.layer.type == "Scale" and len(x.layer.bottoms) == 2 and held.get("axis", 1) == 0 and x.layer.bottoms[1].rank == 2 and x.rank == 4
    )


@emits("Mul")
def _product(net: Net, node: ir.Node) -> None:
    x, y = operands(net, node)
    if isinstance(x, Top) and isinstance(y, Top):
        for a, b in ((x, y), (y, x)):
            beta = _swish(net, a, b) if net.knows("Swish") else None
            if beta is not None:
                net.put(node.outputs[0], swish(net, a, beta))
                return
    elif isinstance(x, Top) != isinstance(y, Top):
        top, array = (x, y) if isinstance(x, Top) else (y, x)
        merged = _coefficient(net, top, array) if isinstance(top, Top) and not isinstance(array, Top) else None
        if merged is not None:
            net.put(node.outputs[0], merged)
            return
    net.put(node.outputs[0], product(net, x, y))


def _swish(net: Net, x: Top, gate: Top) -> float | None:
    """beta where gate is sigmoid(beta * x)."""
    if gate.layer.type != "Sigmoid" or not ours(net, gate):
        return None
    inner = gate.layer.bottoms[0]
    if (inner.layer, inner.index) == (x.layer, x.index):
        return 1.0
    source, scale, shift = affine(net, inner)
    return scale if (source.layer, source.index) == (x.layer, x.index) and shift == 0 else None


def _coefficient(net: Net, x: Top, array: Array) -> Top | None:
    """A number that the layer before it can multiply by itself: Reduction's coeff, Exp's shift, Log's base."""
    if array.size != 1 or array.ndim > x.rank or x.layer.node != net.title():
        return None
    number = float(array.reshape(-1)[0])
    layer = x.layer
    if layer.type == "Reduction" and np.isfinite(number):
        held = dict(layer.params.get("reduction_param", {}))
        held["coeff"] = held.get("coeff", 1.0) * number
        return net.layer("Reduction", layer.bottoms, {"reduction_param": held}, shape=x.shape)
    if layer.type == "Exp" and number > 0 and np.isfinite(number):
        held = dict(layer.params.get("exp_param", {}))
        held["shift"] = held.get("shift", 0.0) + float(np.log(number))
        return net.layer("Exp", layer.bottoms, {"exp_param": held}, shape=x.shape, nonnegative=True)
    if layer.type == "Log" and number != 0 and "base" not in layer.params.get("log_param", {}):
        with np.errstate(all="ignore"):
            base = np.float32(np.exp(1 / number))
            back = 1 / np.log(np.float64(base)) if np.isfinite(base) and base > 0 and base != 1 else np.inf
        if abs(back - number) < 2e-7 * abs(number):
            return net.layer("Log", layer.bottoms, {"log_param": {**layer.params.get("log_param", {}), "base": float(base)}}, shape=x.shape)
    return None


@emits("Div")
def _quotient(net: Net, node: ir.Node) -> None:
    if whole(node):
        refuse("it divides whole numbers, and no Caffe layer rounds", rewrite="divide floats")
    x, y = operands(net, node)
    if not isinstance(y, Top):
        if (y == 0).any():
            refuse("its divisor holds zeros")
        if not isinstance(x, Top):
            refuse("all its inputs are constants")
        inverse = 1 / y.astype(np.float64)
        net.put(node.outputs[0], scaled(net, x, inverse.astype(np.float32) if y.size > 1 else inverse))
        return
    if not isinstance(x, Top) and x.size == 1 and x.ndim <= y.rank and 1e-30 < abs(float(x.reshape(-1)[0])) < 1e30:
        number = float(x.reshape(-1)[0])
        source, scale, shift = affine(net, y)
        net.put(node.outputs[0], net.power(source, scale=scale / number, shift=shift / number, power=-1.0))
        return
    if y.layer.type == "Power" and y.layer.params.get("power_param", {}).get("power") == 0.5 and ours(net, y):
        held = {k: v for k, v in y.layer.params["power_param"].items() if k != "power"}
        below = net.power(y.layer.bottoms[0], **held, power=-0.5, suffix="_inverse", nonnegative=True)
    else:
        below = replace(raised(net, y, -1.0, "_inverse"), nonnegative=y.nonnegative)
    net.note("a quotient as a product with the inverse")
    net.put(node.outputs[0], product(net, x, below))


@emits("Pow")
def _power(net: Net, node: ir.Node) -> None:
    base, exponent = operands(net, node)
    if isinstance(exponent, Top):
        if isinstance(base, Top):
            refuse("both its base and its exponent are computed, and a negative base would be lost")
        number = float(base.reshape(-1)[0])
        if not (base == number).all() or not 0 < number < np.inf or base.ndim > exponent.rank or base.size > 1:
            refuse("its base is no single number above zero")
        held = {"base": number} if number not in (1.0, float(np.float32(np.e))) else {}
        y = net.unary("Exp", exponent, {"exp_param": held}, nonnegative=True) if number != 1 else net.power(exponent, power=0.0)
        net.put(node.outputs[0], y)
        return
    number = float(exponent.reshape(-1)[0]) if exponent.size else 1.0
    if not isinstance(base, Top) or exponent.size == 0 or not (exponent == number).all() or not np.isfinite(number):
        refuse("its exponents differ", rewrite="use one exponent for all")
    if whole(node, 1) and (number < 0 or number != int(number)):
        refuse("it takes roots or inverses of whole numbers")
    if number != 1:
        base = replace(raised(net, base, number), nonnegative=base.nonnegative or number % 2 == 0)
    net.put(node.outputs[0], base if exponent.size == 1 else total(net, [base, np.zeros(exponent.shape, np.float32)]))


@emits("Max", "Min")
def _extreme(net: Net, node: ir.Node) -> None:
    values = operands(net, node)
    sign = 1.0 if node.op_type == "Max" else -1.0
    if len(values) == 2 and sum(isinstance(v, Top) for v in values) == 1:
        top, array = values if isinstance(values[0], Top) else values[::-1]
        if isinstance(top, Top) and not isinstance(array, Top) and array.size == 1 and array.ndim <= top.rank:
            bound = float(array.reshape(-1)[0])
            net.put(node.outputs[0], clip(net, top, bound, np.inf) if sign > 0 else clip(net, top, -np.inf, bound))
            return
    if len(values) == 1 and isinstance(values[0], Top):
        net.put(node.outputs[0], values[0])
        return
    values.sort(key=lambda v: not isinstance(v, Top))  # blobs first
    if sign < 0:
        net.note("a minimum as the negated maximum of negated blobs")
        values = [linear(net, v, -1, 0, "_minus") if isinstance(v, Top) else -v for v in values]
    y = values[0]
    for k, other in enumerate(values[1:]):
        last = k == len(values) - 2
        y = greatest(net, y, other, "" if last and sign > 0 else "_max")
    if not isinstance(y, Top):
        refuse("all its inputs are constants")
    net.put(node.outputs[0], y if sign > 0 else net.power(y, scale=-1.0))
