"""LRN, MVN, Normalize: every element against its neighbours, without statistics of training.

    LRN        ACROSS_CHANNELS  y = x / (k + alpha / n sum x^2)^beta over n channels
               WITHIN_CHANNEL   y = x / (1 + alpha / n^2 sum x^2)^beta over n x n pixels; k is not used
    MVN        y = (x - mean) / (sqrt(var) + eps); eps stands outside the root
    Normalize  y = s x / sqrt(sum x^2 + eps)

Source: BVLC Caffe, lrn_layer.cpp, mvn_layer.cpp; SSD, normalize_layer.cpp.
"""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import reshape


@reads("LRN")
def lrn(call: Call, x: ir.Value) -> ir.Value:
    """Local response normalization, across channels or within each."""
    part = call.param("lrn_param")
    call.rank(x, 4)
    n = call.integer(part, "local_size", default=5)
    if n % 2 == 0:
        raise call.bad("local_size", "an odd number", n)
    alpha, beta, k = (float(part.get(key)) for key in ("alpha", "beta", "k"))
    channels, height, width = call.sizes(x)
    if part.get("norm_region") == "WITHIN_CHANNEL":
        # a window larger than this sees every pixel anyway
        kernel = [min(n, 2 * height - 1), min(n, 2 * width - 1)]
        alpha *= kernel[0] * kernel[1] / (n * n)
        mean = _mean_square(call, x, kernel)
        return _divided(call, x, mean, alpha, beta, 1.0)
    size = min(n, 2 * channels - 1)
    alpha *= size / n
    if alpha > 0 and beta > 0:
        return call.b.op("LRN", x, size=size, alpha=alpha, beta=beta, bias=k)
    # runtimes refuse what is not positive
    flat = reshape(call, x, [call.dims(x)[0], 1, channels, height * width])
    mean = reshape(call, _mean_square(call, flat, [size, 1]), call.dims(x), source=x)
    return _divided(call, x, mean, alpha, beta, k)


def _mean_square(call: Call, x: ir.Value, kernel: list[int]) -> ir.Value:
    pads = [n // 2 for n in kernel]
    return call.b.op("AveragePool", call.b.op("Mul", x, x), kernel_shape=kernel, pads=[*pads, *pads], count_include_pad=1)


def _divided(call: Call, x: ir.Value, mean: ir.Value, alpha: float, beta: float, k: float) -> ir.Value:
    b = call.b
    total = b.op("Add", b.op("Mul", mean, b.const(alpha)), b.const(k))
    return b.op("Mul", x, b.op("Pow", total, b.const(-beta)))


@reads("MVN")
def mvn(call: Call, x: ir.Value) -> ir.Value:
    """Mean and variance of each picture, or of each of its channels, taken out."""
    part, b = call.param("mvn_param"), call.b
    rank = call.rank(x, 1, 2, 3, 4)
    if rank < 4:  # its output has four axes always
        x, rank = reshape(call, x, [*call.dims(x), *[1] * (4 - rank)]), 4
    axes = b.const(list(range(1 if part.get("across_channels") else 2, rank)))
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes, keepdims=1))
    if not part.get("normalize_variance"):
        return centred
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes, keepdims=1)
    return b.op("Div", centred, b.op("Add", b.op("Sqrt", variance), b.const(float(part.get("eps")))))


@reads("Normalize")
def normalize(call: Call, x: ir.Value) -> ir.Value:
    """Length one over the channels of each pixel, or over the whole picture, times a learned scale."""
    part, b = call.param("norm_param" if call.layer.message.has("norm_param") else "normalize_param"), call.b
    rank = call.rank(x, 2, 3, 4)
    channels = call.sizes(x)[0]
    call.expect(1)
    over = list(range(1, rank)) if part.get("across_spatial") else [1]
    total = b.op("ReduceSum", b.op("Mul", x, x), b.const(over), keepdims=1)
    unit = b.op("Div", x, b.op("Sqrt", b.op("Add", total, b.const(float(part.get("eps"))))))
    shape = (1,) if part.get("channel_shared") else (channels, *[1] * (rank - 2))
    return b.op("Mul", unit, call.weight(0, shape, "scale", fill=1.0))
