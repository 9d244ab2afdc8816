"""LSTM, GRU and SimpleRNN, one or both directions.

Gates: ONNX has i, o, f, c (LSTM) and z, r, h (GRU); Keras i, f, c, o and z, r, h.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.cut import by_matrix, selection
from niudao.formats.keras.emit.graph import Array, Dim, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
_KIND = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
_NAMES = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus"}


@emits("LSTM", "GRU", "RNN")
def recurrent(net: Net, node: ir.Node) -> None:
    """A recurrent layer, in a Bidirectional where it has two directions."""
    op, layout = node.op_type, int(attr(node, "layout", 0))
    direction = attr(node, "direction", "forward")
    ways = 2 if direction == "bidirectional" else 1
    check(net, node)
    x = net.get(node.inputs[0])
    x = net.arrange(x, (0, 1, 2) if layout else (1, 0, 2))
    w, r = node.inputs[1], node.inputs[2]
    if w is None or r is None or not net.is_constant(w) or not net.is_constant(r):
        refuse("its weights are computed")
    units, width = net.shape_of(r)[2], net.shape_of(w)[2]
    y, y_h, y_c = [v if v is not None and (v.uses() or v.is_graph_output()) else None for v in (*node.outputs, None, None, None)[:3]]
    sequence, state = y is not None, (y is not None and y_h is not None) or y_c is not None
    acts, factor = activations(net, node, op, ways)
    config: dict[str, Any] = {"units": units, "activation": acts[1 if op != "RNN" else 0]}
    if op != "RNN":
        config["recurrent_activation"] = acts[0]
    config |= {
        "use_bias": True,
        "return_sequences": sequence,
        "return_state": state,
        "go_backwards": direction == "reverse",
        "stateful": False,
        "unroll": False,
    }
    after = bool(attr(node, "linear_before_reset", 0))
    if op == "GRU":
        config["reset_after"] = after
    if factor != 1:
        net.note(f"hard_sigmoid of another slope: the gates' weights are multiplied by {factor:.4g}")
    weights: list[Weight] = []
    for way in range(ways):
        weights += arrays(net, node, op, way, ways, units, width, after, factor)
    steps: Dim = x.shape[1]
    if ways == 2:
        inner = {
            "module": "keras.layers",
            "class_name": _KIND[op],
            "config": {"name": _KIND[op].lower(), **config},
            "registered_name": None,
        }
        config, kind = {"layer": inner, "merge_mode": "concat"}, "Bidirectional"
    else:
        kind = _KIND[op]
    wide = units * ways
    shape = (None, steps, wide) if sequence else (None, wide)
    made = net.layer(kind, x, config, shape=shape, axes=tuple(range(len(shape))), weights=weights)
    states = [replace(made, index=k, shape=(None, units), axes=(0, 1)) for k in range(1, 1 + ways * (2 if op == "LSTM" else 1))]
    made.layer.shapes += [(None, units)] * (len(states) if state else 0)
    per = len(states) // ways
    if y is not None:
        seq = made
        if direction == "reverse":
            if steps is None:
                refuse("it runs backwards over a free number of steps", "direction", "give the input sizes")
            net.note("a backward layer's output turned round by a Dense layer of zeros and ones")
            seq = net.natural(by_matrix(net, seq, 1, selection(steps, list(range(steps))[::-1]), "_turn"))
        net.put(y, spread(net, seq, ways, units, layout))
    if y_h is not None:
        last = (
            made if not sequence and ways == 1 else states[0] if ways == 1 else made if not sequence else both(net, states[0], states[per])
        )
        net.put(y_h, spread(net, last, ways, units, layout))
    if y_c is not None:
        last = states[1] if ways == 1 else both(net, states[1], states[per + 1])
        net.put(y_c, spread(net, last, ways, units, layout))


def check(net: Net, node: ir.Node) -> None:
    """Refuse what Keras's layers do not have."""
    if attr(node, "clip") is not None:
        refuse("it clips inside", "clip")
    if attr(node, "input_forget", 0):
        refuse("it couples two gates", "input_forget")
    for index, what in ((4, "sequence lengths"), (7, "peepholes")):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is not None:
            array = net.constant(value)
            steps = node.inputs[0].shape if node.inputs[0] is not None else None
            size = steps[1 if attr(node, "layout", 0) else 0] if steps is not None else None
            if array is None or not (np.all(array == 0) if index == 7 else isinstance(size, int) and np.all(array == size)):
                refuse(f"it takes {what}")
    for index in (5, 6):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is not None and not net.is_zero(value):
            refuse("it starts from a state of its own", "initial_h", "start from zeros")


def sizes(net: Net, value: ir.Value) -> tuple[Dim, ...]:
    """Shape of a value made for the size of the batch, also where shape inference could not follow."""
    node = value.producer()
    if node is None or node.op_type not in ("Tile", "ConstantOfShape") or None not in net.dims(value)[1:]:
        return net.dims(value)
    given = net.constant(node.inputs[-1])
    if given is None:
        return net.dims(value)
    source = net.dims(node.inputs[0]) if node.op_type == "Tile" and node.inputs[0] is not None else (1,) * given.size
    return tuple(None if d is None or n < 0 else d * int(n) for d, n in zip(source, given.reshape(-1), strict=True))


