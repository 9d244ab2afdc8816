"""Normalizations with stored statistics: BatchNormalization as BatchNorm and Scale, the pair that every Caffe network has.

Source: BVLC Caffe, batch_norm_layer.cpp, scale_layer.cpp.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Net, constant, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.layers.call import SCALE_NAME
from niudao.ir import card
from niudao.ir.operators import attribute

_EPSILON = 1e-5


@emits("BatchNormalization")
def _batch_norm(net: Net, node: ir.Node) -> None:
    if attribute(node, "training_mode", 0):
        refuse("it takes its statistics from the batch at hand", "training_mode", "use the stored ones")
    x = net.get(node.inputs[0])
    parameters = list(node.inputs[1:5])
    if x.rank < 2 or any(v is None or not net.is_constant(v) for v in parameters):
        refuse("its parameters are computed, or it has no channels")
    gamma, beta, mean, variance = (v for v in parameters if v is not None)
    (channels,) = net.shape_of(mean)
    epsilon = float(attribute(node, "epsilon", _EPSILON))
    params = {"batch_norm_param": {"eps": epsilon} if abs(epsilon - _EPSILON) > 1e-11 else {}}
    stored = [net.weight(mean, (channels,)), net.weight(variance, (channels,)), constant(np.ones(1))]
    y = net.layer("BatchNorm", x, params, shape=x.shape, weights=stored)
    name = node.metadata_props.get(SCALE_NAME)
    native = card.get_source(net.model).get("format") == "caffe"
    flat = native and not np.any(net.constant(beta))
    if native and name is None and flat and bool(np.all(net.constant(gamma) == 1)):
        net.put(node.outputs[0], y)
        return
    y = net.scale(y, net.weight(gamma, (channels,)), None if flat else net.weight(beta, (channels,)))
    if name is not None:
        y.layer.wish = name
    net.put(node.outputs[0], y)
