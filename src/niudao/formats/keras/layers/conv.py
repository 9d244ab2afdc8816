"""Convolutions of one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Array, Call
from niudao.formats.keras.tensor import Tensor

PADDINGS = ("valid", "same", "causal")


def same_pads(
    call: Call, sizes: Sequence[int | str | None], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int] | None:
    """TensorFlow's SAME: out = ceil(n / s), the odd pixel at the end. None where a size is open (auto_pad then)."""
    before, after = [], []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        if not isinstance(n, int):
            if s == 1:  # then the padding does not depend on the size
                total = (k - 1) * d
            else:
                return None
        else:
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before + after


def padding_of(
    call: Call, sizes: Sequence[int | str | None], kernel: list[int], strides: list[int], dilations: list[int]
) -> dict[str, Any]:
    """The ONNX attributes of a layer's padding."""
    mode = call.choice("padding", "border_mode", default="valid", options=PADDINGS if len(kernel) == 1 else PADDINGS[:2])
    if mode == "valid":
        return {"pads": [0] * 2 * len(kernel)}
    if mode == "causal":
        return {"pads": [(kernel[0] - 1) * dilations[0], 0]}
    pads = same_pads(call, sizes, kernel, strides, dilations)
    return {"pads": pads} if pads is not None else {"auto_pad": "SAME_UPPER"}


def kernel_size(call: Call, n: int) -> list[int]:
    """`kernel_size`, or what Keras 1 called it."""
    old = {1: ["filter_length"], 2: ["nb_row", "nb_col"], 3: ["kernel_dim1", "kernel_dim2", "kernel_dim3"]}[n]
    if "kernel_size" not in call.config and all(k in call.config for k in old):
        return [call.integer(k) for k in old]
    return call.ints("kernel_size", n=n)


def _windows(call: Call, n: int) -> tuple[list[int], list[int], list[int]]:
    strides = call.ints("strides", "subsample", "subsample_length", n=n, default=1)
    dilations = call.ints("dilation_rate", "atrous_rate", n=n, default=1)
    return kernel_size(call, n), strides, dilations


def _conv_kernel(n: int) -> list[int]:
    """(spatial..., in, out) -> (out, in, spatial...)."""
    return [n + 1, n, *range(n)]


def _depthwise(a: Array) -> Array:
    """(spatial..., C, M) -> (C * M, 1, spatial...): output channel c * M + m."""
    n = a.ndim - 2
    moved = a.transpose([n, n + 1, *range(n)])
    return moved.reshape(a.shape[n] * a.shape[n + 1], 1, *a.shape[:n])


def _size(x: Tensor) -> list[int | str | None]:
    return list(x.our_shape[2:])


def _lift(call: Call, x: Tensor, n: int) -> tuple[Tensor, int]:
    """Channels first; returns the source's channel axis too."""
    axis = call.channel_axis(n + 2)
    if x.rank != n + 2:
        raise call.refuse(f"its input has {x.rank} axes instead of {n + 2}")
    return x.channels_first(call.b, axis), axis


