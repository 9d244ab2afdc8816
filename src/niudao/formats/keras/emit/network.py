"""A model as a list of Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from niudao.errors import Refusal
from niudao.formats.keras.emit import activation, compare, conv, cut, dense, elementwise, norm, pool, recurrent, reduce  # noqa: F401  they fill the table
from niudao.formats.keras.emit import shape as _shape  # noqa: F401
from niudao.formats.keras.emit.fuse import tidy
from niudao.formats.keras.emit.graph import Layer, Net, Refused, Tensor, last, refuse
from niudao.formats.keras.emit.order import give_names, keras_order, legal
from niudao.formats.keras.emit.steps import wrap
from niudao.formats.keras.emit.table import EMITTERS
from niudao.ir import card

_TYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.UINT8: "uint8",
    ir.DataType.BOOL: "bool",
}


@dataclass(frozen=True)
class Network:
    """What a Keras file is made from.

    Attributes:
        name: Name of the model.
        layers: Layers in Keras's own order.
        inputs: Input layers in the graph's order.
        outputs: (layer, number of its output) in the graph's order.
        rewrites: Exact rewrites, one sentence each.
        refusals: What cannot be expressed; the rest is meaningless unless this is empty.
    """

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[Layer, ...]
    outputs: tuple[tuple[Layer, int], ...]
    rewrites: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def emit(model: ir.Model, *, operations: bool, hard_slope: float = 0.0) -> Network:
    """Turn a model into Keras layers.

    Args:
        model: The model; left as it is.
        operations: Whether `keras.ops` calls may stand beside layers.
        hard_slope: Slope of what the target calls hard_sigmoid; 0 where its versions disagree.
    """
    net = Net(model, operations, hard_slope)
    channels_last = turns_pictures(model)
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            _guard(net, None, value.name or "input", "Input", partial(_input, net, value, channels_last))
    guessed: set[ir.Value] = set()  # values that only stand in for what was refused
    for node in model.graph:
        net.node = node
        if net.fold(node) or _of_batch_size(net, node):
            continue
        key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        emitter = EMITTERS.get(key)
        after = any(v in guessed for v in node.inputs)
        before = len(net.refusals)
        if emitter is None:
            net.refusals.append(
                Refusal(
                    net.title(), key, "no Keras layer computes it", rewrite="replace it by operators of the vision set", targets=("onnx",)
                )
            )
        else:
            _guard(net, node, net.title(), key, partial(emitter, net, node))
            if after and len(net.refusals) > before and any(w in net.refusals[-1].reason for w in _MISLED):
                net.refusals.pop()
                before = -1
        if len(net.refusals) != before or after:
            _stand_in(net, node)
            guessed.update(node.outputs)
    net.node = None
    outputs: list[tuple[Layer, int]] = []
    for value in () if net.refusals else tuple(model.graph.outputs):
        _guard(net, None, value.name or "output", "Output", partial(_output, net, value, outputs, channels_last))
    name = legal(model.graph.name or "model")
    if net.refusals or len(outputs) != len(model.graph.outputs):
        return Network(name, (), (), (), tuple(net.rewrites), tuple(net.refusals))
    separate = card.get_source(model).get("format") == "keras"
    layers = tidy(net.layers, outputs, separate)
    lost = [x for x in layers for source, _ in x.inputs if source not in layers]
    if lost:  # cannot happen while every stand-in comes with a refusal; a wrong file would be worse than this one
        net.refusals += [Refusal(x.node or x.wish, x.kind, "its input could not be made", targets=("onnx",)) for x in lost]
        return Network(name, (), (), (), tuple(net.rewrites), tuple(net.refusals))
    inputs = [x for x in net.inputs]
    for layer in layers:
        wrap(layer, separate)
    ordered = keras_order(layers, outputs)
    give_names(
        ordered,
        list(zip(inputs, (x.wish for x in inputs), strict=True)),
        list(zip(outputs, (v.name or "output" for v in model.graph.outputs), strict=True)),
    )
    return Network(name, tuple(ordered), tuple(inputs), tuple(outputs), tuple(net.rewrites), ())


def _guard(net: Net, node: ir.Node | None, name: str, op: str, work: Callable[[], object]) -> bool:
    """Do the work for one node; a refusal is filed, not raised."""
    start = len(net.layers)
    try:
        work()
        return True
    except Refused as e:
        del net.layers[start:]
        targets = ("onnx", "keras") if e.keras3 else ("onnx",)
        net.refusals.append(Refusal(name, op, e.reason, attribute=e.attribute, rewrite=e.rewrite, targets=targets))
        return False


_MISLED = ("batch", "free", "lost", "cannot be made", "rank", "size")
"""Words of refusals that may only come from a stand-in's shape."""


