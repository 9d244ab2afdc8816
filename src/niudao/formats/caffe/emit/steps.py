"""A recurrence written out: one InnerProduct for the inputs of all steps, and for each step the layers of its cell, with shared weights.

LSTM  c' = f c + i g;  h' = o t(c')
GRU   h' = (1 - z) n + z h;  n = g(W x + R (r h) + b), or g(W x + b + r (R h + b')) with linear_before_reset
RNN   h' = f(W x + R h + b)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.activation import clip, elu
from niudao.formats.caffe.emit.broadcast import MOST
from niudao.formats.caffe.emit.graph import Array, Net, Top, Weight, constant, refuse
from niudao.formats.caffe.emit.view import linear, reshaped
from niudao.ir.operators import attribute

_MOST_LAYERS = 600
_LAYERS = {"LSTM": 14, "GRU": 13, "RNN": 4}
"""About how many a step needs."""
_DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_SETTINGS = {
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "elu": (1.0, None),
    "affine": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
}
"""Default alpha and beta of the functions that have them."""
_PLAIN = {"sigmoid": "Sigmoid", "tanh": "TanH", "relu": "ReLU", "softplus": "BNLL"}


@dataclass(frozen=True)
class Function:
    """A function of the cell.

    Attributes:
        name: ONNX's name in small letters.
        alpha: Its first number.
        beta: Its second one.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, net: Net, x: Top, suffix: str) -> Top:
        """Append its layers."""
        if self.name in _PLAIN:
            return net.unary(_PLAIN[self.name], x, suffix=suffix, nonnegative=self.name != "tanh")
        if self.name == "hardsigmoid":
            return clip(net, linear(net, x, self.alpha, self.beta, f"{suffix}_inner"), 0.0, 1.0, suffix)
        if self.name == "leakyrelu":
            return net.relu(x, self.alpha, suffix)
        if self.name == "elu":
            return elu(net, x, self.alpha, suffix)
        if self.name == "affine":
            return net.power(x, scale=self.alpha, shift=self.beta, suffix=suffix)
        inner = net.power(x, scale=self.beta, suffix=f"{suffix}_inner")
        return net.power(net.unary("TanH", inner, suffix=f"{suffix}_tanh"), scale=self.alpha, suffix=suffix)


@dataclass(frozen=True)
class Cell:
    """One direction of a recurrent operator.

    Attributes:
        op: LSTM, GRU or RNN.
        hidden: Size of the state.
        reset_after: GRU's linear_before_reset.
        functions: f, g and h, as many as the operator has.
        w: W of all directions.
        r: R of all directions.
        b: B of all directions, if there is one.
        way: Which direction this is.
    """

    op: str
    hidden: int
    reset_after: bool
    functions: tuple[Function, ...]
    w: ir.Value
    r: ir.Value
    b: ir.Value | None
    way: int


def functions(node: ir.Node, ways: int) -> list[tuple[Function, ...]]:
    """The functions of each direction.

    Raises:
        Refused: One that is not known.
    """
    each = len(_DEFAULT[node.op_type])
    said = node.attributes.get("activations")
    names = [n.lower() for n in (said.as_strings() if said is not None else _DEFAULT[node.op_type] * ways)]
    alphas, betas = list(attribute(node, "activation_alpha") or []), list(attribute(node, "activation_beta") or [])
    found = []
    for name in names:
        if name not in _PLAIN and name not in _SETTINGS:
            refuse(f"its cell uses {name}", "activations")
        alpha, beta = _SETTINGS.get(name, (None, None))
        if alpha is not None and alphas:
            alpha = float(alphas.pop(0))
        if beta is not None and betas:
            beta = float(betas.pop(0))
        found.append(Function(name, alpha or 0.0, beta or 0.0))
    return [tuple(found[k * each : (k + 1) * each]) for k in range(ways)]