@reads(
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Convolution1D",
    "Convolution2D",
    "Convolution3D",
    "AtrousConvolution1D",
    "AtrousConvolution2D",
    "AtrousConv2D",
)
def conv(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    kernel, strides, dilations = _windows(call, n)
    filters = call.integer("filters", "nb_filter")
    groups = call.integer("groups", default=1)
    bias = call.flag("use_bias", "bias", default=True)
    x, _ = _lift(call, x, n)
    channels = x.our_shape[1]
    shape = (*kernel, channels // groups, filters) if isinstance(channels, int) else None
    w = call.weight("kernel", shape, lambda a: a.transpose(_conv_kernel(n)))
    y = call.b.op(
        "Conv",
        x.value,
        w,
        call.weight("bias", (filters,)) if bias else None,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        **padding_of(call, _size(x), kernel, strides, dilations),
    )
    result = call.activate(x.like(y))
    call.known()
    return result


@reads("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    x, _ = _lift(call, x, n)
    y = _depthwise_part(call, x, n)
    result = call.activate(y)
    call.known()
    return result


def _depthwise_part(call: Call, x: Tensor, n: int, *, bias: bool | None = None) -> Tensor:
    kernel, strides, dilations = _windows(call, n)
    multiplier = call.integer("depth_multiplier", default=1)
    call.get("groups", "filters")  # tf.keras 2 writes both for depthwise convolutions, without meaning
    with_bias = call.flag("use_bias", "bias", default=True) if bias is None else bias
    channels = x.our_shape[1]
    if not isinstance(channels, int):
        raise call.refuse("its number of channels is open")
    key = "depthwise_kernel" if call.has("depthwise_kernel") else "kernel"
    w = call.weight(key, (*kernel, channels, multiplier), _depthwise)
    return x.like(
        call.b.op(
            "Conv",
            x.value,
            w,
            call.weight("bias", (channels * multiplier,)) if with_bias else None,
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=channels,
            **padding_of(call, _size(x), kernel, strides, dilations),
        )
    )


@reads("SeparableConv1D", "SeparableConv2D", "SeparableConvolution2D", "SeparableConvolution1D")
def separable(call: Call, x: Tensor) -> Tensor:
    """Depthwise, then pointwise; bias and activation once, at the end."""
    n = int(call.class_name[-2])
    filters = call.integer("filters", "nb_filter")
    bias = call.flag("use_bias", "bias", default=True)
    x, _ = _lift(call, x, n)
    y = _depthwise_part(call, x, n, bias=False)
    w = call.weight("pointwise_kernel", (*[1] * n, y.our_shape[1], filters), lambda a: a.transpose(_conv_kernel(n)))  # type: ignore[arg-type]
    z = call.b.op("Conv", y.value, w, call.weight("bias", (filters,)) if bias else None, kernel_shape=[1] * n)
    result = call.activate(x.like(z))
    call.known()
    return result


@reads("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Deconvolution2D")
def conv_transpose(call: Call, x: Tensor) -> Tensor:
    """Keras: out = n*s (same), n*s + max(k-s, 0) (valid), or with output_padding (n-1)s + k - 2(k//2 if same) + p."""
    if call.class_name == "Deconvolution2D":
        call.get("output_shape")
    n = 2 if call.class_name == "Deconvolution2D" else int(call.class_name[4])
    kernel, strides, dilations = _windows(call, n)
    filters = call.integer("filters", "nb_filter")
    bias = call.flag("use_bias", "bias", default=True)
    extra = call.get("output_padding")
    groups = call.integer("groups", default=1)
    mode = call.choice("padding", "border_mode", default="valid", options=PADDINGS[:2])
    x, _ = _lift(call, x, n)
    if groups != 1:
        raise call.refuse("transposed convolutions of several groups do not exist in Keras", attribute="groups")
    given = call.ints("output_padding", n=n, low=0) if extra is not None else None
    begin, end, out_pad = [], [], []
    for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        reach = (k - 1) * d + 1
        # everything relative to the full result (n-1)s + reach, so that open sizes work too
        if given is not None:
            same = mode == "same"
            delta = -2 * (reach // 2 if same else 0) + given[i]
        elif mode == "same":
            delta = s - reach
        else:
            delta = max(s - reach, 0)
        cut = max(-delta, 0)
        first = cut // 2 if mode == "same" else 0
        if given is not None and mode == "same" and cut == 0:
            first = 0
        begin.append(first)
        end.append(cut - first)
        out_pad.append(max(delta, 0))
    channels = x.our_shape[1]
    shape = (*kernel, filters, channels) if isinstance(channels, int) else None
    w = call.weight("kernel", shape, lambda a: a.transpose(_conv_kernel(n)))
    y = _transposed(call, x.value, w, kernel, strides, dilations, begin + end, out_pad)
    if bias:
        y = call.b.op("Add", y, call.weight("bias", (filters,), lambda a: a.reshape(-1, *[1] * n)))
    result = call.activate(x.like(y))
    call.known()
    return result


def _transposed(
    call: Call, x: ir.Value, w: ir.Value, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int], out_pad: list[int]
) -> ir.Value:
    """ConvTranspose; where the output is longer than ONNX's output_padding may say, zeros are appended."""
    n = len(kernel)
    fits = all(p < max(s, d) for p, s, d in zip(out_pad, strides, dilations, strict=True))
    y = call.b.op(
        "ConvTranspose",
        x,
        w,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=out_pad if fits else [0] * n,
    )
    if not fits:
        y = call.b.op("Pad", y, call.b.const([0] * (2 + n) + [0, 0] + out_pad))
    return y


@reads("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(call: Call, x: Tensor) -> Tensor:
    """Unshared weights: (positions, k * C, filters); every position is one row of a batched matrix product."""
    n = int(call.class_name[-2])
    kernel = kernel_size(call, n)
    strides = call.ints("strides", "subsample", "subsample_length", n=n, default=1)
    filters = call.integer("filters", "nb_filter")
    bias = call.flag("use_bias", "bias", default=True)
    mode = call.choice("padding", "border_mode", default="valid", options=PADDINGS[:2])
    if mode != "valid" or call.integer("implementation", default=1) != 1:
        raise call.refuse("only valid padding and implementation 1 are read", attribute="padding")
    axis = call.channel_axis(n + 2)
    b = call.b
    x = x.channels_first(b, axis)
    sizes = x.our_shape[2:]
    channels = x.our_shape[1]
    if not all(isinstance(s, int) for s in (*sizes, channels)):
        raise call.refuse("its input size is open")
    out = [(int(s) - k) // t + 1 for s, k, t in zip(sizes, kernel, strides, strict=True)]  # type: ignore[arg-type]
    count, inside = int(np.prod(out)), int(np.prod(kernel)) * int(channels)  # type: ignore[arg-type]
    # patches by a convolution with unit kernels: channel c, tap t -> output channel c * taps + t
    taps = int(np.prod(kernel))
    eye = np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel)
    unit = b.const(np.tile(eye, (int(channels), *[1] * (n + 1))))  # type: ignore[arg-type]
    patches = b.op("Conv", x.value, unit, kernel_shape=kernel, strides=strides, group=int(channels))  # type: ignore[arg-type]
    rows = b.op("Transpose", b.op("Reshape", patches, b.const([0, inside, count])), perm=[2, 0, 1])
    first = axis == 1
    # the stored rows run over (taps, C), or (C, taps) where channels come first; ours run over (C, taps)
    w = call.weight("kernel", (count, inside, filters), lambda a: a if first else _taps_last(a, taps, int(channels)), tag="ours")  # type: ignore[arg-type]
    y = b.op("Transpose", b.op("MatMul", rows, w), perm=[1, 2, 0])
    y = b.op("Reshape", y, b.const([0, filters, *out]))
    if bias:
        shape = (filters, *out) if first else (*out, filters)
        move = list(range(n + 1)) if first else [n, *range(n)]
        y = b.op("Add", y, call.weight("bias", shape, lambda a: a.transpose(move)))
    result = call.activate(x.like(y))
    call.known()
    return result


def _taps_last(a: Array, taps: int, channels: int) -> Array:
    return a.reshape(a.shape[0], taps, channels, a.shape[2]).transpose(0, 2, 1, 3).reshape(a.shape)