def activations(net: Net, node: ir.Node, op: str, ways: int) -> tuple[list[str], float]:
    """Keras names of the gates' functions, the same for both directions, and the factor that makes the slope of hard_sigmoid right."""
    default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
    names = list(attr(node, "activations", default * ways))
    alphas, betas = list(attr(node, "activation_alpha", [])), list(attr(node, "activation_beta", []))
    found: list[str] = []
    slopes: set[float] = set()
    for name in names:
        plain = next((v for k, v in _NAMES.items() if k.lower() == name.lower()), None)
        if name.lower() == "hardsigmoid":
            alpha = float(alphas.pop(0)) if alphas else 0.2
            beta = float(betas.pop(0)) if betas else 0.5
            if abs(beta - 0.5) > 1e-6 or alpha <= 0 or not net.hard_slope:
                reason = "hard_sigmoid in its gates, which Keras 2 and 3 understand differently"
                refuse(reason, "activations", "write a .keras archive, or an HDF5 file for Keras 2 alone (version='2')")
            slopes.add(alpha)
            if not net.operations:
                own, other = ("2", "3") if net.hard_slope == 0.2 else ("3", "2")
                net.note(f"hard_sigmoid gates as Keras {own} means them; Keras {other} would load the file with another slope")
            plain = "hard_sigmoid"
        if plain is None:
            refuse(f"its gates use {name}", "activations")
        found.append(plain)
    count = len(found) // ways
    if ways == 2 and found[:count] != found[count:]:
        refuse("its directions use different functions", "activations")
    if op == "LSTM" and found[1] != found[2]:
        refuse("its cell and its output use different functions", "activations")
    if (op != "RNN" and "hard_sigmoid" in found[1:count]) or len(slopes) > 1:
        refuse("hard_sigmoid outside its gates, or of several slopes", "activations")
    factor = slopes.pop() / net.hard_slope if slopes else 1.0
    return found[:count], 1.0 if abs(factor - 1) < 1e-6 else factor


def arrays(net: Net, node: ir.Node, op: str, way: int, ways: int, units: int, width: int, after: bool, factor: float) -> list[Weight]:
    """Kernel, recurrent kernel and bias of one direction."""
    gates = _ORDER[op]
    own = {"LSTM": 2, "GRU": 2, "RNN": None}[op]  # Keras's place of the gate that has the other activation
    row_factor = np.repeat([1.0 if i == own else factor for i in range(len(gates))], units).astype(np.float32)
    w, r, b = node.inputs[1], node.inputs[2], node.inputs[3] if len(node.inputs) > 3 else None
    assert w is not None and r is not None
    if b is not None and not net.is_constant(b):
        refuse("its bias is computed", "B")

    def matrix(a: Array) -> Array:
        stacked: Array = np.concatenate([a[way, g * units : (g + 1) * units] for g in gates]).T
        return stacked * row_factor

    def bias(a: Array) -> Array:
        row = a[way].reshape(2, len(gates), units)[:, list(gates)].reshape(2, -1)
        made: Array = (row if op == "GRU" and after else row.sum(0)) * row_factor
        return made

    wide = units * len(gates)
    shape = (2, wide) if op == "GRU" and after else (wide,)
    load = net.loader(b, bias) if b is not None else (lambda: np.zeros(shape, np.float32))
    side = "" if ways == 1 else ("forward_", "backward_")[way]
    front = f"{side}{_KIND[op].lower()}/" if side else ""
    slot = f"{side}layer/cell/vars/" if side else "cell/vars/"
    cell = {"LSTM": "lstm_cell", "GRU": "gru_cell", "RNN": "simple_rnn_cell"}[op]
    return [
        Weight(f"{front}{cell}/kernel", f"{slot}0", (width, wide), net.loader(w, matrix)),
        Weight(f"{front}{cell}/recurrent_kernel", f"{slot}1", (units, wide), net.loader(r, matrix)),
        Weight(f"{front}{cell}/bias", f"{slot}2", shape, load),
    ]


def both(net: Net, a: Tensor, b: Tensor) -> Tensor:
    """Two states side by side."""
    return net.layer("Concatenate", [a, b], {"axis": -1}, shape=(None, (a.shape[-1] or 0) * 2), axes=(0, 1), suffix="_states")


def spread(net: Net, t: Tensor, ways: int, units: int, layout: int) -> Tensor:
    """The axes as ONNX has them: directions apart."""
    steps = t.shape[1:-1]
    if ways == 2:
        t = net.reshaped(t, [*steps, 2, units], tuple(range(len(t.shape) + 1)))
    if len(steps) == 1:  # ours: steps, directions, batch, units; or batch, steps, directions, units
        places = (1, 2 if ways == 2 else None, 0, 3 if ways == 2 else 2)
        return replace(t, axes=(places[2], places[0], places[1], places[3]) if layout else places)
    ours = (1 if ways == 2 else None, 0, 2 if ways == 2 else 1)
    return replace(t, axes=(ours[1], ours[0], ours[2]) if layout else ours)
