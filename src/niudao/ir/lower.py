"""The way back: one node said in the words of an older opset, where these mean exactly the same.

Most of the way is known to ONNX itself: a node fits an opset if the operator's schema of that time knows its attributes,
takes so many inputs and their types. What a schema cannot tell (an input that used to be an attribute, a renamed mode, a
default that changed) stands below, one small function per change, filed under the operator and the opset of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import Refusal, Unsupported, Where
from niudao.ir import OPSET, card
from niudao.ir.validate import subgraphs
from niudao.ir.values import claim, dims, known, rank, set_inputs

OLDEST = 13

Step = Callable[["Lower", ir.Node], "str | None"]
STEPS: dict[str, list[tuple[int, Step]]] = {}
"""Operator -> (opset that changed it, step to before that opset). A step gives a reason where there are no older words."""


def since(opset: int, *ops: str) -> Callable[[Step], Step]:
    """File a step for targets older than `opset`."""

    def decorate(step: Step) -> Step:
        for op in ops:
            STEPS.setdefault(op, []).append((opset, step))
            STEPS[op].sort(key=lambda pair: -pair[0])
        return step

    return decorate


class Lower:
    """A model on its way to an older opset.

    Args:
        model: A copy that may be changed.
        dry: Only ask whether a node can be said; change nothing.
    """

    def __init__(self, model: ir.Model, *, dry: bool) -> None:
        self.model = model
        self.dry = dry
        graphs = (model.graph, *model.graph.subgraphs(), *(f.graph for f in model.functions.values()))
        values = (v for g in graphs for v in (*g.inputs, *g.initializers.values(), *(o for n in g for o in n.outputs)))
        self._taken = set() if dry else {v.name or "" for v in values}

    def const(self, node: ir.Node, array: Any, dtype: Any = np.int64) -> ir.Value:
        """A small constant beside the node."""
        tensor = ir.Tensor(np.asarray(array, dtype))
        name = self._free(f"{node.name or node.op_type.lower()}_lowered")
        holder = node.graph
        if isinstance(holder, ir.Graph) and not any(holder is f.graph for f in self.model.functions.values()):
            value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            tensor.name = name
            holder.register_initializer(value)
            return value
        maker = ir.node("Constant", [], attributes={"value": tensor}, name=name)
        maker.outputs[0].name = name
        if holder is not None:
            holder.insert_before(node, maker)
        return maker.outputs[0]

    def _free(self, name: str) -> str:
        return claim(name, self._taken)


@lru_cache(maxsize=4096)
def schema_of(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """The operator's schema in an opset, None where it does not exist or is withdrawn."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def lower_node(lower: Lower, node: ir.Node, opset: int) -> str | None:
    """Say one node in the words of `opset`; the reason where that cannot be done. With `lower.dry` nothing changes.

    What steps would move away is not held against a dry node.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    schema = schema_of(node.op_type, opset)
    if schema is None:
        first = min((s for s in range(opset, OPSET + 1) if schema_of(node.op_type, s)), default=OPSET)
        return f"exists from opset {first} on"
    stepped = False
    for change, step in STEPS.get(node.op_type, ()):
        if change > opset:
            stepped = True
            reason = step(lower, node)
            if reason is not None:
                return reason
    return _fits(node, schema, opset, moved=stepped and lower.dry, dry=lower.dry)


def _fits(node: ir.Node, schema: onnx.defs.OpSchema, opset: int, *, moved: bool, dry: bool) -> str | None:
    newest = schema_of(node.op_type, OPSET)
    for name, attribute in list(node.attributes.items()):
        if name in schema.attributes or (moved and name in _MOVED):
            continue
        default = newest.attributes[name].default_value if newest is not None and name in newest.attributes else None
        if default is None or not default.name or attribute.is_ref() or onnx.helper.get_attribute_value(default) != _plain(attribute):
            return f"{name} does not exist before a newer opset than {opset}"
        if not dry:
            node.attributes.pop(name)
    given = [v for v in node.inputs if v is not None]
    if not moved and len(node.inputs) > schema.max_input:
        return f"takes {schema.max_input} inputs in opset {opset}, this one has {len(node.inputs)}"
    if len(node.outputs) > schema.max_output:
        return f"gives {schema.max_output} outputs in opset {opset}"
    if moved and len(node.inputs) > schema.max_input:
        given = [v for v in node.inputs[: schema.max_input] if v is not None]
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for i, value in enumerate(values):
            if value is None or value.dtype is None or not formals or (values is node.inputs and value not in given):
                continue
            formal = formals[min(i, len(formals) - 1)]
            text = type_text(value)
            if formal.types and text is not None and text not in formal.types:
                return f"does not take {text} in opset {opset}"
    return None


_MOVED = frozenset({"num_outputs"})


def type_text(value: ir.Value) -> str | None:
    """A tensor type as schemas write it."""
    if not isinstance(value.type, ir.TensorType):
        return None
    name = {"FLOAT": "float", "DOUBLE": "double"}.get(value.type.dtype.name, value.type.dtype.name.lower())
    return f"tensor({name})"


def _plain(attribute: ir.Attr) -> object:
    value = attribute.value
    if attribute.type == ir.AttributeType.STRING:
        return value.encode() if isinstance(value, str) else value
    return list(value) if isinstance(value, (tuple, list)) else value


def constant(node: ir.Node, i: int) -> np.ndarray[Any, Any] | None:
    """The array of a constant input."""
    value = node.inputs[i] if i < len(node.inputs) else None
    array = known(value)
    if array is None and value is not None:
        maker = value.producer()
        if maker is not None and maker.op_type == "Constant" and "value" in maker.attributes and not maker.attributes["value"].is_ref():
            return maker.attributes["value"].as_tensor().numpy()
    return array


def _given(node: ir.Node, i: int) -> bool:
    return i < len(node.inputs) and node.inputs[i] is not None


@since(18, *(f"Reduce{kind}" for kind in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]))
def _axes_as_attribute(lower: Lower, node: ir.Node) -> str | None:
    if not _given(node, 1):
        return None
    axes = constant(node, 1)
    if axes is None:
        return "the axes are computed, and were an attribute before opset 18"
    if axes.size == 0 and node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return "reduces nothing, which cannot be said before opset 18"
    if not lower.dry:
        set_inputs(node, node.inputs[:1])
        node.attributes.pop("noop_with_empty_axes", None)
        if axes.size:
            node.attributes["axes"] = ir.AttrInt64s("axes", [int(a) for a in axes.reshape(-1)])
    return None


@since(18, "Split")
def _sizes(lower: Lower, node: ir.Node) -> str | None:
    if _given(node, 1):
        return None
    size, axis = dims(node.inputs[0]), node.attributes.get_int("axis", 0)
    length = size[axis] if size is not None and -len(size) <= axis < len(size) else None
    count = node.attributes.get_int("num_outputs", len(node.outputs))
    if length is None:
        return "the split axis has no known length, and uneven parts cannot be said before opset 18"
    if not lower.dry:
        node.attributes.pop("num_outputs", None)
        if length % count:
            part = -(-length // count)
            sizes = [part] * (count - 1) + [length - part * (count - 1)]
            set_inputs(node, [node.inputs[0], lower.const(node, sizes)])
    return None


@since(19, "Pad")
def _no_wrap(lower: Lower, node: ir.Node) -> str | None:
    return "mode wrap exists from opset 19 on" if node.attributes.get_string("mode", "constant") == "wrap" else None


@since(18, "Pad")
def _all_axes(lower: Lower, node: ir.Node) -> str | None:
    if not _given(node, 3):
        return None
    pads, axes, n = constant(node, 1), constant(node, 3), rank(node.inputs[0])
    if pads is None or axes is None or n is None:
        return "pads of chosen axes are computed, which cannot be said before opset 18"
    if not lower.dry:
        full, half = [0] * (2 * n), len(axes)
        for i, axis in enumerate(axes):
            full[int(axis) % n], full[n + int(axis) % n] = int(pads[i]), int(pads[half + i])
        set_inputs(node, [node.inputs[0], lower.const(node, full), node.inputs[2]])
    return None


@since(19, "Resize")
def _no_symmetric(lower: Lower, node: ir.Node) -> str | None:
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    return "half_pixel_symmetric exists from opset 19 on" if mode == "half_pixel_symmetric" else None


@since(18, "Resize")
def _resize_all_axes(lower: Lower, node: ir.Node) -> str | None:
    axes = node.attributes.get("axes")
    if axes is None:
        return None
    n, scales = rank(node.inputs[0]), constant(node, 2)
    if n is None or scales is None or _given(node, 1):
        return "the sizes of chosen axes cannot be said before opset 18"
    full = np.ones(n, np.float32)
    for axis, scale in zip(axes.as_ints(), scales, strict=True):
        full[axis] = scale
    if not lower.dry:
        node.attributes.pop("axes")
        set_inputs(node, [node.inputs[0], None, lower.const(node, full, np.float32)])
    return None


@since(20, "GridSample")
def _sampling_names(lower: Lower, node: ir.Node) -> str | None:
    if rank(node.inputs[0]) != 4:
        return "images only, in opsets before 20"
    mode = node.attributes.get_string("mode", "linear")
    if not lower.dry:
        node.attributes["mode"] = ir.AttrString("mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))
    return None


@since(20, "DFT")
def _axis_as_attribute(lower: Lower, node: ir.Node) -> str | None:
    axis = constant(node, 2) if _given(node, 2) else np.asarray(-2)
    n = rank(node.inputs[0])
    if axis is None or n is None:
        return "the axis is computed, and was an attribute before opset 20"
    if not lower.dry:
        set_inputs(node, node.inputs[:2])
        node.attributes["axis"] = ir.AttrInt64("axis", int(axis.reshape(-1)[0]) % n)
    return None


@since(16, "RoiAlign")
def _moved_regions(lower: Lower, node: ir.Node) -> str | None:
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        return "regions are moved by half a pixel from opset 16 on"
    if not lower.dry:
        node.attributes.pop("coordinate_transformation_mode")
    return None


@since(18, "ScatterElements", "ScatterND")
def _no_extremes(lower: Lower, node: ir.Node) -> str | None:
    kind = node.attributes.get_string("reduction", "none")
    return f"reduction {kind} exists from opset 18 on" if kind in ("max", "min") else None


@since(19, "AveragePool")
def _ceil_with_padding(lower: Lower, node: ir.Node) -> str | None:
    """ONNX Runtime divides windows that hang over the edge by another count before opset 19."""
    both = node.attributes.get_int("ceil_mode", 0) and node.attributes.get_int("count_include_pad", 0)
    return "ceil_mode with count_include_pad is counted otherwise before opset 19" if both else None


@since(22, "AveragePool", "MaxPool", "LpPool")
def _windows_in_the_padding(lower: Lower, node: ir.Node) -> str | None:
    """With ceil_mode, a last window that would begin in the padding is left out; older shape rules counted it."""
    size, kernel = dims(node.inputs[0]), node.attributes.get_ints("kernel_shape", ())
    if not node.attributes.get_int("ceil_mode", 0) or size is None or len(size) != len(kernel) + 2:
        return None
    n = len(kernel)
    pads = node.attributes.get_ints("pads", (0,) * (2 * n))
    strides, dilations = (node.attributes.get_ints(k, (1,) * n) for k in ("strides", "dilations"))
    for i, length in enumerate(size[2:]):
        if length is not None:
            reach = (kernel[i] - 1) * dilations[i] + 1
            windows = -(-(length + pads[i] + pads[n + i] - reach) // strides[i]) + 1
            if (windows - 1) * strides[i] >= length + pads[i]:
                return "with ceil_mode the last window begins in the padding, which is counted otherwise before opset 22"
    return None


@since(25, "Attention")
def _scores(lower: Lower, node: ir.Node) -> str | None:
    """The stages that qk_matmul_output_mode names were put in another order."""
    return "the scores are taken at another stage before opset 25" if len(node.outputs) > 3 else None


@since(25, "Attention")
def _padded_keys(lower: Lower, node: ir.Node) -> str | None:
    """ONNX Runtime's kernel for 24 refuses masks that its kernel for 25 takes."""
    return "nonpad_kv_seqlen is understood in full from opset 25 on" if _given(node, 6) else None


