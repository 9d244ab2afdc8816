"""LSTM as Caffe's own layer; every other recurrence step by step (`steps.py`).

    Caffe  x (T, N, I), cont (T, N): 0 where a sequence begins; gates i, f, o, g; tops h (T, N, H), with expose_hidden h_T and c_T too
    ONNX   gates i, o, f, c

Source: BVLC Caffe, recurrent_layer.cpp, lstm_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Array, Dim, Net, Top, Weight, constant, refuse
from niudao.formats.caffe.emit.steps import Cell, functions, unrolled
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import reshaped
from niudao.ir.operators import attribute

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_OURS = (0, 2, 1, 3)
"""Caffe's i, f, o, g in ONNX's i, o, f, c."""


@dataclass(frozen=True)
class Run:
    """One direction's results.

    Attributes:
        sequence: h of every step, in the order of the input, (N, T, H) or (T, N, H) as the input has it; None where nobody asks.
        hidden: The last h, (N, H).
        cell: The last c, (N, H), where the network has one.
    """

    sequence: Top | None
    hidden: Top
    cell: Top | None = None


@emits("LSTM", "GRU", "RNN")
def _recurrent(net: Net, node: ir.Node) -> None:
    op, batch_first = node.op_type, bool(attribute(node, "layout", 0))
    direction = attribute(node, "direction", "forward")
    ways = [False, True] if direction == "bidirectional" else [direction == "reverse"]
    x = net.get(node.inputs[0])
    if x.rank != 3 or x.shape[1 if batch_first else 0] is None:
        refuse("its number of steps is free", rewrite="give the input sizes")
    w, r, b = node.inputs[1], node.inputs[2], node.inputs[3] if len(node.inputs) > 3 else None
    if w is None or r is None or any(v is not None and not net.is_constant(v) for v in (w, r, b)):
        refuse("its weights are computed")
    _check(net, node, x.shape[1 if batch_first else 0])
    y, y_h, y_c = (v if v is not None and (v.uses() or v.is_graph_output()) else None for v in (*node.outputs, None, None)[:3])
    found = functions(node, len(ways))
    made = []
    for k, backward in enumerate(ways):
        cell = Cell(op, net.shape_of(r)[2], bool(attribute(node, "linear_before_reset", 0)), found[k], w, r, b, k)
        suffix = ("_backward" if backward else "_forward") if len(ways) == 2 else ""
        wanted = (y is not None, y_c is not None)
        plain = op == "LSTM" and [f.name for f in found[k]] == ["sigmoid", "tanh", "tanh"]
        make = _native if plain else _unrolled
        made.append(make(net, x, cell, batch_first, backward, wanted, suffix))
    if y is not None:
        axis = 2 if batch_first else 1
        whole = [reshaped(net, t, (*t.shape[:axis], 1, *t.shape[axis:])) for m in made if (t := m.sequence) is not None]
        net.put(y, net.concat(whole, axis, "_directions"))
    for value, lasts in ((y_h, [m.hidden for m in made]), (y_c, [m.cell for m in made if m.cell is not None])):
        if value is not None:
            axis = 1 if batch_first else 0
            states = [reshaped(net, t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in lasts]
            net.put(value, net.concat(states, axis, "_states"))


def _check(net: Net, node: ir.Node, steps: Dim) -> None:
    """Refuse what cannot be said."""
    if attribute(node, "clip") is not None:
        refuse("it clips inside", "clip")
    if attribute(node, "input_forget", 0):
        refuse("it couples two gates", "input_forget")
    given = [*node.inputs, *[None] * 8]
    if given[4] is not None:
        array = net.constant(given[4]) if net.is_constant(given[4]) else None
        if array is None or not (array == steps).all():
            refuse("its sequences have lengths of their own", "sequence_lens")
    if any(v is not None and not net.is_zero(v) for v in given[5:7]):
        refuse("it starts from a state of its own", "initial_h", "start from zeros")
    if given[7] is not None and not net.is_zero(given[7]):
        refuse("it has peepholes", "P")


def _view(net: Net, x: Top, target: Sequence[Dim], suffix: str) -> Top:
    """A Reshape in which the free batch may change its place."""
    if None not in x.shape:
        return reshaped(net, x, target, suffix)
    dims = [-1 if d is None else d for d in target]
    return net.layer("Reshape", x, {"reshape_param": {"shape": {"dim": dims}}}, shape=target, suffix=suffix)


def _native(net: Net, x: Top, cell: Cell, batch_first: bool, backward: bool, wanted: tuple[bool, bool], suffix: str) -> Run:
    """Caffe's own layer; it takes time before the batch."""
    steps, batch, width = (x.shape[1], x.shape[0], x.shape[2]) if batch_first else x.shape
    steps, hidden = steps or 0, cell.hidden
    if steps > 250 and (batch_first or backward):
        refuse(f"its {steps} steps would have to be put in order one by one")
    x = _in_time(net, x, steps, batch_first, backward, (batch, width), suffix)
    flow = net.power(x, scale=0.0, suffix=f"{suffix}_none", nonnegative=True)
    flow = net.layer("Reduction", flow, {"reduction_param": {"axis": 2}}, shape=(steps, batch), suffix=f"{suffix}_sum", nonnegative=True)
    cont = net.bias(flow, constant(np.array([0.0] + [1.0] * (steps - 1))), 0, f"{suffix}_cont")
    net.note("where sequences begin, from the data itself, so that it follows the batch")

    def gates(a: Array) -> Array:
        return np.asarray(a[cell.way].reshape(4, hidden, -1)[list(_OURS)])

    def bias(a: Array) -> Array:
        return np.asarray(a[cell.way].reshape(2, 4, hidden).sum(0)[list(_OURS)])

    weights: list[Weight] = [net.weight(cell.w, (4 * hidden, width or 0), gates)]
    weights.append(net.weight(cell.b, (4 * hidden,), bias) if cell.b is not None else constant(0.0, (4 * hidden,)))
    weights.append(net.weight(cell.r, (4 * hidden, hidden), gates))
    params: dict[str, Any] = {"num_output": hidden}
    bottoms, shapes = [x, cont], [(steps, batch, hidden)]
    if wanted[1]:
        params["expose_hidden"] = True
        first = net.piece(flow, 0, 0, 1, f"{suffix}_first")
        first = _view(net, first, (1, batch, 1), f"{suffix}_first_reshape")
        start = net.layer("Tile", first, {"tile_param": {"axis": 2, "tiles": hidden}}, shape=(1, batch, hidden), suffix=f"{suffix}_start")
        bottoms, shapes = [*bottoms, start, start], [*shapes, (1, batch, hidden), (1, batch, hidden)]
    tops = net.layers_for("LSTM", bottoms, {"recurrent_param": params}, shapes=shapes, weights=weights, suffix=suffix)
    last = net.piece(tops[0], 0, steps - 1, steps, f"{suffix}_last") if not wanted[1] else tops[1]
    final = _view(net, last, (batch, hidden), f"{suffix}_state")
    state = _view(net, tops[2], (batch, hidden), f"{suffix}_cell") if wanted[1] else None
    sequence = _out_of_time(net, tops[0], steps, batch_first, backward, suffix) if wanted[0] else None
    return Run(sequence, final, state)


