"""Convolution, Deconvolution, their depthwise spellings, Im2col.

    Convolution    out = floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1
    Deconvolution  out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad

Source: BVLC Caffe, base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp, im2col_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import WRITTEN, bounded, each_axis, leading, reshape


@dataclass(frozen=True)
class Window:
    """Settings of a convolution, one number a spatial axis.

    Caffe divides towards zero, so that a kernel which is larger than the padded image by less than a stride still gives one window; what
    it sees beyond the image is zero.

    Attributes:
        axis: Where the channels are.
        sizes: Sizes of the spatial axes.
        kernel: Kernel sizes.
        stride: Strides.
        pad: Padding on either side.
        dilation: Distances between the kernel's elements.
    """

    axis: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Sizes of the dilated kernel."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def _rest(self) -> tuple[int, ...]:
        return tuple(n + 2 * p - e for n, e, p in zip(self.sizes, self.extent, self.pad, strict=True))

    @property
    def forward(self) -> tuple[int, ...]:
        """Sizes behind a convolution."""
        return tuple((r // s if r >= 0 else -(-r // s)) + 1 for r, s in zip(self._rest, self.stride, strict=True))

    @property
    def backward(self) -> tuple[int, ...]:
        """Sizes behind a deconvolution."""
        settings = zip(self.sizes, self.extent, self.stride, self.pad, strict=True)
        return tuple(s * (n - 1) + e - 2 * p for n, e, s, p in settings)

    def attributes(self, transposed: bool = False) -> dict[str, Any]:
        """As ONNX says it."""
        end = self.pad if transposed else [p + max(-r, 0) for p, r in zip(self.pad, self._rest, strict=True)]
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "pads": [*self.pad, *end],
            "dilations": list(self.dilation),
        }


def window(call: Call, x: ir.Value) -> Window:
    """Read the settings for an input.

    Raises:
        InvalidModel: A setting is missing, out of bounds, or does not fit the input.
    """
    part = call.param("convolution_param")
    axis = call.axis(part.get("axis"), call.rank(x))
    sizes = tuple(call.sizes(x, axis + 1))
    n = len(sizes)
    if n == 0:  # a kernel of no axes is a matrix; one axis of size 1 says the same
        return Window(axis, (1,), (1,), (1,), (0,), (1,))
    return Window(
        axis,
        sizes,
        tuple(each_axis(call, part, "kernel_size", n, None, short="kernel")),
        tuple(each_axis(call, part, "stride", n, 1, short="stride")),
        tuple(each_axis(call, part, "pad", n, 0, low=0, short="pad")),
        tuple(each_axis(call, part, "dilation", n, 1)),
    )


def _channels(call: Call, x: ir.Value, axis: int) -> int:
    return call.sizes(x, axis)[0]


def _around(call: Call, x: ir.Value, w: Window, channels: int, compute: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Run `compute` on (batch, channels, *spatial), whatever axes the channels and the batch really are."""
    lead, rank = leading(call, x, w.axis), call.rank(x)
    if w.axis == 1 and rank > 2:
        return compute(x)
    merged = -1 if None in lead else prod(d for d in lead if d is not None)
    y = compute(reshape(call, x, [merged, channels, *w.sizes]))
    return reshape(call, y, [*lead, *call.sizes(y)[: 1 if rank == w.axis + 1 else None]], source=x)


def _groups(call: Call, channels: int, outputs: int, depthwise: bool) -> int:
    group = call.integer(call.param("convolution_param"), "group")
    if depthwise and group == 1:
        group = channels
    if channels % group or outputs % group:
        raise call.bad("group", f"a divisor of {channels} channels and {outputs} outputs", group)
    return group


def _bounded(call: Call, w: Window, out: list[int]) -> None:
    bounded(call, [n + 2 * p for n, p in zip(w.sizes, w.pad, strict=True)], "pad")
    bounded(call, w.extent, "kernel_size")
    bounded(call, out, "kernel_size")


def _bias(call: Call, outputs: int) -> ir.Value | None:
    if not call.param("convolution_param").get("bias_term"):
        call.expect(1)
        return None
    call.expect(2)
    return call.weight(1, (outputs,), "bias", fill=0.0)


def _same(call: Call, xs: tuple[ir.Value, ...]) -> None:
    """Several bottoms share the weights; Caffe wants them of one shape."""
    if not xs:
        raise call.bad("bottom", "at least one", "none")
    shapes = [tuple(call.dims(x)) for x in xs]
    if len(set(shapes)) != 1:
        raise call.bad("bottom", "inputs of one shape", shapes)


def _convolve(call: Call, xs: tuple[ir.Value, ...], depthwise: bool, transposed: bool) -> tuple[ir.Value, ...]:
    _same(call, xs)
    w = window(call, xs[0])
    channels = _channels(call, xs[0], w.axis)
    outputs = call.integer(call.param("convolution_param"), "num_output")
    group = _groups(call, channels, outputs, depthwise)
    out = w.backward if transposed else w.forward
    _bounded(call, w, [outputs, *out])
    shape = (channels, outputs // group, *w.kernel) if transposed else (outputs, channels // group, *w.kernel)
    bounded(call, shape, "kernel_size")
    bias = _bias(call, outputs)
    weight = call.weight(0, shape, "weight")
    op = "ConvTranspose" if transposed else "Conv"
    made = []
    for x in xs:
        made.append(_around(call, x, w, channels, lambda v: call.b.op(op, v, weight, bias, group=group, **w.attributes(transposed))))
    return tuple(made)


@reads("Convolution")
def convolution(call: Call, *xs: ir.Value) -> tuple[ir.Value, ...]:
    """y = W * x + b, W of shape (out, in / group, kernel...); each bottom makes a top, with the same weights."""
    return _convolve(call, xs, depthwise=False, transposed=False)


@reads("ConvolutionDepthwise", "DepthwiseConvolution", "DepthwiseConvolution2D")
def depthwise(call: Call, *xs: ir.Value) -> tuple[ir.Value, ...]:
    """A convolution in which `group`, where it is not said, is the number of channels."""
    return _convolve(call, xs, depthwise=True, transposed=False)


@reads("Deconvolution")
def deconvolution(call: Call, *xs: ir.Value) -> tuple[ir.Value, ...]:
    """The transpose of a convolution, W of shape (in, out / group, kernel...)."""
    return _convolve(call, xs, depthwise=False, transposed=True)


@reads("Im2col")
def im2col(call: Call, x: ir.Value) -> ir.Value:
    """Every window as channels, (channel, kernel...) in this order: a grouped convolution whose kernels pick one element each."""
    w = window(call, x)
    channels = _channels(call, x, w.axis)
    picked = prod(w.kernel)
    _bounded(call, w, [channels, picked, *w.forward])
    if channels * picked * picked > WRITTEN:
        raise call.refuse(f"it unfolds {picked} elements a window from {channels} channels, which is too much for one kernel")
    one = np.eye(picked, dtype=np.float32).reshape(picked, 1, *w.kernel)
    weight = call.b.weight(np.tile(one, (channels, *[1] * (1 + len(w.kernel)))), f"{call.layer.name}/unfold")
    return _around(call, x, w, channels, lambda v: call.b.op("Conv", v, weight, group=channels, **w.attributes()))