@since(21, "GroupNormalization")
def _per_group(lower: Lower, node: ir.Node) -> str | None:
    return "scale and bias are per group before opset 21"


def oldest(model: ir.Model) -> int:
    """The oldest opset from 13 on in which every node of the model means the same."""
    lower = Lower(model, dry=True)
    opset = OLDEST
    for node in nodes(model):
        while opset < OPSET and lower_node(lower, node, opset) is not None:
            opset += 1
    return opset


def nodes(model: ir.Model) -> list[ir.Node]:
    """Every node: main graph, subgraphs and functions."""
    found: list[ir.Node] = []
    stack: list[ir.Node] = [*model.graph, *(n for f in model.functions.values() for n in f)]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(n for g in subgraphs(node) for n in g)
    return found


def lowered(model: ir.Model, opset: int, where: Where | None = None) -> ir.Model:
    """A copy of the model at an older opset; weights are shared.

    Raises:
        Unsupported: Nodes that this opset cannot express, all of them.
    """
    copy = model.clone()
    lower = Lower(copy, dry=False)
    refused = []
    if opset < OPSET:
        for node in nodes(copy):
            reason = lower_node(lower, node, opset)
            if reason is not None:
                refused.append(Refusal(card.layer_of(node), node.op_type, reason))
    if refused:
        raise Unsupported(f"ONNX opset {opset}", refused, where=where, next="leave the opset out")
    copy.opset_imports[""] = opset
    for function in copy.functions.values():
        if "" in function.opset_imports:
            function.opset_imports[""] = opset
    _drop_unused_constants(copy)
    copy.ir_version = ir_version(opset, functions=bool(copy.functions))
    if not copy.producer_name or copy.producer_name == "unknown":
        copy.producer_name = "niudao"
    return copy


def ir_version(opset: int, *, functions: bool) -> int:
    """The IR version that came with an opset; functions need 8. Runtimes refuse versions newer than they know."""
    version = int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))
    return max(version, 8 if functions else 4)


def _drop_unused_constants(model: ir.Model) -> None:
    """Weights that nothing reads any more, now that an attribute says it."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