def unrolled(net: Net, x: Top, cell: Cell, axis: int, backward: bool, suffix: str) -> tuple[list[Top], Top | None]:
    """h of every step, (N, H) each, in the order of computation, and the last c.

    Args:
        net: The network.
        x: (N, T, I) or (T, N, I).
        cell: What is computed.
        axis: The axis of time.
        backward: Whether the last step comes first.
        suffix: Of the layers.
    """
    steps, batch = x.shape[axis] or 0, x.shape[1 - axis]
    hidden, gates = cell.hidden, {"LSTM": 4, "GRU": 3, "RNN": 1}[cell.op]
    if steps * _LAYERS[cell.op] > _MOST_LAYERS:
        refuse(f"its {steps} steps written out would be more than {_MOST_LAYERS} layers")
    if steps * gates * hidden * hidden > MOST:
        refuse(f"its weights would be stored {steps} times, for more than 64 MB")
    net.note(f"{steps} steps written out, with shared weights")
    every = _inputs(net, x, cell, gates, suffix)
    rows = net.slices(every, axis, range(1, steps), f"{suffix}_x") if steps > 1 else (every,)
    rows = tuple(reshaped(net, t, (batch, gates * hidden)) for t in rows)
    h: Top | None = None
    c: Top | None = None
    made: list[Top] = []
    for t, row in enumerate(rows[::-1] if backward else rows):
        at = f"{suffix}_{t}"
        if cell.op == "LSTM":
            h, c = _lstm(net, cell, row, h, c, at)
        elif cell.op == "GRU":
            h = _gru(net, cell, row, h, at)
        else:
            total = row if h is None else net.eltwise("SUM", [row, _recur(net, cell, h, 0, 1, f"{at}_h")], suffix=f"{at}_sum")
            h = cell.functions[0](net, total, f"{at}_f")
        made.append(h)
    return made, c


def _both(cell: Cell, gates: int) -> Callable[[Array], Array]:
    """The two halves of B added, but for GRU's last gate with linear_before_reset, whose second half stays with R."""

    def change(a: Array) -> Array:
        halves = a[cell.way].reshape(2, gates, cell.hidden).copy()
        if cell.reset_after and cell.op == "GRU":
            halves[1, 2] = 0
        return np.asarray(halves.sum(0))

    return change


def _inputs(net: Net, x: Top, cell: Cell, gates: int, suffix: str) -> Top:
    wide, width = gates * cell.hidden, x.shape[2] or 0
    weights = [net.weight(cell.w, (wide, width), lambda a: a[cell.way])]
    if cell.b is not None:
        weights.append(net.weight(cell.b, (wide,), _both(cell, gates)))
    params = {"num_output": wide, "axis": 2, **({} if cell.b is not None else {"bias_term": False})}
    return net.layer(
        "InnerProduct", x, {"inner_product_param": params}, shape=(*x.shape[:2], wide), weights=weights, suffix=f"{suffix}_inputs"
    )


def _recur(net: Net, cell: Cell, h: Top, first: int, last: int, suffix: str, bias: Weight | None = None) -> Top:
    """R h for the gates first..last - 1."""
    size, k = cell.hidden, last - first
    weight = net.weight(cell.r, (k * size, size), lambda a: a[cell.way, first * size : last * size])
    weights = [weight] if bias is None else [weight, bias]
    params = {"num_output": k * size, **({} if bias is not None else {"bias_term": False})}
    share = f"{cell.r.name}_{cell.way}_{first}"  # by the constant: one layer of the source may hold several recurrences
    return net.layer(
        "InnerProduct", h, {"inner_product_param": params}, shape=(h.shape[0], k * size), weights=weights, suffix=suffix, share=share
    )


def _parts(net: Net, x: Top, count: int, suffix: str) -> tuple[Top, ...]:
    size = (x.shape[1] or 0) // count
    return net.slices(x, 1, [size * i for i in range(1, count)], suffix)


