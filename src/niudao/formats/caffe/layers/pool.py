"""Pooling, with Caffe's own rounding, and SPP, which is made of it.

    out = ceil((in + 2 pad - kernel) / stride) + 1; one less where any axis pads and the last window began behind the image and its pad.
    MAX  the largest element of the window inside the image; -FLT_MAX where there is none
    AVE  the sum over the image, divided by the window's size inside the image and its pad

Source: BVLC Caffe, pooling_layer.cpp, pooling_layer.cu (STOCHASTIC at test time), spp_layer.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import WRITTEN, bounded
from niudao.formats.protobuf.message import Message

LOWEST = float(np.finfo(np.float32).min)
TINY = float(np.finfo(np.float32).tiny)
HIGHEST_PYRAMID = 12
"""Levels of an SPP: the finest of them has 2048 x 2048 bins."""


@dataclass(frozen=True)
class Pool:
    """The windows along one axis.

    Attributes:
        size: Size of the axis.
        kernel: Size of a window.
        stride: Distance between windows.
        pad: Padding at either end.
        out: How many windows there are.
    """

    size: int
    kernel: int
    stride: int
    pad: int
    out: int

    @property
    def over(self) -> int:
        """How far the last window reaches over the padded axis; negative where it ends before."""
        return (self.out - 1) * self.stride + self.kernel - self.size - 2 * self.pad

    @property
    def end(self) -> int:
        """Padding behind, so that a pooling that rounds down gives the same windows."""
        return self.pad + max(self.over, 0)

    def divisors(self) -> np.ndarray[Any, Any]:
        """Size of each window inside the padded axis, as Caffe counts it: it may be zero or less."""
        start = np.arange(self.out) * self.stride - self.pad
        return np.minimum(start + self.kernel, self.size + self.pad) - start


def pools(call: Call, x: ir.Value, part: Message) -> tuple[Pool, Pool]:
    """The windows along height and width.

    Raises:
        InvalidModel: Settings that do not fit each other or the image.
    """
    call.rank(x, 4)
    sizes = call.sizes(x, 2)
    kernel, pad, stride = _settings(call, part, sizes)
    down = part.get("round_mode") == "FLOOR" or not part.get("ceil_mode")
    found = []
    for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True):
        if p and p >= k:
            raise call.bad("pad", f"less than the kernel, {k}", p)
        rest = n + 2 * p - k
        out = (rest // s if down else -(-rest // s)) + 1  # rounding up, a kernel larger than the image may still give one window
        if any(pad) and (out - 1) * s >= n + p:
            out -= 1
        found.append(Pool(n, k, s, p, out))
    channels = call.sizes(x)[0]
    bounded(call, [channels, *(f.size + f.pad + f.end for f in found)], "kernel_size")
    bounded(call, [channels, *(f.out for f in found)], "kernel_size")
    return found[0], found[1]


def _settings(call: Call, part: Message, sizes: list[int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    pad, stride = call.pair(part, "pad", "pad", 0, 0), call.pair(part, "stride", "stride", 1)
    if not part.get("global_pooling"):
        return call.pair(part, "kernel_size", "kernel", None), pad, stride
    if any(part.has(k) for k in ("kernel_size", "kernel_h", "kernel_w")):
        raise call.bad("kernel_size", "nothing, because global_pooling is on", part.get("kernel_size"))
    if pad != (0, 0) or stride != (1, 1):
        raise call.bad("pad and stride", "0 and 1, because global_pooling is on", f"{pad} and {stride}")
    return (sizes[0], sizes[1]), pad, stride


@reads("Pooling")
def pooling(call: Call, x: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    """MAX, AVE or STOCHASTIC over windows; a second top of MAX holds the place of each maximum, y * width + x."""
    part = call.param("pooling_param")
    kind = part.get("pool")
    if len(call.layer.tops) > 1 and kind == "MAX":
        return _with_mask(call, x, *pools(call, x, part))
    return pool(call, x, kind, pools(call, x, part), bool(part.get("global_pooling")))


def pool(call: Call, x: ir.Value, kind: Any, windows: tuple[Pool, Pool], whole: bool = False) -> ir.Value:
    """One pooling, in whichever form of ONNX gives Caffe's numbers in every runtime."""
    if kind == "MAX":
        return call.b.op("GlobalMaxPool", x) if whole else _maximum(call, x, windows)
    if kind == "AVE":
        return call.b.op("GlobalAveragePool", x) if whole else _average(call, x, windows)
    if kind == "STOCHASTIC":
        if any(w.pad for w in windows):
            raise call.bad("pad", "0, because the pooling is stochastic", [w.pad for w in windows])
        size = windows[0].kernel * windows[1].kernel
        weighted, total = (_average(call, v, windows) for v in (call.b.op("Mul", x, x), x))
        return call.b.op("Div", weighted, call.b.op("Add", total, call.b.const(TINY / size)))
    raise call.bad("pool", "MAX, AVE or STOCHASTIC", kind)