def _in_time(net: Net, x: Top, steps: int, batch_first: bool, backward: bool, rest: tuple[Dim, Dim], suffix: str) -> Top:
    if steps == 1 and batch_first:
        return _view(net, x, (1, *rest), f"{suffix}_time")
    if not batch_first and not backward:
        return x
    axis = 1 if batch_first else 0
    pieces = list(net.slices(x, axis, range(1, steps), f"{suffix}_steps"))
    if batch_first:
        pieces = [_view(net, p, (1, *rest), f"{suffix}_step{t}") for t, p in enumerate(pieces)]
    return net.concat(pieces[::-1] if backward else pieces, 0, f"{suffix}_time")


def _out_of_time(net: Net, y: Top, steps: int, batch_first: bool, backward: bool, suffix: str) -> Top:
    """(T, N, H), in the order of computation, as the input was."""
    _, batch, hidden = y.shape
    if steps == 1 and batch_first:
        return _view(net, y, (batch, 1, hidden), f"{suffix}_back")
    if not batch_first and not backward:
        return y
    pieces = list(net.slices(y, 0, range(1, steps), f"{suffix}_results"))
    if batch_first:
        pieces = [_view(net, p, (batch, 1, hidden), f"{suffix}_result{t}") for t, p in enumerate(pieces)]
    return net.concat(pieces[::-1] if backward else pieces, 1 if batch_first else 0, f"{suffix}_back")


def _unrolled(net: Net, x: Top, cell: Cell, batch_first: bool, backward: bool, wanted: tuple[bool, bool], suffix: str) -> Run:
    """Every step by layers of its own."""
    axis = 1 if batch_first else 0
    steps, batch = x.shape[axis] or 0, x.shape[1 - axis]
    hs, c = unrolled(net, x, cell, axis, backward, suffix)
    sequence = None
    if wanted[0]:
        shape = (batch, 1, cell.hidden) if batch_first else (1, batch, cell.hidden)
        rows = [reshaped(net, h, shape) for h in (hs[::-1] if backward else hs)]
        sequence = net.concat(rows, axis, f"{suffix}_back") if steps > 1 else rows[0]
    return Run(sequence, hs[-1], c)
