"""Convolutions.

`padding="same"` pads behind where the total is odd. A transposed convolution's weight is (in, out / groups, ...), as ONNX has it.

Source: aten/src/ATen/native/Convolution.cpp.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import aten


def batched(c: Lowering, x: ir.Value, axes: int) -> tuple[ir.Value, bool]:
    """A picture without batch axis as a batch of one, and whether it was.

    Args:
        c: The call.
        x: A tensor of so many axes behind batch and channels, or without the batch.
        axes: See above.
    """
    rank = c.rank(x)
    if rank == axes + 1:
        return c.op("Unsqueeze", x, c.const([0])), True
    if rank != axes + 2:
        c.refuse(f"its input has {rank} axes, not {axes + 2}")
    return x, False


def unbatched(c: Lowering, x: ir.Value, alone: bool) -> ir.Value:
    """Undo `batched`."""
    return c.op("Squeeze", x, c.const([0])) if alone else x


def _settings(
    c: Lowering, weight: ir.Value, stride: Any, padding: Any, dilation: Any, n: int, kernel: list[int]
) -> tuple[dict[str, Any], list[int]]:
    strides, dilations = c.wholes(stride, "stride", n), c.wholes(dilation, "dilation", n)
    if padding == "valid":
        before = after = [0] * n
    elif padding == "same":
        if strides != [1] * n:
            c.refuse("padding='same' with a stride", "padding")
        total = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        before = [t // 2 for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
    else:
        before = after = c.wholes(padding, "padding", n)
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": [*before, *after]}
    if dilations != [1] * n:
        found["dilations"] = dilations
    return found, strides


def _convolution(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Any,
) -> ir.Value:
    n = c.rank(weight) - 2
    kernel = [c.fixed(weight, i + 2, "kernel") for i in range(n)]
    x, alone = batched(c, input, n)
    settings, _ = _settings(c, weight, stride, padding, dilation, n, kernel)
    group = c.whole(groups, "groups")
    if group != 1:
        settings["group"] = group
    if transposed:
        more = c.wholes(output_padding, "output_padding", n)
        if any(more):
            settings["output_padding"] = more
    return unbatched(c, c.op("ConvTranspose" if transposed else "Conv", x, weight, bias, **settings), alone)


@aten("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> ir.Value:
    return _convolution(c, input, weight, bias, stride, padding, dilation, False, 0, groups)


@aten("aten._convolution_mode")
def convolution_mode(
    c: Lowering, input: ir.Value, weight: ir.Value, bias: ir.Value | None, stride: Any, padding: str, dilation: Any, groups: Any
) -> ir.Value:
    return _convolution(c, input, weight, bias, stride, padding, dilation, False, 0, groups)


@aten("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> ir.Value:
    return _convolution(c, input, weight, bias, stride, padding, dilation, True, output_padding, groups)


@aten("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
def convolution(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Any,
    benchmark: bool = False,
    deterministic: bool = False,
    cudnn_enabled: bool = False,
    allow_tf32: bool = False,
) -> ir.Value:
    return _convolution(c, input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
