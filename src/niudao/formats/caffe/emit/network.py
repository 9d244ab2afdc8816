"""A model as a list of Caffe layers, each with its name, and its blobs with theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pkgutil import iter_modules

import onnx_ir as ir

from niudao.errors import Refusal
from niudao.formats.caffe import emit as family
from niudao.formats.caffe.emit.batchfirst import batch_first
from niudao.formats.caffe.emit.fuse import tidy
from niudao.formats.caffe.emit.graph import Layer, Net, Refused, Top, refuse
from niudao.formats.caffe.emit.naming import Named, give_names
from niudao.formats.caffe.emit.table import EMITTERS
from niudao.ir import card

_NUMBERS = frozenset("FLOAT FLOAT16 DOUBLE BFLOAT16 INT8 UINT8 INT16 UINT16 INT32 INT64 BOOL".split())
_MAKERS = {"Range", "EyeLike", "Floor", "Ceil", "Mod"}
_MISLED = ("batch", "free", "lost", "cannot be made", "rank", "size", "shape")
"""Words of refusals that may only come from a stand-in's shape."""


@dataclass(frozen=True)
class Network:
    """What Caffe's files are made from.

    Attributes:
        name: Name of the network.
        layers: Layers with their final names, in an order in which they can run.
        rewrites: Exact rewrites, one sentence each.
        refusals: What cannot be expressed; the rest is meaningless unless this is empty.
    """

    name: str
    layers: tuple[Named, ...]
    rewrites: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def emit(model: ir.Model, fork: frozenset[str] = frozenset()) -> Network:
    """Turn a model into Caffe layers.

    Args:
        model: The model; left as it is.
        fork: Layer types beyond BVLC Caffe 1.0 that the target has.
    """
    for module in iter_modules(family.__path__):
        import_module(f"{family.__name__}.{module.name}")  # they fill the table
    model = batch_first(model)
    net = Net(model, fork)
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            _guard(net, value.name or "input", "Input", partial(_input, net, value))
    guessed: set[ir.Value] = set()  # values that only stand in for what was refused
    for node in model.graph:
        net.node = node
        if net.fold(node) or _of_batch_size(net, node):
            continue
        _node(net, node, guessed)
    net.node = None
    if not net.refusals:
        for value in model.graph.outputs:
            _guard(net, value.name or "output", "Output", partial(_output, net, value))
    name = model.graph.name or "net"
    if net.refusals:
        return Network(name, (), tuple(net.rewrites), tuple(net.refusals))
    outputs = list(zip(net.outputs, (v.name or "output" for v in model.graph.outputs), strict=True))
    separate = card.get_source(model).get("format") == "caffe"
    layers, outputs = tidy(net.layers, outputs, [t.layer for t in net.inputs], separate)
    return Network(name, tuple(give_names(layers, outputs)), tuple(net.rewrites), ())


def _node(net: Net, node: ir.Node, guessed: set[ir.Value]) -> None:
    key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    emitter = EMITTERS.get(key)
    after = any(v in guessed for v in node.inputs)
    before = len(net.refusals)
    if emitter is None:
        net.refusals.append(
            Refusal(net.title(), key, "no Caffe layer computes it", rewrite="replace it by layers of Caffe", targets=("onnx",))
        )
    else:
        _guard(net, net.title(), key, partial(emitter, net, node))
        if after and len(net.refusals) > before and any(w in net.refusals[-1].reason for w in _MISLED):
            net.refusals.pop()
            before = -1
    if len(net.refusals) != before or after:
        _stand_in(net, node)
        guessed.update(node.outputs)


def _guard(net: Net, name: str, op: str, work: Callable[[], object]) -> None:
    """Do the work for one node; a refusal is filed, not raised."""
    start, notes = len(net.layers), len(net.rewrites)
    try:
        work()
    except Refused as e:
        del net.layers[start:], net.rewrites[notes:]
        net.refusals.append(Refusal(name, op, e.reason, attribute=e.attribute, rewrite=e.rewrite, targets=("onnx", "keras")))


def _of_batch_size(net: Net, node: ir.Node) -> bool:
    """Whether the node computes from constants and the size of the batch alone (an initial state): whoever needs the value asks."""
    inputs = [v for v in node.inputs if v is not None]
    if node.op_type in ("Shape", "Size", "ConstantOfShape"):
        return True
    return bool(inputs) and not any(net.has(v) for v in inputs) and (node.op_type in EMITTERS or node.op_type in _MAKERS)


def _stand_in(net: Net, node: ir.Node) -> None:
    """A blob in place of what was refused, so that the rest of the network is looked at in the same pass."""
    for value in node.outputs:
        if value.shape is not None and not net.has(value):
            dims = tuple(d if isinstance(d, int) else None if i == 0 else 1 for i, d in enumerate(value.shape))
            net.put(value, Top(Layer("Input", "stand_in", shapes=[dims]), 0, dims))


def _input(net: Net, value: ir.Value) -> None:
    dims = net.dims(value)
    if not dims:
        refuse("a single number is no blob", rewrite="give it a batch axis")
    if value.dtype is None or value.dtype.name not in _NUMBERS:
        refuse(f"its type is {value.dtype}", rewrite="use float32 inputs")
    shape = [1 if d is None else d for d in dims]
    layer = Layer("Input", value.name or "input", {"input_param": {"shape": [{"dim": shape}]}}, shapes=[dims])
    net.layers.append(layer)
    net.inputs.append(Top(layer, 0, dims))
    net.put(value, net.inputs[-1])


def _output(net: Net, value: ir.Value) -> None:
    if value.dtype is not None and value.dtype.name not in _NUMBERS:
        refuse(f"its type is {value.dtype}", rewrite="give numbers")
    net.node = value.producer()
    top = net.get(value)
    net.node = None
    net.outputs.append(top)
