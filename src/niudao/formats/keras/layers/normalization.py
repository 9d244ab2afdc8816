"""Normalisation layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor


@reads("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
def batch_normalization(call: Call, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * gamma + beta along one axis; gamma and beta may be absent."""
    epsilon = call.number("epsilon", default=1e-3)
    scale, center = call.flag("scale", default=True), call.flag("center", default=True)
    source_axis = call.axis("axis", rank=x.rank)
    mode = call.integer("mode", default=0, low=0)
    call.known("renorm_momentum", "renorm_clipping")
    if mode not in (0, 2):
        raise call.refuse(f"mode {mode} of Keras 1 uses the batch's own statistics", attribute="mode")
    b = call.b
    channels = x.shape[source_axis]
    if not isinstance(channels, int):
        raise call.refuse("its number of channels is open", attribute="axis")
    vector = (channels,)
    gamma = call.weight("gamma", vector) if scale else _fill(call, "gamma", channels, 1.0)
    beta = call.weight("beta", vector) if center else _fill(call, "beta", channels, 0.0)
    mean, variance = call.weight("moving_mean", vector), call.weight("moving_variance", vector)
    order = (0, source_axis, *(i for i in range(1, x.rank) if i != source_axis))
    if x.rank == 2 or x.perm[1] == source_axis:
        y = x if x.rank == 2 else x.order(b, x.perm)
        return y.like(b.op("BatchNormalization", y.value, gamma, beta, mean, variance, epsilon=epsilon))
    moved = x.order(b, order)
    return moved.like(b.op("BatchNormalization", moved.value, gamma, beta, mean, variance, epsilon=epsilon))


def _fill(call: Call, key: str, count: int, value: float) -> ir.Value:
    if key not in call.shared:
        call.shared[key] = call.b.weight(np.full(count, value, np.float32), f"{call.name}/{key}")
    return call.shared[key]


@reads("LayerNormalization")
def layer_normalization(call: Call, x: Tensor) -> Tensor:
    epsilon = call.number("epsilon", default=1e-3)
    scale, center = call.flag("scale", default=True), call.flag("center", default=True)
    axes = sorted(call.axes("axis", rank=x.rank))
    rms = call.flag("rms_scaling", default=False)
    call.known()
    b = call.b
    x = x.source_order(b)
    shape = [x.shape[a] for a in axes]
    if rms:
        raise call.refuse("rms_scaling is not read", attribute="rms_scaling")
    if axes == list(range(axes[0], x.rank)) and all(isinstance(d, int) for d in shape):
        ones = tuple(int(d) for d in shape)  # type: ignore[arg-type]
        gamma = call.weight("gamma", ones) if scale else b.const(np.ones(ones, np.float32))
        return x.like(
            b.op("LayerNormalization", x.value, gamma, call.weight("beta", ones) if center else None, axis=axes[0], epsilon=epsilon)
        )
    ours = b.const(axes)
    centred = b.op("Sub", x.value, b.op("ReduceMean", x.value, ours, keepdims=1))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), ours, keepdims=1)
    y = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.const(epsilon))))
    view = [x.shape[i] if i in axes else 1 for i in range(1, x.rank)]
    if scale:
        y = b.op("Mul", y, call.weight("gamma", change=lambda a: a.reshape(view)))
    if center:
        y = b.op("Add", y, call.weight("beta", change=lambda a: a.reshape(view)))
    return x.like(y)


@reads("GroupNormalization")
def group_normalization(call: Call, x: Tensor) -> Tensor:
    """Channels on one axis; `groups` = -1 means one group a channel."""
    epsilon = call.number("epsilon", default=1e-3)
    groups, axis = call.integer("groups", default=32, low=-1), call.axis("axis", rank=x.rank)
    scale, center = call.flag("scale", default=True), call.flag("center", default=True)
    call.known()
    b = call.b
    x = x.channels_first(b, axis)
    channels = x.our_shape[1]
    if not isinstance(channels, int):
        raise call.refuse("its number of channels is open")
    gamma = call.weight("gamma", (channels,)) if scale else _fill(call, "gamma", channels, 1.0)
    beta = call.weight("beta", (channels,)) if center else _fill(call, "beta", channels, 0.0)
    count = channels if groups == -1 else groups
    return x.like(b.op("GroupNormalization", x.value, gamma, beta, num_groups=count, epsilon=epsilon))


