"""Layers of several inputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor

OPS = {"Add": "Add", "Sum": "Add", "Multiply": "Mul", "Subtract": "Sub", "Maximum": "Max", "Minimum": "Min", "Average": "Add"}


def align(call: Call, xs: Sequence[Tensor]) -> list[Tensor]:
    """All tensors in one order of axes; those of lower rank get axes of length 1 behind the batch, as Keras broadcasts."""
    b = call.b
    top = max(x.rank for x in xs)
    result = []
    for x in xs:
        if x.rank < top:
            x = x.source_order(b)
            x = Tensor.plain(b.op("Unsqueeze", x.value, b.const(list(range(1, 1 + top - x.rank)))))
        result.append(x)
    perms = [x.perm for x in result if x.perm != tuple(range(top))] or [result[0].perm]
    return [x.order(b, perms[0]) for x in result]


@reads("Add", "Multiply", "Subtract", "Maximum", "Minimum", "Average")
def elementwise(call: Call, *xs: Tensor) -> Tensor:
    call.known()
    same = align(call, xs)
    return same[0].like(_fold(call, call.class_name, [x.value for x in same]))


def _fold(call: Call, kind: str, values: Sequence[ir.Value]) -> ir.Value:
    y = values[0]
    for v in values[1:]:
        y = call.b.op(OPS[kind], y, v)
    return call.b.op("Mul", y, call.b.const(1.0 / len(values))) if kind == "Average" else y


@reads("Concatenate")
def concatenate(call: Call, *xs: Tensor) -> Tensor:
    axis = call.axis("axis", "concat_axis", rank=xs[0].rank)
    call.known()
    return concat(call, xs, axis)


def concat(call: Call, xs: Sequence[Tensor], axis: int) -> Tensor:
    """Join along one of the source's axes."""
    if len({x.rank for x in xs}) != 1:
        raise call.refuse("its inputs have different ranks")
    perms = [x.perm for x in xs if x.perm != tuple(range(x.rank))] or [xs[0].perm]
    same = [x.order(call.b, perms[0]) for x in xs]
    if len(same) == 1:
        return same[0]
    return same[0].like(call.b.op("Concat", *(x.value for x in same), axis=same[0].axis(axis)))


@reads("Dot")
def dot(call: Call, x: Tensor, y: Tensor) -> Tensor:
    """Batched product over one axis of each; `normalize` divides by the 2-norms, as a cosine."""
    axes, normalize = call.get("axes", "dot_axes"), call.flag("normalize", default=False)
    call.known()
    pair = call.whole_list("axes", axes, 2, -8, 8)
    b = call.b
    sides = []
    for t, axis in zip((x, y), pair, strict=True):
        t = t.source_order(b)
        if t.rank not in (2, 3):
            raise call.refuse(f"inputs of rank {t.rank} are not read")
        if not -t.rank <= axis < t.rank or axis % t.rank == 0:
            raise call.bad("axes", "an axis of each input, not the first")
        a = axis % t.rank
        value = t.value
        if normalize:
            norm = b.op("ReduceSum", b.op("Mul", value, value), b.const([a]), keepdims=1)
            value = b.op("Div", value, b.op("Sqrt", b.op("Max", norm, b.const(1e-12))))
        sides.append((value, t.rank, a))
    (left, left_rank, left_axis), (right, right_rank, right_axis) = sides
    left = b.op("Unsqueeze", left, b.const([1])) if left_rank == 2 else left if left_axis == 2 else b.op("Transpose", left, perm=[0, 2, 1])
    right = (
        b.op("Unsqueeze", right, b.const([2]))
        if right_rank == 2
        else right
        if right_axis == 1
        else b.op("Transpose", right, perm=[0, 2, 1])
    )
    z = b.op("MatMul", left, right)
    gone = ([1] if left_rank == 2 else []) + ([2] if right_rank == 2 else [])
    if gone == [1, 2]:
        gone = [2]  # Keras keeps one axis of length 1
    return Tensor.plain(b.op("Squeeze", z, b.const(gone)) if gone else z)


@reads("Merge")
def merge(call: Call, *xs: Tensor) -> Tensor:
    """Keras 1's layer of many modes."""
    mode = call.get("mode", default="sum")
    axis = call.axis("concat_axis", rank=xs[0].rank)
    dot_axes = call.get("dot_axes", default=-1)
    call.known("mode_type", "output_shape", "output_shape_type", "output_mask", "output_mask_type", "arguments")
    names = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum"}
    if mode in names:
        same = align(call, xs)
        return same[0].like(_fold(call, names[mode], [x.value for x in same]))
    if mode == "concat":
        return concat(call, xs, axis)
    if mode in ("dot", "cos") and len(xs) == 2:
        call.read.clear()
        inner = Call(
            call.b, call.name, "Dot", {"axes": dot_axes, "normalize": mode == "cos"}, {}, call.generation, call.tf_keras, file=call.file
        )
        joined: Tensor = dot(inner, *xs)
        return joined
    raise call.refuse(f"the merge mode {mode!r} is not read", attribute="mode")
