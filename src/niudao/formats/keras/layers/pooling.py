"""Pooling. Padded averages divide by real pixels only, as TensorFlow does."""

from __future__ import annotations

from typing import Any

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.conv import padding_of
from niudao.formats.keras.tensor import Tensor


@reads("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "MaxPool2D", "AvgPool2D")
def pool(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    size = call.ints("pool_size", "pool_length", n=n, default=2)
    strides = call.ints("strides", "stride", n=n) if call.get("strides", "stride") is not None else size
    average = call.class_name.startswith("A")
    x = x.channels_first(call.b, call.channel_axis(n + 2))
    pads = padding_of(call, list(x.our_shape[2:]), size, strides, [1] * n)
    call.known()
    extra: dict[str, Any] = {"count_include_pad": 0} if average else {}
    y = call.b.op("AveragePool" if average else "MaxPool", x.value, kernel_shape=size, strides=strides, **pads, **extra)
    return x.like(y)


@reads(
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPool2D",
    "GlobalAvgPool2D",
)
def global_pool(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    keep = call.flag("keepdims", default=False)
    axis = call.channel_axis(n + 2)
    call.known()
    if x.masked:
        raise call.refuse("a mask reaches it", rewrite="remove the Masking layer")
    b = call.b
    maximum = "Max" in call.class_name
    spatial = [i for i in range(1, n + 2) if i != axis]
    if n > 1:
        x = x.channels_first(b, axis)
        y = x.like(b.op("GlobalMaxPool" if maximum else "GlobalAveragePool", x.value))
        return y if keep else Tensor.plain(b.op("Flatten", y.value))
    ours = b.const(sorted(x.axis(s) for s in spatial))
    y2 = b.op("ReduceMax" if maximum else "ReduceMean", x.value, ours, keepdims=int(keep))
    return x.like(y2) if keep else Tensor.plain(y2)
