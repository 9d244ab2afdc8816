"""Padding, in torch's order: pairs of the last axis first; negative amounts cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.cut import cut
from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padded(c: Lowering, x: ir.Value, amounts: Sequence[Number], mode: str, value: Any = None) -> ir.Value:
    """x with these amounts around its last axes.

    Args:
        x: Any tensor.
        amounts: Begin and end of the last axis, of the one before it, ...
        mode: torch's word: constant, reflect, replicate, circular.
        value: What constant padding holds; None is zero.
    """
    if mode not in MODES:
        c.refuse(f"padding of mode {mode!r}", "mode")
    rank = c.rank(x)
    if len(amounts) % 2 or len(amounts) > 2 * rank:
        c.refuse(f"{len(amounts)} amounts for {rank} axes", "pad")
    begins: list[Number] = [0] * rank
    ends: list[Number] = [0] * rank
    for i in range(len(amounts) // 2):
        begins[rank - 1 - i], ends[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    # torch pads first and cuts then; the order matters only where one axis does both, and then only for reflect and circular
    for axis in range(rank):
        b, e = begins[axis], ends[axis]
        less_b = -b if isinstance(b, int) and b < 0 else 0
        less_e = -e if isinstance(e, int) and e < 0 else 0
        if less_b or less_e:
            if mode != "constant" and ((less_b and e and not less_e) or (less_e and b and not less_b)):
                c.refuse(f"{mode} padding that cuts one end of an axis and pads the other", "pad")
            x = cut(c, x, axis, less_b, c.size(x, axis) - less_e)
            begins[axis], ends[axis] = (0 if less_b else b), (0 if less_e else e)
    if all(isinstance(n, int) and n == 0 for n in (*begins, *ends)):
        return x
    fill = None
    if mode == "constant" and (isinstance(value, (ir.Value, Sym)) or value):
        fill = c.tensor(value, x)
    axes = None if all(isinstance(n, int) for n in (*begins, *ends)) else c.const(list(range(rank)))
    return c.shaped(
        c.op("Pad", x, c.vector([*begins, *ends]), fill, axes, mode=MODES[mode]),
        [n + b + e for n, b, e in zip(c.shape(x), begins, ends, strict=True)],
    )


@aten("aten.pad")
def pad(c: Lowering, self: ir.Value, pad: Sequence[Number], mode: str = "constant", value: float | None = None) -> ir.Value:
    return padded(c, self, pad, mode, value)


@aten("aten.constant_pad_nd")
def constant_pad_nd(c: Lowering, self: ir.Value, pad: Sequence[Number], value: float = 0) -> ir.Value:
    return padded(c, self, pad, "constant", value)


@aten("aten.reflection_pad1d", "aten.reflection_pad2d", "aten.reflection_pad3d")
def reflection_pad(c: Lowering, self: ir.Value, padding: Sequence[Number]) -> ir.Value:
    return padded(c, self, padding, "reflect")


@aten("aten.replication_pad1d", "aten.replication_pad2d", "aten.replication_pad3d")
def replication_pad(c: Lowering, self: ir.Value, padding: Sequence[Number]) -> ir.Value:
    return padded(c, self, padding, "replicate")


@aten("aten._pad_circular")
def pad_circular(c: Lowering, self: ir.Value, pad: Sequence[Number]) -> ir.Value:
    return padded(c, self, pad, "circular")


@aten("aten._pad_enum")
def pad_enum(c: Lowering, self: ir.Value, pad: Sequence[Number], mode: int, value: float | None = None) -> ir.Value:
    return padded(c, self, pad, list(MODES)[mode], value)
