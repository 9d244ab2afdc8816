"""Cutting and padding: Slice and Concat, constants made from the data itself so that they follow its batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from niudao.formats.caffe.emit.graph import Net, Top, refuse


def padded(net: Net, x: Top, pads: Sequence[tuple[int, int]], value: float) -> Top:
    """A blob with a constant around it.

    Args:
        net: The network.
        x: The blob.
        pads: (before, after) for every axis; below zero cuts.
        value: What stands there.

    Raises:
        Refused: The free batch is padded, or the value is not finite.
    """
    if any(p > 0 for pair in pads for p in pair) and not math.isfinite(value):
        refuse(f"it pads with {value}", "constant_value")
    for axis, (before, after) in enumerate(pads):
        size = x.shape[axis]
        if (before, after) == (0, 0):
            continue
        if size is None:
            refuse("it pads the batch", "pads", "fix the batch (--batch)")
        if before < 0 or after < 0:
            start, end = max(0, -before), size - max(0, -after)
            if start >= end:
                refuse("it cuts everything away", "pads")
            x = net.piece(x, axis, start, end)
        before, after = max(0, before), max(0, after)
        most = max(before, after)
        if most == 0:
            continue
        block = filled(net, x, axis, most, value)
        parts = []
        if before:
            parts.append(net.piece(block, axis, 0, before, "_pad_slice"))
        parts.append(x)
        if after:
            parts.append(net.piece(block, axis, 0, after, "_pad_slice") if after != before else (parts[0] if before else block))
        x = net.concat(parts, axis, "_pad")
    return x


def filled(net: Net, x: Top, axis: int, width: int, value: float) -> Top:
    """A constant blob, like x but `width` wide along an axis."""
    size = x.shape[axis] or 0
    block = net.power(net.piece(x, axis, 0, min(width, size), "_border"), scale=0.0, shift=value, suffix="_value", nonnegative=value >= 0)
    if width > size:
        block = tiled(net, block, axis, -(-width // size), "_border_tile")
        block = net.piece(block, axis, 0, width, "_border_slice")
    return block


def tiled(net: Net, x: Top, axis: int, times: int, suffix: str = "_tile") -> Top:
    """A blob several times behind itself along an axis."""
    size = x.shape[axis]
    if times == 1:
        return x
    if size is None:
        refuse("it repeats the free batch", rewrite="fix the batch (--batch)")
    params = {"tiles": times} if axis == 1 else {"axis": axis, "tiles": times}
    shape = (*x.shape[:axis], size * times, *x.shape[axis + 1 :])
    return net.layer("Tile", x, {"tile_param": params}, shape=shape, suffix=suffix, nonnegative=x.nonnegative)
