"""BatchNorm with the Scale behind it, and the BN of two forks.

    BatchNorm  y = (x - mean f) / sqrt(var f + eps), f = 1 / third blob, or 0 where that is 0
    BN         SegNet: y = x scale + shift; PSPNet: y = scale (x - mean) / sqrt(var + eps) + shift

Source: BVLC Caffe, batch_norm_layer.cpp; NVCaffe's five blobs; caffe-segnet and PSPNet, bn_layer.cpp.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.affine import affine
from niudao.formats.caffe.layers.call import SCALE_NAME, Call
from niudao.formats.caffe.layers.spatial import WRITTEN, bounded
from niudao.formats.caffe.net import Array


@reads("BatchNorm")
def batch_norm(call: Call, x: ir.Value) -> ir.Value:
    """(x - mean) / sqrt(var + eps) per channel, and the Scale behind it as gamma and beta of the same node."""
    part = call.param("batch_norm_param")
    own = call.expect(5, 3) == 5 if part.get("scale_bias") else call.expect(3, 5) == 5
    rank = call.rank(x)
    if rank < 2:
        raise call.bad("input", "channels behind the batch", "1 axis")
    channels = call.sizes(x)[0]
    bounded(call, [channels], "input", WRITTEN)
    if part.has("use_global_stats") and not part.get("use_global_stats"):
        # BVLC Caffe normalizes by the batch at hand then, other builds divide by sqrt(eps): the file does not say which was meant
        raise call.refuse(
            "its statistics are those of the batch at hand, on which builds of Caffe disagree",
            attribute="use_global_stats",
            rewrite="say use_global_stats: true to use the stored ones",
        )
    behind = call.scale
    folded = behind is not None and not own and _over_channels(behind, rank)
    if own:
        gamma, beta = call.weight(3, (channels,), "scale", fill=1.0), call.weight(4, (channels,), "bias", fill=0.0)
    elif folded and behind is not None:
        has_bias = bool(behind.param("scale_param").get("bias_term"))
        behind.expect(2 if has_bias else 1)
        gamma = behind.weight(0, (channels,), "scale", fill=1.0)
        beta = behind.weight(1, (channels,), "bias", fill=0.0) if has_bias else call.b.const(np.zeros(channels, np.float32))
    else:
        gamma, beta = call.b.const(np.ones(channels, np.float32)), call.b.const(np.zeros(channels, np.float32))
    y = call.b.op("BatchNormalization", x, gamma, beta, *_statistics(call, channels), epsilon=float(part.get("eps")))
    if not folded:
        return _scaled(call, y)
    node = y.producer()
    if node is not None and behind is not None:
        node.metadata_props[SCALE_NAME] = behind.layer.name
    return y


def _over_channels(scale: Call, rank: int) -> bool:
    part = scale.param("scale_param")
    return scale.axis(int(part.get("axis")), rank) == 1 and part.get("num_axes") == 1


def _scaled(call: Call, y: ir.Value) -> ir.Value:
    """Apply the Scale behind this layer, where it could not become part of it."""
    if call.scale is None:
        return y
    b, layer = call.b, call.scale.layer
    b.layer, b.layer_type = layer.name, layer.type
    return affine(call.scale, y)


def _statistics(call: Call, channels: int) -> tuple[ir.Value, ir.Value]:
    """Mean and variance; as they lie in the file where the third blob is 1, else multiplied by its inverse in float32, as Caffe does."""
    factor = np.float32(1) if call.weightless else call.array(2, (1,), "factor")[0]
    if factor == 1:
        return call.weight(0, (channels,), "mean", fill=0.0), call.weight(1, (channels,), "variance", fill=1.0)
    with np.errstate(all="ignore"):
        inverse = np.float32(0) if factor == 0 else np.float32(1) / factor

    def times(flat: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(flat * inverse, np.float32)

    for index, role in ((0, "mean"), (1, "variance")):
        call.stored(index, (channels,), role)
    return call.derived([0], (channels,), "mean", times), call.derived([1], (channels,), "variance", times)


def _affine(call: Call, x: ir.Value, index: int, channels: int) -> ir.Value:
    """Blob `index` times x plus the blob behind it, per channel."""
    shape = (channels, *[1] * (call.rank(x) - 2))
    y = call.b.op("Mul", x, call.weight(index, shape, "scale", fill=1.0))
    return call.b.op("Add", y, call.weight(index + 1, shape, "bias", fill=0.0))


@reads("BN")
def bn(call: Call, x: ir.Value) -> ir.Value:
    """SegNet's and PSPNet's batch normalization: two blobs or four say which."""
    part = call.param("bn_param")
    inference = part.get("bn_mode") == "INFERENCE"
    call.rank(x, 2, 3, 4, 5)
    channels = call.sizes(x)[0]
    bounded(call, [channels], "input", WRITTEN)
    if (call.expect(2, 4) if inference else call.expect(4, 2)) == 2:
        if not inference:
            raise call.refuse(
                "its two blobs are SegNet's, which takes its statistics from the batch at hand",
                attribute="bn_mode",
                rewrite="compute the statistics with SegNet's script and say bn_mode: INFERENCE",
            )
        return _affine(call, x, 0, channels)
    parameters = [(0, "scale", 1.0), (1, "bias", 0.0), (2, "mean", 0.0), (3, "variance", 1.0)]
    weights = [call.weight(i, (channels,), role, fill=fill) for i, role, fill in parameters]
    return call.b.op("BatchNormalization", x, *weights, epsilon=float(part.get("eps")))