def _of_batch_size(net: Net, node: ir.Node) -> bool:
    """Whether the node computes from constants and the size of the batch alone (an initial state): whoever needs the value asks."""
    inputs = [v for v in node.inputs if v is not None]
    if node.op_type in ("Shape", "Size", "ConstantOfShape"):
        return True
    return bool(inputs) and not any(net.has(v) for v in inputs) and (node.op_type in EMITTERS or node.op_type in _MAKERS)


_MAKERS = {"Range", "EyeLike", "Floor", "Ceil", "Mod"}


def _stand_in(net: Net, node: ir.Node) -> None:
    """A tensor in place of what was refused, so that the rest of the network is looked at in the same pass."""
    for value in node.outputs:
        if value.shape is not None and not net.has(value):
            dims = tuple(d if isinstance(d, int) else None for d in value.shape)
            order = last(len(dims))
            axes: list[int | None] = [0] * len(dims)
            for k, i in enumerate(order):
                axes[i] = k
            layer = Layer("InputLayer", "stand_in", shapes=[tuple(dims[i] for i in order)])
            net.put(value, Tensor(layer, 0, layer.shapes[0], tuple(axes)))


def _input(net: Net, value: ir.Value, channels_last: bool) -> None:
    dims = net.dims(value)
    rank = len(dims)
    if rank == 0:
        refuse("a single number has no batch", rewrite="give it a batch axis")
    dtype = _TYPES.get(value.dtype) if value.dtype is not None else None
    if dtype is None:
        refuse(f"its type is {value.dtype}", rewrite="use float32 inputs")
    axes = _layout(value, rank, channels_last)
    shape: list[int | None] = [None] * rank
    for i, a in enumerate(axes):
        shape[a] = dims[i]
    if axes[0] != 0:
        refuse("its batch is not on axis 0", "niudao.layout")
    shape[0] = None
    layer = Layer("InputLayer", value.name or "input", {}, shapes=[tuple(shape)], dtype=dtype)
    net.layers.append(layer)
    net.inputs.append(layer)
    net.put(value, Tensor(layer, 0, tuple(shape), axes))


def turns_pictures(model: ir.Model) -> bool:
    """Whether 4-D and 5-D inputs and outputs without a recorded layout become channels-last: not where the source was so anyway."""
    return card.get_source(model).get("format") not in ("keras", "tensorflow", "tflite")


def layouts(model: ir.Model) -> dict[str, list[list[int]]]:
    """Where our axes lie in the Keras file, input by input and output by output."""
    turn = turns_pictures(model)
    groups = {"inputs": model.graph.inputs, "outputs": model.graph.outputs}
    return {k: [list(_layout(v, len(v.shape), turn)) if v.shape is not None else [] for v in vs] for k, vs in groups.items()}


def _layout(value: ir.Value, rank: int, channels_last: bool) -> tuple[int, ...]:
    """Where our axes lie in the Keras file."""
    perm = card.get_layout(value)
    if perm is not None:
        return perm
    if rank in (4, 5) and channels_last:
        return (0, rank - 1, *range(1, rank - 1))
    return tuple(range(rank))


def _output(net: Net, value: ir.Value, earlier: list[tuple[Layer, int]], channels_last: bool) -> None:
    t = net.get(value)
    if t.steps:
        refuse("it holds the steps of a sequence in its batch", rewrite="give them an axis of their own")
    axes = _layout(value, len(t.axes), channels_last)
    net.node = value.producer()
    t = net.arrange(t, [axes.index(k) for k in range(len(axes))])
    shared = any(layer is t.layer for layer, _ in earlier)
    several = len(t.layer.shapes) > 1
    if shared or several or t.layer.kind == "InputLayer":
        t = net.layer("Activation", t, {"activation": "linear"}, shape=t.shape, axes=t.axes)
        t.layer.wish = value.name or "output"
    net.node = None
    earlier.append((t.layer, t.index))
