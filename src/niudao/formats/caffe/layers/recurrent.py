"""LSTM and RNN over (time, streams, ...), step by step: `cont` may start a stream anew at any step, which no ONNX operator knows.

    LSTM  (i, f, o, g) = W_xc x + b + W_hc (cont h);  c = cont sigm(f) c + sigm(i) tanh(g);  h = sigm(o) tanh(c)
    RNN   h = tanh(W_xh x + b + W_hh (cont h));  y = tanh(W_ho h + b_o)

Source: BVLC Caffe, recurrent_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp, rnn_layer.cpp; Donahue et al., CVPR 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import bounded

STEPS = 512
"""Steps that are written out."""


@dataclass(frozen=True)
class Sequence:
    """What both layers begin with.

    Attributes:
        hidden: Size of the state.
        streams: How many sequences run side by side.
        inputs: W x + b of every step, each (streams, gates * hidden).
        cont: Of every step, (streams, 1): 0 where a sequence begins.
        states: The states that the caller gives, each (streams, hidden); empty where they begin at zero.
        used: How many blobs the inputs took.
    """

    hidden: int
    streams: int
    inputs: tuple[ir.Value, ...]
    cont: tuple[ir.Value, ...]
    states: tuple[ir.Value, ...]
    used: int


def _begin(call: Call, bottoms: tuple[ir.Value, ...], gates: int, states: int, blobs: int, gate_name: str) -> Sequence:
    """Check the bottoms, and multiply the inputs of all steps at once.

    Args:
        call: The layer.
        bottoms: x, cont, a static input perhaps, the exposed states perhaps.
        gates: Vectors of the state's size that a step needs.
        states: How many states an exposed layer takes.
        blobs: How many blobs there are besides the static input's.
        gate_name: "xc" or "xh", as Caffe calls the weights.
    """
    part, b = call.param("recurrent_param"), call.b
    exposed = states if part.get("expose_hidden") else 0
    if len(bottoms) - exposed not in (2, 3):
        raise call.bad("bottom", f"{2 + exposed} or {3 + exposed}", len(bottoms))
    x, cont = bottoms[:2]
    static = bottoms[2] if len(bottoms) - exposed == 3 else None
    hidden = call.integer(part, "num_output")
    if call.rank(x) < 3:
        raise call.bad("bottom", "time, streams and at least one more axis", f"{call.rank(x)} axes")
    steps, streams, *rest = call.sizes(x, 0)
    if call.sizes(cont, 0) != [steps, streams]:
        raise call.bad("bottom", f"a second input of {[steps, streams]}", call.dims(cont))
    if steps > STEPS:
        raise call.refuse(f"it has {steps} steps, and at most {STEPS} are written out", rewrite="shorter sequences")
    width = gates * hidden
    bounded(call, [width, prod(rest)], "num_output")
    bounded(call, [steps, streams, width], "num_output")
    bounded(call, [width, hidden], "num_output")
    call.expect(blobs + (static is not None))
    weight, bias = call.weight(0, (width, prod(rest)), f"weight_{gate_name}"), call.weight(1, (width,), "bias", fill=0.0)
    every = b.op("Gemm", b.op("Reshape", x, b.const([steps * streams, prod(rest)])), weight, bias, transB=1)
    every = b.op("Reshape", every, b.const([steps, streams, width]))
    if static is not None:
        first, *more = call.sizes(static, 0)
        if first != streams or not more:
            raise call.bad("bottom", f"a static input of {streams} streams and more axes", call.dims(static))
        bounded(call, [width, prod(more)], "num_output")
        fixed = call.weight(2, (width, prod(more)), f"weight_{gate_name}_static")
        every = b.op("Add", every, b.op("Gemm", b.op("Reshape", static, b.const([streams, prod(more)])), fixed, transB=1))
    going = b.op("Reshape", cont, b.const([steps, streams, 1]))
    held = []
    for given in bottoms[len(bottoms) - exposed :] if exposed else ():
        if call.sizes(given, 0) != [1, streams, hidden]:
            raise call.bad("bottom", f"a state of {[1, streams, hidden]}", call.dims(given))
        held.append(b.op("Reshape", given, b.const([streams, hidden])))
    take = [b.const(t) for t in range(steps)]
    return Sequence(
        hidden,
        streams,
        tuple(b.op("Gather", every, at, axis=0, name=_step(call, t)) for t, at in enumerate(take)),
        tuple(b.op("Gather", going, at, axis=0, name=_step(call, t)) for t, at in enumerate(take)),
        tuple(held),
        2 + (static is not None),
    )


def _step(call: Call, t: int) -> str:
    """Name of the nodes of a step: thousands of one name would each have to be told from all others."""
    return f"{call.layer.name}/{t}"


def _joined(call: Call, steps: list[ir.Value], s: Sequence) -> ir.Value:
    """(streams, hidden) of every step as (time, streams, hidden)."""
    whole = call.b.op("Concat", *steps, axis=0)
    return call.b.op("Reshape", whole, call.b.const([len(steps), s.streams, s.hidden]))


@reads("LSTM")
def lstm(call: Call, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """Tops: h of every step; with `expose_hidden` the last h and the last c too, (1, streams, hidden)."""
    s, b = _begin(call, bottoms, 4, 2, 3, "xc"), call.b
    recurrent = call.weight(s.used, (4 * s.hidden, s.hidden), "weight_hc")
    h, c = s.states if s.states else (None, None)
    made = []
    for t, (x, cont) in enumerate(zip(s.inputs, s.cont, strict=True)):
        op = partial(b.op, name=_step(call, t))
        gates = x if h is None else op("Gemm", op("Mul", h, cont), recurrent, x, transB=1)
        i, f, o, g = b.ops("Split", gates, outputs=4, axis=1, num_outputs=4, name=_step(call, t))
        fresh = op("Mul", op("Sigmoid", i), op("Tanh", g))
        kept = op("Mul", op("Mul", cont, op("Sigmoid", f)), c) if c is not None else None
        c = op("Add", kept, fresh) if kept is not None else fresh
        h = op("Mul", op("Sigmoid", o), op("Tanh", c))
        made.append(h)
    last = [_joined(call, [v], s) for v in (h, c) if v is not None] if call.param("recurrent_param").get("expose_hidden") else []
    return (_joined(call, made, s), *last)


@reads("RNN")
def rnn(call: Call, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """Tops: y of every step; with `expose_hidden` the last h too, (1, streams, hidden)."""
    s, b = _begin(call, bottoms, 1, 1, 5, "xh"), call.b
    recurrent = call.weight(s.used, (s.hidden, s.hidden), "weight_hh")
    out = call.weight(s.used + 1, (s.hidden, s.hidden), "weight_ho")
    bias = call.weight(s.used + 2, (s.hidden,), "bias_o", fill=0.0)
    h = s.states[0] if s.states else None
    made = []
    for t, (x, cont) in enumerate(zip(s.inputs, s.cont, strict=True)):
        op = partial(b.op, name=_step(call, t))
        h = op("Tanh", x if h is None else op("Gemm", op("Mul", h, cont), recurrent, x, transB=1))
        made.append(op("Tanh", op("Gemm", h, out, bias, transB=1)))
    last = [_joined(call, [h], s)] if h is not None and call.param("recurrent_param").get("expose_hidden") else []
    return (_joined(call, made, s), *last)
