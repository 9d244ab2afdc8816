"""The same blob seen another way: reshapes that undo each other, any run of axes as the rows of a picture, factors inside a Power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from niudao.formats.caffe.emit.graph import Dim, Net, Top
from niudao.ir import card


def reshaped(net: Net, x: Top, target: Sequence[Dim], suffix: str = "_reshape") -> Top:
    """`Net.reshape`, straight from where the numbers came from: of two Reshapes the first one dies if nothing else uses it."""
    target = tuple(target)
    if target == x.shape:
        return x
    origin = x
    while origin.layer.type in ("Reshape", "Flatten") and ours(net, origin):
        origin = replace(origin.layer.bottoms[0], nonnegative=x.nonnegative)
        if origin.shape == target:
            return origin
    if (target[:1] == (None,)) == (origin.shape[:1] == (None,)):
        x = origin
    if target[:1] == x.shape[:1] == (None,) and None not in target[1:]:
        have, want = prod(d or 1 for d in x.shape[1:]), prod(d or 1 for d in target[1:])
        if have != want and (have % want == 0 or want % have == 0):  # whole items join the batch, or leave it
            dims = {"dim": [-1, *(d or 1 for d in target[1:])]}
            y = net.layer("Reshape", x, {"reshape_param": {"shape": dims}}, shape=target, suffix=suffix, nonnegative=x.nonnegative)
            y.layer.node = f"{y.layer.node}/items"  # nothing behind it may take it for a flattening
            return y
    return replace(net.reshape(x, target, suffix), nonnegative=x.nonnegative)


def ours(net: Net, x: Top) -> bool:
    """Whether the layer may be replaced: Caffe's own layers keep their identity, other sources had no such layer."""
    return x.layer.node == net.title() or card.get_source(net.model).get("format") != "caffe"


@dataclass(frozen=True)
class Picture:
    """A run of axes as axes of a blob that 2-D layers take.

    Attributes:
        top: (batch, before, run, after), or the blob itself.
        first: The first axis of the run in `top`.
        last: The last one.
    """

    top: Top
    first: int
    last: int


def picture(net: Net, x: Top, first: int, last: int) -> Picture:
    """Axes first..last of x as rows or columns: as they are in a picture, else (batch, before, run, after)."""
    if x.rank == 4 and first >= 2:
        return Picture(x, first, last)
    batch: Dim = x.shape[0] if first > 0 else 1
    before = prod(d or 1 for d in x.shape[1:first])
    run, after = prod(d or 1 for d in x.shape[first : last + 1]), prod(d or 1 for d in x.shape[last + 1 :])
    return Picture(reshaped(net, x, (batch, before, run, after)), 2, 2)


def pooled(net: Net, p: Picture, operation: str, suffix: str) -> Top:
    """MAX or AVE over the whole run; the run is 1 long then, in the picture."""
    shape = tuple(1 if p.first <= i <= p.last else d for i, d in enumerate(p.top.shape))
    high, wide = ((p.top.shape[i] or 1) if p.first <= i <= p.last else 1 for i in (2, 3))
    params: dict[str, object] = {"pool": operation}
    if shape[2:] == (1, 1):
        params["global_pooling"] = True
    elif high == wide:
        params["kernel_size"] = high
    else:
        params |= {"kernel_h": high, "kernel_w": wide}
    return net.layer("Pooling", p.top, {"pooling_param": params}, shape=shape, suffix=suffix, nonnegative=p.top.nonnegative)


def linear(net: Net, x: Top, scale: float, shift: float, suffix: str = "", nonnegative: bool = False) -> Top:
    """scale * x + shift, in the Power layer that made x where that is one such step already."""
    if (scale, shift) == (1.0, 0.0):
        return x
    before = x.layer.params.get("power_param", {})
    if x.layer.type == "Power" and before.get("power", 1.0) == 1 and before.get("scale", 1.0) != 0 and ours(net, x):
        inner, offset = before.get("scale", 1.0), before.get("shift", 0.0)
        (source,) = x.layer.bottoms
        if (inner * scale, offset * scale + shift) == (1.0, 0.0):
            return source
        return net.power(source, scale=inner * scale, shift=offset * scale + shift, suffix=suffix, nonnegative=nonnegative)
    return net.power(x, scale=scale, shift=shift, suffix=suffix, nonnegative=nonnegative)


def affine(net: Net, x: Top) -> tuple[Top, float, float]:
    """(y, scale, shift) with x = scale * y + shift, looking through a Power that belongs to the node at hand."""
    held = x.layer.params.get("power_param", {})
    if x.layer.type == "Power" and held.get("power", 1.0) == 1 and held.get("scale", 1.0) != 0 and ours(net, x):
        return x.layer.bottoms[0], held.get("scale", 1.0), held.get("shift", 0.0)
    return x, 1.0, 0.0