def _attributes(windows: tuple[Pool, Pool], begin: list[int], end: list[int]) -> dict[str, Any]:
    return {"kernel_shape": [w.kernel for w in windows], "strides": [w.stride for w in windows], "pads": [*begin, *end]}


def _padded(call: Call, x: ir.Value, begin: list[int], end: list[int], value: float) -> ir.Value:
    return call.b.op("Pad", x, call.b.const([0, 0, *begin, 0, 0, *end]), call.b.const(value))


def _outside(windows: tuple[Pool, Pool]) -> bool:
    """Whether runtimes refuse the padding: as much as the kernel, or more."""
    return any(w.end >= w.kernel for w in windows)


def _maximum(call: Call, x: ir.Value, windows: tuple[Pool, Pool]) -> ir.Value:
    begin, end = [w.pad for w in windows], [w.end for w in windows]
    if _outside(windows):
        x, begin, end = _padded(call, x, begin, end, LOWEST), [0, 0], [0, 0]
    return call.b.op("MaxPool", x, **_attributes(windows, begin, end))


def _with_mask(call: Call, x: ir.Value, *windows: Pool) -> tuple[ir.Value, ir.Value]:
    """The maximum and its place in its own plane; ONNX counts places through the whole tensor."""
    pair = (windows[0], windows[1])
    begin, end = [w.pad for w in pair], [w.end for w in pair]
    wide = [w.size + w.pad + w.end for w in pair]
    outside = _outside(pair)
    held = _padded(call, x, begin, end, LOWEST) if outside else x
    none = [0, 0]
    y, index = call.b.ops("MaxPool", held, outputs=2, **_attributes(pair, *((none, none) if outside else (begin, end))))
    height, width = wide if outside else [w.size for w in pair]
    place = call.b.op("Mod", index, call.b.const(height * width))
    if outside:
        row = call.b.op("Sub", call.b.op("Div", place, call.b.const(width)), call.b.const(begin[0]))
        column = call.b.op("Sub", call.b.op("Mod", place, call.b.const(width)), call.b.const(begin[1]))
        place = call.b.op("Add", call.b.op("Mul", row, call.b.const(pair[1].size)), column)
        place = call.b.op("Where", call.b.op("LessOrEqual", y, call.b.const(LOWEST)), call.b.const(-1), place)
    return y, call.b.op("Cast", place, to=ir.DataType.FLOAT)


def _average(call: Call, x: ir.Value, windows: tuple[Pool, Pool]) -> ir.Value:
    begin, end, none = [w.pad for w in windows], [w.end for w in windows], [0, 0]
    if _outside(windows):  # windows without an element: Caffe divides by whatever it counted, zero included
        bounded(call, [w.out for w in windows], "stride", WRITTEN)
        size = windows[0].kernel * windows[1].kernel
        with np.errstate(divide="ignore"):
            factor = np.float32(size) / np.outer(windows[0].divisors(), windows[1].divisors()).astype(np.float32)
        mean = call.b.op("AveragePool", _padded(call, x, begin, end, 0.0), **_attributes(windows, none, none))
        return call.b.op("Mul", mean, call.b.weight(factor[None, None], f"{call.layer.name}/divisor"))
    if all(w.over <= 0 for w in windows):
        return call.b.op("AveragePool", x, count_include_pad=1 if any(begin) else None, **_attributes(windows, begin, begin))
    if any(begin):
        x = _padded(call, x, begin, begin, 0.0)
    return call.b.op("AveragePool", x, **_attributes(windows, none, [max(w.over, 0) for w in windows]))


@reads("SPP")
def pyramid(call: Call, x: ir.Value) -> ir.Value:
    """Poolings into 1, 4, 16, ... bins, each flattened, side by side; a pyramid of one level is a plain pooling."""
    part = call.param("spp_param")
    levels = call.integer(part, "pyramid_height", high=HIGHEST_PYRAMID + 1)
    call.rank(x, 4)
    made = []
    for level in range(levels):
        y = pool(call, x, part.get("pool"), (_level(call, x, 2, level), _level(call, x, 3, level)))
        made.append(y if levels == 1 else call.b.op("Flatten", y, axis=1))
    return made[0] if levels == 1 else call.b.op("Concat", *made, axis=1)


def _level(call: Call, x: ir.Value, axis: int, level: int) -> Pool:
    bins, size = 1 << level, call.sizes(x, axis)[0]
    kernel = -(-size // bins)
    pad = (kernel * bins - size + 1) // 2
    if pad and pad >= kernel:
        raise call.bad("pyramid_height", f"levels that an image of {size} can be divided into", level + 1)
    return Pool(size, kernel, kernel, pad, bins)
