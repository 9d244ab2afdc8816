"""How much of the input a layer's element sees, and how far apart two neighbours look, axis by axis.

Reference: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, eq. 1 and 2:
the stride is the product of the strides so far, the size grows by (kernel - 1) * dilation * stride of what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import onnx_ir as ir

from niudao.ir.operators import attribute, describe

Shape = tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Field:
    """One spatial axis.

    Attributes:
        size: Pixels of the network's input that one element depends on at most.
        stride: Pixels between two neighbours; 0 where every element sees the whole axis.
    """

    size: int
    stride: float


class Fields:
    """Follows the axes of every value from the graph's inputs on.

    Args:
        model: The model.
        shape_of: Value -> its shape at the batch in question.
    """

    def __init__(self, model: ir.Model, shape_of: Callable[[ir.Value | None], Shape]) -> None:
        self._shape_of = shape_of
        self._axes: dict[int, list[Field | None] | None] = {}
        self._whole: tuple[Field, ...] = ()
        for value in model.graph.inputs:
            shape = shape_of(value)
            if shape is not None and len(shape) >= 3:
                self._axes[id(value)] = [None, None, *[Field(1, 1)] * (len(shape) - 2)]
                whole = tuple(Field(d, 0) for d in shape[2:] if isinstance(d, int))
                if not self._whole and len(whole) == len(shape) - 2:
                    self._whole = whole

    def after(self, node: ir.Node) -> tuple[Field, ...]:
        """Receptive field of a node's outputs; nodes must come in graph order."""
        sources = [self._axes[id(v)] for v in node.inputs if v is not None and id(v) in self._axes]
        if not sources:
            return ()
        result = self._step(node, sources)
        for value in node.outputs:
            self._axes[id(value)] = result
        if result is None:
            return self._whole
        return tuple(f for f in result if f is not None)

    def _step(self, node: ir.Node, sources: list[list[Field | None] | None]) -> list[Field | None] | None:
        """Fields of the output's axes; None once an element sees everything."""
        first = sources[0]
        if first is None or any(s is None for s in sources):
            return None
        family = describe(node)
        if family.kind == "conv" or (family.kind == "pool" and not node.op_type.startswith("Global")):
            return _window(node, first)
        if node.op_type == "Transpose":
            perm = attribute(node, "perm") or list(range(len(first)))[::-1]
            return [first[p] for p in perm] if len(perm) == len(first) else None
        if node.op_type in ("DepthToSpace", "SpaceToDepth"):
            block = int(attribute(node, "blocksize", 1))
            return [_blocks(f, block, node.op_type == "SpaceToDepth") for f in first]
        if node.op_type == "Resize":
            return self._resize(node, first)
        if family.kind in ("elementwise", "softmax", "quantize") or node.op_type in (
            "Concat",
            "Split",
            "Pad",
            "Slice",
            "BatchNormalization",
            "LRN",
        ):
            return _merge([s for s in sources if s is not None])
        return None

    def _resize(self, node: ir.Node, first: list[Field | None]) -> list[Field | None] | None:
        before, after = self._shape_of(node.inputs[0]), self._shape_of(node.outputs[0])
        if before is None or after is None:
            return None
        linear = attribute(node, "mode", "nearest") != "nearest"
        result: list[Field | None] = []
        for f, a, b in zip(first, before, after, strict=True):
            if f is None or not isinstance(a, int) or not isinstance(b, int) or not b:
                result.append(f)
            else:
                result.append(Field(f.size + (ceil(f.stride) if linear and a != b else 0), f.stride * a / b))
        return result


def _window(node: ir.Node, first: list[Field | None]) -> list[Field | None] | None:
    kernel = attribute(node, "kernel_shape")
    if kernel is None and len(node.inputs) > 1:
        weight = node.inputs[3 if node.op_type.startswith("QLinear") else 1]
        kernel = list(weight.shape)[2:] if weight is not None and weight.shape is not None else None
    if kernel is None or len(kernel) != len(first) - 2 or not all(isinstance(k, int) for k in kernel):
        return None
    strides = attribute(node, "strides") or [1] * len(kernel)
    dilations = attribute(node, "dilations") or [1] * len(kernel)
    result: list[Field | None] = [None, None]
    for f, k, s, d in zip(first[2:], kernel, strides, dilations, strict=True):
        if f is None:
            result.append(None)
        elif node.op_type == "ConvTranspose":  # an output element meets ceil(extent / stride) input elements
            result.append(Field(f.size + ceil((ceil(((k - 1) * d + 1) / s) - 1) * f.stride), f.stride / s))
        else:
            result.append(Field(f.size + ceil((k - 1) * d * f.stride), f.stride * s))
    return result


def _blocks(field: Field | None, block: int, gather: bool) -> Field | None:
    if field is None:
        return None
    return Field(field.size + ceil((block - 1) * field.stride), field.stride * block) if gather else Field(field.size, field.stride / block)


def _merge(sources: list[list[Field | None]]) -> list[Field | None]:
    """Axes aligned at the right, as in broadcasting; of two fields the larger."""
    rank = max(len(s) for s in sources)
    result: list[Field | None] = []
    for i in range(rank):
        found = [f for s in sources if i >= rank - len(s) and (f := s[i - rank + len(s)]) is not None]
        result.append(Field(max(f.size for f in found), max(f.stride for f in found)) if found else None)
    return result
