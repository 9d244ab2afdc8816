"""What a network costs: parameters, multiply-adds, bytes, memory of activations, receptive field, layer by layer.

The counting rule, the same for every format:

    parameters   floating-point (or quantised) weights: those that ONNX's operators name as such (kernels, biases, scales,
                 slopes, tables) and constants of more than one element that elementwise operators use. Shared weights count
                 once, at the first layer that uses them. Running means and variances of BatchNormalization are no
                 parameters: they are `statistics`. A recurrent layer's second bias counts unless it is all zeros.
    MACs         one multiplication with its addition, of Conv, ConvTranspose, Gemm, MatMul, RNN, LSTM, GRU, Attention and
                 their quantised forms; positions that fall on padding count, biases do not.
    other_ops    everything else that computes, roughly: one per element and operand of elementwise operators, per element
                 of a pooling window, per input element of a reduction, two per element of a normalisation, one per bias.
    bytes        `bytes_moved`: what a layer reads (inputs and weights) and writes, once each; views such as Reshape move
                 nothing. `activation_bytes`: what it writes. `peak_bytes`: the largest sum of activations alive at once when
                 nodes run in graph order, each activation freed after its last use.
    receptive field   size and stride in input pixels for each spatial axis, by the recurrence of Araujo, Norris and Sim,
                 "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019. Where branches meet, the larger.

Operators without a rule are listed in `uncounted`; totals are then lower bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute, describe, dims
from niudao.ir.receptive import Field, Fields
from niudao.ir.validate import subgraphs

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
_FREE = ("Constant", "Shape", "Size")
_BODIES = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True)
class LayerCost:
    """One node.

    Attributes:
        name: The source layer's name.
        node: The node's name.
        op: Operator.
        output_shape: Shape of the first output at the batch that was counted; a string or None where unknown.
        params: Parameters that belong to this layer.
        macs: Multiply-adds; None where there is no rule or no shape.
        other_ops: Operations besides.
        bytes_moved: Bytes read and written.
        activation_bytes: Bytes written.
        receptive_field: One entry per spatial axis; empty where the notion does not apply.
    """

    name: str
    node: str
    op: str
    output_shape: tuple[int | str | None, ...]
    params: int
    macs: int | None
    other_ops: int
    bytes_moved: int
    activation_bytes: int
    receptive_field: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Cost:
    """The whole network.

    Attributes:
        batch: Images at once that were counted.
        layers: One row per node, in graph order.
        params: Parameters, shared ones once.
        statistics: Running means and variances.
        weight_bytes: Bytes of all weights.
        macs: Multiply-adds; a lower bound if `uncounted` is not empty.
        other_ops: Operations besides.
        bytes_moved: Bytes that layers read and write.
        activation_bytes: Bytes that layers write.
        peak_bytes: Largest sum of activations alive at once.
        uncounted: "operator: reason" of what the totals lack.
    """

    batch: int
    layers: tuple[LayerCost, ...]
    params: int
    statistics: int
    weight_bytes: int
    macs: int
    other_ops: int
    bytes_moved: int
    activation_bytes: int
    peak_bytes: int
    uncounted: tuple[str, ...] = ()

    def macs_text(self) -> str:
        """The multiply-adds with thousands separated, and ">= " before them where some could not be counted."""
        return f"{'>= ' if self.uncounted else ''}{self.macs:,}"


def cost(model: ir.Model, batch: int = 1) -> Cost:
    """Count.

    Args:
        model: A model whose values have shapes.
        batch: Images at once, for a free batch axis; a fixed one is counted as it is.

    Returns:
        The costs, layer by layer and in all.
    """
    names = _batch_names(model)
    fixed = [d[0] for v in model.graph.inputs if (d := dims(v)) and d[0] is not None]
    if not names and fixed:
        batch = fixed[0] or batch
    sizes = _Sizes(names, batch)
    fields = Fields(model, sizes.of)
    owned: set[int] = set()
    rows, uncounted, statistics = [], [], 0
    for node in model.graph:
        params, running = _params(node, owned)
        statistics += running
        shape = sizes.of(node.outputs[0]) if node.outputs else ()
        macs, other, reason = _work(node, sizes)
        if reason:
            uncounted.append(f"{node.op_type}: {reason}")
        written = sum(sizes.nbytes(v) for v in node.outputs)
        read = sum(sizes.nbytes(v) for v in dict.fromkeys(node.inputs) if v is not None)
        view = node.op_type in _VIEWS or node.op_type in _FREE
        rows.append(
            LayerCost(
                name=card.layer_of(node),
                node=node.name or "",
                op=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
                output_shape=tuple(shape or ()),
                params=params,
                macs=macs,
                other_ops=other,
                bytes_moved=0 if view else read + written,
                activation_bytes=0 if view else written,
                receptive_field=fields.after(node),
            )
        )
    return Cost(
        batch=batch,
        layers=tuple(rows),
        params=sum(r.params for r in rows),
        statistics=statistics,
        weight_bytes=sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None),
        macs=sum(r.macs or 0 for r in rows),
        other_ops=sum(r.other_ops for r in rows),
        bytes_moved=sum(r.bytes_moved for r in rows),
        activation_bytes=sum(r.activation_bytes for r in rows),
        peak_bytes=peak_bytes(model.graph, sizes.nbytes),
        uncounted=tuple(dict.fromkeys(uncounted)),
    )


def _batch_names(model: ir.Model) -> set[str]:
    """Names of the free first axes of the graph's inputs."""
    return {
        d.value for v in model.graph.inputs if v.shape is not None and len(v.shape) and not isinstance(d := v.shape[0], int) and d.value
    }


