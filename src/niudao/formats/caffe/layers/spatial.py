"""What layers of several families need: settings per spatial axis, bounds on sizes, reshapes that keep the batch free."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from niudao.formats.caffe.layers.call import HIGHEST, Call
from niudao.formats.protobuf.message import Message

MOST = 1 << 28
"""Numbers that one value, or one constant, may hold for a batch of one."""

WRITTEN = 1 << 22
"""Numbers of a constant that no file gave and that is made while reading."""


def bounded(call: Call, sizes: Sequence[int | None], key: str, most: int = MOST) -> None:
    """Refuse sizes that nobody means before anything of them is built.

    Raises:
        InvalidModel: A size below one, or more than `most` numbers in all.
    """
    known = [d for d in sizes if d is not None]
    if any(d < 1 for d in known) or prod(known) > most:
        raise call.bad(key, f"sizes from 1 on, at most {most} numbers", known)


def each_axis(call: Call, part: Message, name: str, count: int, default: int | None, *, low: int = 1, short: str = "") -> list[int]:
    """A setting of a convolution for each of `count` spatial axes: said once for all, once for each, or as `_h` and `_w`.

    Args:
        call: The layer.
        part: Its ConvolutionParameter.
        name: "kernel_size", "stride", "pad", "dilation".
        count: How many spatial axes there are.
        default: Value where nothing is said; None if something must be.
        low: Smallest value.
        short: What `_h` and `_w` hang on; only two spatial axes have them.

    Raises:
        InvalidModel: Missing, too small, or as many values as no reading explains.
    """
    if short and (part.has(f"{short}_h") or part.has(f"{short}_w")):
        if count != 2:
            raise call.bad(f"{short}_h", f"{name}, because there are {count} spatial axes", f"{short}_h or {short}_w")
        return list(call.pair(part, name, short, default, low))
    found = [int(v) for v in part.all(name)]
    if not found and default is not None:
        found = [default]
    if len(found) not in (1, count) or any(not low <= v < HIGHEST for v in found):
        raise call.bad(name, f"1 or {count} numbers from {low} on", found or "nothing")
    return found * count if len(found) == 1 else found


def reshape(call: Call, x: ir.Value, sizes: Sequence[int | None], source: ir.Value | None = None) -> ir.Value:
    """Reshape to `sizes`; None, which may be the first only, stands for the free batch of `source`, else of `x`.

    The shape of the result is written down with the batch's own name, which ONNX's rule for -1 would lose.
    """
    y = call.b.op("Reshape", x, call.b.const([-1 if d is None else d for d in sizes], "int64"))
    batch = (source if source is not None else x).shape
    if sizes and sizes[0] is None and batch is not None and len(batch):
        y.shape = ir.Shape([batch[0], *(d for d in sizes[1:] if d is not None)])
    return y


def leading(call: Call, x: ir.Value, axis: int) -> list[int | None]:
    """Sizes before `axis`; only the first of them may be free.

    Raises:
        InvalidModel: Another one is unknown.
    """
    if axis > 1:
        call.sizes(x)
    return call.dims(x)[:axis]
