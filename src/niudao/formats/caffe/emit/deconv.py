"""ConvTranspose: Caffe pads alike on both sides and knows no output_padding; the rest is cut off, or grown from zeros behind the input.

    out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad

Source: BVLC Caffe, deconv_layer.cpp.
"""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.emit.conv import settings
from niudao.formats.caffe.emit.cut import padded
from niudao.formats.caffe.emit.graph import Net, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.window import Window, cropped
from niudao.ir.operators import attribute


@emits("ConvTranspose")
def _deconv(net: Net, node: ir.Node) -> None:
    x, weight, bias = net.get(node.inputs[0]), node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or not net.is_constant(weight):
        refuse("its weights are computed")
    _, each, *kernel = shape = net.shape_of(weight)
    group = int(attribute(node, "group", 1))
    outputs = each * group
    out = [d or 0 for d in net.dims(node.outputs[0])[2:]]
    w, firsts = [], []
    for i, k in enumerate(kernel):
        a, first = _window(node, x.shape[2 + i] or 0, k, i, len(kernel), out[i])
        w.append(a)
        firsts.append(first)
    # what lies behind the last element that the kernel reaches is zero (and the bias): zeros behind the input reach that far
    grown = [max(0, -(-(first + a.out - _full(a, a.size)) // a.stride)) for a, first in zip(w, firsts, strict=True)]
    if any(grown):
        net.note("output_padding by zeros behind the input")
        x = padded(net, x, [(0, 0), (0, 0), *((0, g) for g in grown)], 0.0)
    full = [_full(a, a.size + g) for a, g in zip(w, grown, strict=True)]
    pads = [max(0, min(first, f - first - a.out)) for a, f, first in zip(w, full, firsts, strict=True)]
    weights = [net.weight(weight, shape)]
    known = bias is None or net.is_constant(bias)
    if bias is not None and known:
        weights.append(net.weight(bias, (outputs,)))
    made = [f - 2 * p for f, p in zip(full, pads, strict=True)]
    params = {"convolution_param": settings(w, outputs, group, pads, len(weights) > 1)}
    y = net.layer("Deconvolution", x, params, shape=(x.shape[0], outputs, *made), weights=weights)
    y = y if known else net.broadcast("Bias", y, net.get(bias), 1, "_bias")
    if made != out:
        net.note("padding that differs between two sides, or output_padding, by cutting rows off")
        y = cropped(net, y, [first - p for first, p in zip(firsts, pads, strict=True)], out)
    net.put(node.outputs[0], y)


def _full(a: Window, size: int) -> int:
    """Size of the unpadded result."""
    return a.stride * (size - 1) + a.extent


def _window(node: ir.Node, size: int, kernel: int, i: int, count: int, out: int) -> tuple[Window, int]:
    """The settings along one axis, and the first element of the unpadded result that is kept."""
    stride, dilation = ((attribute(node, k) or [1] * count)[i] for k in ("strides", "dilations"))
    a = Window(size, int(kernel), int(stride), int(dilation) if kernel > 1 else 1, 0, 0, out)
    if min(kernel, stride, dilation) < 1:
        refuse("its kernel, strides or dilations are below one")
    extra = int((attribute(node, "output_padding") or [0] * count)[i])
    auto = attribute(node, "auto_pad", "NOTSET")
    total = _full(a, size) + extra - out
    if auto == "VALID" and attribute(node, "output_shape") is None:
        return a, 0
    if auto == "NOTSET" and attribute(node, "output_shape") is None:
        pads = attribute(node, "pads") or [0] * 2 * count
        if pads[i] < 0 or pads[i] + pads[count + i] != total:
            refuse("its output size is not what its settings say", "pads")
        return a, int(pads[i])
    if extra and attribute(node, "output_shape") is None:
        refuse("it pads by itself and has output_padding, which runtimes compute differently", "auto_pad", "say the pads as numbers")
    if total < 0:
        refuse("its output is larger than its kernel reaches, which runtimes compute differently", "output_shape")
    return a, total // 2 if auto == "SAME_UPPER" else total - total // 2