class _Sizes:
    """Shapes and bytes of values once the batch is fixed."""

    def __init__(self, names: set[str], batch: int) -> None:
        self._bindings = {n: batch for n in names}

    def of(self, value: ir.Value | None) -> tuple[int | str | None, ...] | None:
        if value is None or value.shape is None:
            return None
        found: list[int | str | None] = []
        for d in value.shape:
            name = None if isinstance(d, int) else d.value
            found.append(d if isinstance(d, int) else self._bindings.get(name or "", name))
        if all(isinstance(d, int) for d in found):
            return tuple(found)
        try:  # expressions such as 2*batch
            evaluated = value.shape.evaluate(self._bindings)
        except (ValueError, TypeError, KeyError):
            return tuple(found)
        return tuple(e if isinstance(e, int) else f for e, f in zip(evaluated, found, strict=True))

    def count(self, value: ir.Value | None) -> int | None:
        """Elements, None where unknown."""
        shape = self.of(value)
        if shape is None:
            return None
        total = 1
        for d in shape:
            if not isinstance(d, int):
                return None
            total *= d
        return total

    def nbytes(self, value: ir.Value) -> int:
        count = self.count(value)
        dtype = value.dtype
        if count is None or dtype is None or dtype == ir.DataType.STRING:
            return 0
        return (count * dtype.bitwidth + 7) // 8


def _params(node: ir.Node, owned: set[int]) -> tuple[int, int]:
    """Parameters and running statistics of a node that no earlier node had."""
    family = describe(node)
    params = statistics = 0
    for i, value in enumerate(node.inputs):
        if value is None or value.const_value is None or value.is_graph_input() or id(value) in owned:
            continue
        named, tensor = i in family.weights, value.const_value
        quantised = (node.op_type == "DequantizeLinear" and i == 0) or (node.op_type == "QLinearConv" and i == 3)
        if not (named or quantised) and (tensor.size <= 1 or not tensor.dtype.is_floating_point() or family.kind in ("quantize", "shape")):
            continue
        owned.add(id(value))
        if node.op_type == "BatchNormalization" and i > 2:
            statistics += tensor.size
        elif family.kind == "recurrent" and i == 3:
            params += _recurrent_bias(tensor)
        else:
            params += tensor.size
    return params, statistics


