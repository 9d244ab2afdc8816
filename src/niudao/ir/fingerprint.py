"""Same network, whatever the file: two hashes that do not see names or order.

The canonicalisation is called `niudao-1`:

    names, documentation and metadata do not count, and neither does the order of nodes;
    attributes are filled with ONNX's defaults (and strides, dilations, pads and kernel_shape of windows written out);
    Identity and inference Dropout are looked through, a Constant node is a weight;
    inputs of commuting operators are sorted; nodes that no output needs are left out;
    free dimensions are equal to each other, fixed ones are not.

A value's hash is taken from its operator, attributes and the hashes of its inputs (a Merkle tree over the graph).
Equal fingerprints promise equal networks; different ones promise nothing: numerical sameness is for `compare` to say.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from niudao.ir import wire
from niudao.ir.operators import defaults, describe, dims

CANONICAL = "niudao-1"

_SMALL = 4096


@dataclass(frozen=True)
class Fingerprint:
    """What a network is.

    Attributes:
        topology: Operators, attributes, connections and shapes; 64 hexadecimal digits.
        weights: The same with the content of every weight.
    """

    topology: str
    weights: str


def fingerprint(model: ir.Model) -> Fingerprint:
    """Both fingerprints of a model. Weights are read one by one and not kept."""
    topology, weights = _Hasher(model, contents=False), _Hasher(model, contents=True)
    return Fingerprint(topology.whole(), weights.whole())


def node_fingerprints(model: ir.Model, *, weights: bool = False) -> dict[str, str]:
    """Name of every node of the main graph -> hash of all that it computes, from the graph's inputs on.

    Two nodes share a hash only where they compute the same from the same (parallel twins; with `weights` only true ones).
    """
    hasher = _Hasher(model, contents=weights)
    hasher.graph(model.graph, {})
    return {name: h for name, h in hasher.nodes.items() if name}


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class _Hasher:
    """One walk over a model."""

    def __init__(self, model: ir.Model, *, contents: bool) -> None:
        self.model = model
        self.contents = contents
        self.nodes: dict[str, str] = {}
        self._tensors: dict[int, str] = {}
        self._functions: dict[Any, str] = {}

    def whole(self) -> str:
        functions = sorted((f.domain, f.name, self._function(f)) for f in self.model.functions.values())
        return _digest(CANONICAL, functions, self.graph(self.model.graph, {}))

    def _function(self, function: ir.Function) -> str:
        env = {id(v): _digest("argument", i) for i, v in enumerate(function.inputs)}
        for node in function:
            self._node(node, env, inner=True)
        return _digest([env.get(id(v), "") for v in function.outputs])

    def graph(self, graph: ir.Graph, outer: dict[int, str], depth: int = 0) -> str:
        env = dict(outer)
        heads = []
        for i, value in enumerate(graph.inputs):
            heads.append(("input", depth, i, str(value.dtype), dims(value)))
            env[id(value)] = _digest(*heads[-1])
        for node in graph:
            self._node(node, env, inner=depth > 0, depth=depth)
        return _digest(heads, [self._value(v, env, None, 0) for v in graph.outputs])

    def _node(self, node: ir.Node, env: dict[int, str], *, inner: bool, depth: int = 0) -> None:
        if node.op_type in ("Identity", "Dropout") and node.domain == "" and node.inputs and node.inputs[0] is not None:
            env[id(node.outputs[0])] = self._value(node.inputs[0], env, node, 0)
            own = env[id(node.outputs[0])]
        elif node.op_type == "Constant" and node.outputs[0].const_value is not None:
            own = env[id(node.outputs[0])] = self._tensor(node.outputs[0].const_value, weight=False)
        else:
            used = [self._value(v, env, node, i) if v is not None else "" for i, v in enumerate(node.inputs)]
            while used and used[-1] == "":
                used.pop()
            if describe(node).commutes:
                used.sort()
            own = _digest(node.domain, node.op_type, self._attributes(node, env, depth), used)
            for i, value in enumerate(node.outputs):
                env[id(value)] = _digest(own, i)
        if not inner:
            self.nodes[node.name or ""] = own

    def _value(self, value: ir.Value, env: dict[int, str], node: ir.Node | None, position: int) -> str:
        if value.const_value is not None and not value.is_graph_input() and value.producer() is None:
            return self._tensor(value.const_value, weight=node is not None and position in describe(node).weights)
        return env.get(id(value), "")

    def _tensor(self, tensor: ir.TensorProtocol, *, weight: bool) -> str:
        """Integers and single numbers are part of the topology, unless they are an operator's weights."""
        head = ("tensor", tensor.dtype.name, [int(d) for d in tensor.shape])  # type: ignore[arg-type]
        fixed = tensor.size <= _SMALL and tensor.dtype.is_integer() and not weight
        if not (self.contents or fixed or (tensor.size == 1 and not weight)):
            return _digest(*head)
        if id(tensor) not in self._tensors:
            if tensor.dtype == ir.DataType.STRING:
                raw: Any = repr(tensor.numpy().tolist()).encode()
            else:
                raw = wire.raw_bytes(tensor)
            self._tensors[id(tensor)] = hashlib.sha256(raw).hexdigest()
        return _digest(*head, self._tensors[id(tensor)])

    def _attributes(self, node: ir.Node, env: dict[int, str], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = dict(defaults(node.op_type)) if node.domain == "" else {}
        for name, attribute in node.attributes.items():
            if attribute.is_ref():
                plain[name] = ("ref", attribute.ref_attr_name)
            elif attribute.type == ir.AttributeType.GRAPH:
                plain[name] = self.graph(attribute.as_graph(), env, depth + 1)
            elif attribute.type == ir.AttributeType.GRAPHS:
                plain[name] = [self.graph(g, env, depth + 1) for g in attribute.as_graphs()]
            elif attribute.type == ir.AttributeType.TENSOR:
                plain[name] = self._tensor(attribute.as_tensor(), weight=False)
            else:
                plain[name] = list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value
        kind = describe(node).kind
        if kind in ("conv", "pool") and not node.op_type.startswith("Global") and node.domain == "":
            _write_out_window(node, plain)
        return plain


def _write_out_window(node: ir.Node, plain: dict[str, Any]) -> None:
    """Strides and the like have no default in ONNX's schemas because their length is the input's rank."""
    kernel = dims(node.inputs[1]) if describe(node).kind == "conv" and len(node.inputs) > 1 else None
    if kernel is not None and "kernel_shape" not in plain:
        plain["kernel_shape"] = kernel[2:]
    rank = len(plain.get("kernel_shape") or ())
    for name, value in (("strides", 1), ("dilations", 1)):
        plain.setdefault(name, [value] * rank)
    if plain.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        plain["auto_pad"] = "NOTSET"
        plain.setdefault("pads", [0] * (2 * rank))