def _lstm(net: Net, cell: Cell, row: Top, h: Top | None, c: Top | None, at: str) -> tuple[Top, Top]:
    f, g, last = cell.functions
    total = row if h is None else net.eltwise("SUM", [row, _recur(net, cell, h, 0, 4, f"{at}_h")], suffix=f"{at}_sum")
    i, o, forget, new = _parts(net, total, 4, f"{at}_gates")
    fresh = net.eltwise("PROD", [f(net, i, f"{at}_i"), g(net, new, f"{at}_g")], suffix=f"{at}_fresh")
    if c is None:
        net.silence([forget])
        c = fresh
    else:
        kept = net.eltwise("PROD", [f(net, forget, f"{at}_f"), c], suffix=f"{at}_kept")
        c = net.eltwise("SUM", [kept, fresh], suffix=f"{at}_c")
    return net.eltwise("PROD", [f(net, o, f"{at}_o"), last(net, c, f"{at}_t")], suffix=f"{at}_out"), c


def _gru(net: Net, cell: Cell, row: Top, h: Top | None, at: str) -> Top:
    f, g = cell.functions
    size = cell.hidden
    own = _own_bias(net, cell) if cell.reset_after else None
    if h is None:
        zi, ri, ni = _parts(net, row, 3, f"{at}_gates")
        z = f(net, zi, f"{at}_z")
        if own is None:
            net.silence([ri])
        else:
            ni = net.eltwise("SUM", [ni, net.scale(f(net, ri, f"{at}_r"), own, suffix=f"{at}_reset")], suffix=f"{at}_n_sum")
        n = g(net, ni, f"{at}_n")
        return net.eltwise("SUM", [n, net.eltwise("PROD", [z, n], suffix=f"{at}_zn")], [1, -1], f"{at}_out")
    if cell.reset_after:
        bias = net.weight(cell.b, (3 * size,), lambda a: _last_only(a, cell)) if own is not None and cell.b is not None else None
        inner = _recur(net, cell, h, 0, 3, f"{at}_h", bias)
        zi, ri, ni = _parts(net, row, 3, f"{at}_gates")
        zh, rh, nh = _parts(net, inner, 3, f"{at}_h_gates")
        z, r = (f(net, net.eltwise("SUM", [a, b], suffix=f"{at}_{k}_sum"), f"{at}_{k}") for a, b, k in ((zi, zh, "z"), (ri, rh, "r")))
        total = net.eltwise("SUM", [ni, net.eltwise("PROD", [r, nh], suffix=f"{at}_reset")], suffix=f"{at}_n_sum")
    else:
        gates, ni = net.slices(row, 1, [2 * size], f"{at}_gates")
        both = f(net, net.eltwise("SUM", [gates, _recur(net, cell, h, 0, 2, f"{at}_h")], suffix=f"{at}_sum"), f"{at}_zr")
        z, r = _parts(net, both, 2, f"{at}_zr_parts")
        held = net.eltwise("PROD", [r, h], suffix=f"{at}_reset")
        total = net.eltwise("SUM", [ni, _recur(net, cell, held, 2, 3, f"{at}_n_h")], suffix=f"{at}_n_sum")
    n = g(net, total, f"{at}_n")
    change = net.eltwise("PROD", [z, net.eltwise("SUM", [h, n], [1, -1], f"{at}_difference")], suffix=f"{at}_change")
    return net.eltwise("SUM", [n, change], suffix=f"{at}_out")


def _own_bias(net: Net, cell: Cell) -> Weight | None:
    """The bias that is multiplied by the reset gate."""
    if cell.b is None:
        return None
    array = net.constant(cell.b)
    return None if array is None else constant(array[cell.way].reshape(2, 3, cell.hidden)[1, 2])


def _last_only(a: Array, cell: Cell) -> Array:
    halves = a[cell.way].reshape(2, 3, cell.hidden)[1].copy()
    halves[:2] = 0
    return np.asarray(halves)