def _recurrent_bias(tensor: ir.TensorProtocol) -> int:
    """ONNX keeps two biases, most frameworks one: a second one of zeros is no parameter."""
    bias = np.asarray(tensor.numpy())
    second = bias[..., bias.shape[-1] // 2 :]
    return int(bias.size if second.any() else bias.size // 2)


def _work(node: ir.Node, sizes: _Sizes) -> tuple[int | None, int, str]:
    """MACs, other operations, and why they could not be counted."""
    if node.domain not in ("", "ai.onnx"):
        return None, 0, f"no rule for the domain {node.domain}"
    if node.op_type in _BODIES or subgraphs(node):
        return None, 0, "how often its body runs is not known"
    kind = describe(node).kind
    if kind in ("conv", "matrix", "recurrent") or node.op_type == "Attention":
        macs = _macs(node, sizes)
        if macs is None:
            return None, 0, "a shape is not known" if node.op_type not in ("Einsum",) else "no rule"
        bias = node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.inputs) > 2 and node.inputs[2] is not None
        return macs, (sizes.count(node.outputs[0]) or 0) if bias else 0, ""
    if kind == "shape" and node.op_type != "Resize":
        return 0, 0, ""
    if kind == "other":
        return None, 0, "no rule"
    counted = sizes.count(node.outputs[0])
    source = sizes.count(node.inputs[0]) if node.inputs else counted
    if counted is None or source is None:
        return 0, 0, "a shape is not known"
    if kind == "pool":
        window = prod(attribute(node, "kernel_shape") or ())
        return 0, source if node.op_type.startswith("Global") else counted * window, ""
    if kind in ("reduction", "softmax"):
        return 0, source, ""
    if kind == "normalization":
        return 0, 2 * source, ""
    if node.op_type in _VIEWS:
        return 0, 0, ""
    return (
        0,
        counted * max(1, len([v for v in node.inputs if v is not None]) - 1 if kind == "elementwise" and node.op_type != "Clip" else 1),
        "",
    )


def _ints(shape: tuple[int | str | None, ...] | None) -> list[int] | None:
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return [d for d in shape if isinstance(d, int)]


def _macs(node: ir.Node, sizes: _Sizes) -> int | None:
    second = 3 if node.op_type.startswith("QLinear") else 1
    x, y = _ints(sizes.of(node.inputs[0])), _ints(sizes.of(node.outputs[0]))
    w = _ints(sizes.of(node.inputs[second])) if len(node.inputs) > second else None
    if node.op_type == "DeformConv":
        w = _ints(sizes.of(node.inputs[1]))
    if x is None or w is None:
        return None
    if node.op_type == "ConvTranspose":
        return prod(x) * prod(w[1:])
    if describe(node).kind == "conv":
        return prod(y) * prod(w[1:]) if y is not None else None
    if node.op_type == "Gemm":
        return prod(x) * (w[0] if attribute(node, "transB", 0) else w[1])
    if "MatMul" in node.op_type:
        return prod(y) * x[-1] if y is not None and x else None
    if node.op_type == "Attention":
        return _attention(node, x, w, sizes)
    if describe(node).kind == "recurrent":
        r = _ints(sizes.of(node.inputs[2]))
        steps, batch = (x[1], x[0]) if attribute(node, "layout", 0) else (x[0], x[1])
        return steps * batch * (prod(w) + prod(r)) if r is not None else None
    return None


def _attention(node: ir.Node, q: list[int], k: list[int], sizes: _Sizes) -> int | None:
    """Q times K, then the weights times V."""
    v = _ints(sizes.of(node.inputs[2])) if len(node.inputs) > 2 else None
    if v is None or (len(node.inputs) > 4 and node.inputs[4] is not None):
        return None
    if len(q) == 4:
        return q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])
    heads: Any = attribute(node, "q_num_heads")
    groups: Any = attribute(node, "kv_num_heads")
    return q[0] * q[1] * k[1] * (q[2] + v[2] // groups * heads) if heads and groups else None


def peak_bytes(graph: ir.Graph, nbytes: Any) -> int:
    """Largest sum of activations alive at once, in graph order; views share their input's memory."""
    root: dict[int, int] = {}
    size: dict[int, int] = {}
    last: dict[int, int] = {}
    order = list(graph)

    def name(value: ir.Value) -> int:
        return root.get(id(value), id(value))

    for value in graph.inputs:
        size[id(value)] = nbytes(value)
        last[id(value)] = -1
    for i, node in enumerate(order):
        used = [v for v in node.inputs if v is not None] + [
            v for g in subgraphs(node) for n in g.all_nodes() for v in n.inputs if v is not None
        ]
        for value in used:
            if name(value) in size:
                last[name(value)] = i
        if node.op_type in _VIEWS and node.inputs[0] is not None and name(node.inputs[0]) in size:
            root[id(node.outputs[0])] = name(node.inputs[0])
            continue
        for value in node.outputs:
            size[id(value)] = nbytes(value)
            last[id(value)] = i
    for value in graph.outputs:
        last[name(value)] = len(order)
    alive = sum(size[id(v)] for v in graph.inputs)
    ends: dict[int, list[int]] = {}
    for key, i in last.items():
        ends.setdefault(i, []).append(key)
    alive -= sum(size.get(k, 0) for k in ends.get(-1, []))
    peak = alive
    for i, node in enumerate(order):
        alive += sum(size[id(v)] for v in node.outputs if id(v) not in root)
        peak = max(peak, alive)
        alive -= sum(size.get(k, 0) for k in ends.get(i, []))
    return peak
