"""Conv: Caffe pads alike on both sides; other paddings start the windows earlier and cut the result.

    out = floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1

Source: BVLC Caffe, base_conv_layer.cpp, conv_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Net, Top, Weight, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.window import Window, cropped, plain, spelled, windows
from niudao.ir.operators import attribute


@emits("Conv")
def _conv(net: Net, node: ir.Node) -> None:
    x, weight, bias = net.raw(node.inputs[0]), node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or not net.is_constant(weight):
        refuse("its weights are computed")
    outputs, _, *kernel = shape = net.shape_of(weight)
    group = int(attribute(node, "group", 1))
    weights = [net.weight(weight, shape)]
    known = bias is None or net.is_constant(bias)
    if bias is not None and known:
        weights.append(net.weight(bias, (outputs,)))
    y = convolved(net, x, windows(net, node, x, kernel), weights, group)
    net.put(node.outputs[0], y if known else net.broadcast("Bias", y, net.get(bias), 1, "_bias"))


def settings(w: Sequence[Window], outputs: int, group: int, pads: Sequence[int], bias: bool) -> dict[str, Any]:
    """A ConvolutionParameter."""
    params: dict[str, Any] = {"num_output": outputs}
    if not bias:
        params["bias_term"] = False
    params |= spelled("pad", "pad", pads, 0)
    params |= spelled("kernel_size", "kernel", [a.kernel for a in w])
    params |= spelled("stride", "stride", [a.stride for a in w], 1)
    params |= spelled("dilation", "", [a.dilation for a in w], 1)
    if group != 1:
        params["group"] = group
    return params


def convolved(net: Net, x: Top, w: Sequence[Window], weights: Sequence[Weight], group: int = 1, suffix: str = "") -> Top:
    """A convolution whose padding may be anything.

    Args:
        net: The network.
        x: The blob, zeros perhaps still to be put around it; those are part of the windows' padding.
        w: The windows along each spatial axis.
        weights: (out, in / group, kernel...), and the bias perhaps.
        group: How many convolutions stand side by side.
        suffix: Of the layer.
    """
    outputs = weights[0].shape[0]
    shifts, pads = [0 if _short(a) else a.shift for a in w], [0] * len(w)
    made = []
    for i, a in enumerate(w):
        pads[i] = a.before + shifts[i] * a.stride
        rest = a.size + 2 * pads[i] - a.extent
        made.append(rest // a.stride + 1 if rest >= 0 else 1)
    type = "Convolution"
    if net.knows("DepthwiseConvolution") and group == x.shape[1] == outputs and group > 1 and len(w) == 2:
        type = "DepthwiseConvolution"
    params = {"convolution_param": settings(w, outputs, group, pads, len(weights) > 1)}
    shape = (x.shape[0], outputs, *made)
    out = [a.out for a in w]
    cut = made != out
    if any(shifts):
        net.note("padding that differs between two sides as the larger one on both, and the surplus cut off")
    y = net.layer(type, plain(x), params, shape=shape, weights=weights, suffix=suffix)
    return cropped(net, y, shifts, out) if cut else y


def _short(a: Window) -> bool:
    """Whether one window looks further than the padded axis, by less than a stride: Caffe divides towards zero, and has it too."""
    return a.out == 1 and -a.stride < a.size + 2 * a.before - a.extent < 0
