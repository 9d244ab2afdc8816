"""Windows along one axis, and what convolutions and poolings of every kind say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.ir.operators import attribute


@dataclass(frozen=True)
class Window:
    """Windows along one axis: number i looks at i * stride - before + dilation * (0 ... kernel - 1).

    Attributes:
        size: Size of the axis.
        kernel: Elements of a window.
        stride: Distance between windows.
        dilation: Distance between the elements of a window.
        before: Padding in front.
        after: Padding behind, as the operator says it.
        out: How many windows there are.
        zeros: How much of the padding in front and behind are zeros that a Pad node put there, elements like any other.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int
    zeros: tuple[int, int] = (0, 0)

    @property
    def extent(self) -> int:
        """Size of a window with its gaps."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def reach(self) -> int:
        """How far the last window looks behind the axis; below zero where it ends before."""
        return (self.out - 1) * self.stride + self.extent - self.before - self.size

    @property
    def shift(self) -> int:
        """Windows to put in front of the first one, so that as much padding there as behind is enough."""
        return max(0, -(-(self.reach - self.before) // self.stride))


def windows(net: Net, node: ir.Node, x: Top, kernel: Sequence[int]) -> list[Window]:
    """The windows of a convolution or pooling along each spatial axis; zeros still to be put around x are part of the padding."""
    count = len(kernel)
    sizes, out = [d or 0 for d in x.shape[2:]], [d or 0 for d in net.dims(node.outputs[0])[2:]]
    if len(sizes) != count or len(out) != count:
        refuse(f"its kernel has {count} axes and its input {len(sizes)}")
    strides, dilations = list(attribute(node, "strides") or [1] * count), list(attribute(node, "dilations") or [1] * count)
    given, auto = list(attribute(node, "pads") or [0] * 2 * count), attribute(node, "auto_pad", "NOTSET")
    if min([*kernel, *strides, *dilations]) < 1:
        refuse("its kernel, strides or dilations are below one")
    found = []
    for i in range(count):
        zeros = x.pads[2 + i] if x.pads is not None else (0, 0)
        before, after = int(given[i]), int(given[count + i])
        if auto == "VALID":
            before = after = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            reach = int(dilations[i]) * (int(kernel[i]) - 1) + 1
            total = max((out[i] - 1) * int(strides[i]) + reach - sizes[i] - sum(zeros), 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        if before < 0 or after < 0:
            refuse("its padding is negative", "pads", "cut the input by a Slice")
        dilation = int(dilations[i]) if kernel[i] > 1 else 1
        found.append(Window(sizes[i], int(kernel[i]), int(strides[i]), dilation, before + zeros[0], after + zeros[1], out[i], zeros))
    return found


def plain(x: Top) -> Top:
    """The blob without the zeros that are still to be put around it."""
    return Top(x.layer, x.index, x.shape, nonnegative=x.nonnegative)


def spelled(long: str, short: str, values: Sequence[int], default: int | None = None) -> dict[str, Any]:
    """A setting as people write it: once for all axes, as `_h` and `_w` for two, else once for each.

    Args:
        long: Name of the repeated field, "" where only `_h` and `_w` exist.
        short: What `_h` and `_w` hang on.
        values: One number an axis.
        default: What need not be said.
    """
    if all(v == default for v in values):
        return {}
    if len(set(values)) == 1:
        return {long: [values[0]]}
    if len(values) == 2 and short:
        return {f"{short}_h": values[0], f"{short}_w": values[1]}
    return {long: list(values)}


def cropped(net: Net, x: Top, starts: Sequence[int], sizes: Sequence[int]) -> Top:
    """A piece of the spatial axes."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), start=2):
        x = net.piece(x, axis, start, start + size, f"_crop{axis}")
    return x
