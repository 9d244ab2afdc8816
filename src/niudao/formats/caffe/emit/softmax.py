"""Softmax and its logarithm. Source: BVLC Caffe, softmax_layer.cpp."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import total
from niudao.formats.caffe.emit.graph import Net, refuse
from niudao.formats.caffe.emit.reduce import reduced
from niudao.formats.caffe.emit.table import emits
from niudao.ir.operators import attribute


@emits("Softmax")
def _softmax(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axis = int(attribute(node, "axis", -1)) % x.rank
    params = {"softmax_param": {"axis": axis} if axis != 1 else {}}
    net.put(node.outputs[0], net.unary("Softmax", x, params, nonnegative=True))


@emits("LogSoftmax")
def _log_softmax(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axis = int(attribute(node, "axis", -1)) % x.rank
    if x.shape[axis] is None:
        refuse("it sums over the free batch", "axis", "fix the batch (--batch)")
    net.note("x - max(x) - log(sum(exp(x - max(x)))), because the logarithm of a Softmax is lost where that is near zero")
    below = total(net, [x, reduced(net, x, [axis], "MAX", suffix="_max")], [1, -1], "_below")
    sums = reduced(net, net.unary("Exp", below, suffix="_exp", nonnegative=True), [axis], "SUM", suffix="_sum")
    net.put(node.outputs[0], total(net, [below, net.unary("Log", sums, suffix="_log")], [1, -1]))