@reads("UnitNormalization")
def unit_normalization(call: Call, x: Tensor) -> Tensor:
    axes = [x.axis(a) for a in call.axes("axis", rank=x.rank)]
    call.known()
    b = call.b
    squares = b.op("ReduceSum", b.op("Mul", x.value, x.value), b.const(sorted(axes)), keepdims=1)
    return x.like(b.op("Div", x.value, b.op("Sqrt", b.op("Max", squares, b.const(1e-12)))))


@reads("RMSNormalization")
def rms_normalization(call: Call, x: Tensor) -> Tensor:
    epsilon, axis = call.number("epsilon", default=1e-6), call.axis("axis", rank=x.rank)
    call.known()
    if axis != x.rank - 1:
        raise call.refuse("only the last axis is read", attribute="axis")
    x = x.source_order(call.b)
    key = "scale" if call.has("scale") else "gamma"
    return x.like(call.b.op("RMSNormalization", x.value, call.weight(key), axis=-1, epsilon=epsilon))


@reads("LRN", "LRN2D", "LocalResponseNormalization", "LocalResponseNorm", "CrossChannelNormalization")
def local_response(call: Call, x: Tensor) -> Tensor:
    """The LRN layer that ports of AlexNet and GoogLeNet carry: x / (k + a * sum of n squares)^beta.

    `LRN`, of the GoogLeNet port, means a = alpha / n, as Caffe and ONNX do; `LRN2D` of keras-contrib and wrappers of
    TensorFlow's operator mean a = alpha.
    """
    alpha, beta = call.number("alpha", default=1e-4), call.number("beta", default=0.75)
    k, n = call.number("k", "bias", default=2.0), call.integer("n", "size", default=5)
    if call.get("depth_radius", "radius") is not None:
        n = 2 * call.integer("depth_radius", "radius") + 1
    axis = call.channel_axis(4)
    call.known()
    x = x.channels_first(call.b, axis)
    return x.like(call.b.op("LRN", x.value, size=n, alpha=alpha if call.class_name == "LRN" else alpha * n, beta=beta, bias=k))


@reads("Normalization")
def normalization(call: Call, x: Tensor) -> Tensor:
    """(x - mean) / max(sqrt(variance), 1e-7); mean and variance were adapted (weights) or given (configuration)."""
    axes = [] if "axis" in call.config and call.get("axis") is None else sorted(call.axes("axis", rank=x.rank))
    mean, variance = call.get("mean"), call.get("variance")
    invert = call.flag("invert", default=False)
    call.known()
    if mean is None:
        mean, variance = call.array("mean"), call.array("variance")
        if call.has("count"):
            call.stored("count")
    shape = [int(x.shape[i]) if i in axes and isinstance(x.shape[i], int) else 1 for i in range(x.rank)]  # type: ignore[arg-type]

    def ours(value: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        array = np.asarray(value, np.float32)
        if not np.isfinite(array).all():
            raise call.refuse("its statistics are not finite", attribute="mean")
        if array.size not in (1, int(np.prod(shape))):
            raise call.refuse(f"{array.size} statistics for axes of shape {shape}", attribute="mean")
        wide = np.broadcast_to(array.reshape(-1) if array.size == 1 else array.reshape(shape), shape if array.size > 1 else [1] * x.rank)
        return np.ascontiguousarray(wide.transpose(x.perm)[0])

    m, s = ours(mean), np.maximum(np.sqrt(ours(variance)), np.float32(1e-7))
    b = call.b
    if invert:
        return x.like(b.op("Add", b.op("Mul", x.value, b.const(s)), b.const(m)))
    return x.like(b.op("Div", b.op("Sub", x.value, b.const(m)), b.const(s)))
