"""Numbers in steps: quantised, brought back, and multiplied as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def spread(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in the shape that meets `x`: one for all, one for each place on `axis`, or one for each block of it."""
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape([1] * x.dim())
    if parameter.dim() == 1 and not block:
        shape = [1] * x.dim()
        shape[axis] = -1
        return parameter.reshape(shape)
    return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """`x` in steps of `scale` around `zero`, rounded to the even neighbour, between `low` and `high`."""
    steps = torch.round(x / spread(scale, x, axis, block))
    if zero is not None:
        steps = steps + spread(zero, x, axis, block).to(steps.dtype)
    return steps.clamp(low, high).to(dtype)


def quantize_float(x: Tensor, scale: Tensor, axis: int, block: int, most: float, dtype: torch.dtype) -> Tensor:
    """`x` in units of `scale`, rounded to floats of eight bits; what is larger than they reach becomes `most`."""
    return (x / spread(scale, x, axis, block)).clamp(-most, most).to(dtype)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> Tensor:
    """What steps of `scale` around `zero` stand for, in the type of `scale`."""
    steps = x.to(torch.int32) if not x.is_floating_point() else x.to(scale.dtype)
    if zero is not None:
        steps = steps - spread(zero, x, axis, block).to(steps.dtype)
    return steps.to(scale.dtype) * spread(scale, x, axis, block)


def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`x` in 256 steps between its extremes and zero: the steps, their size, and the step of zero."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round((0 - low) / scale).clamp(0, 255)
    return (torch.round(x / scale) + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def integers(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Steps counted from their zero point, as float64: sums of products of eight bits are exact there."""
    steps = x.double()
    return steps if zero is None else steps - spread(zero, x, axis, 0).double()


def rows(zero: Tensor | None) -> Tensor | None:
    """Zero points of a matrix's rows as a column; those of stacked matrices have that shape already."""
    return zero.unsqueeze(-1) if zero is not None and zero.dim() == 1 and zero.numel() > 1 else zero


def matmul_steps(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """Matrix product of steps, each counted from its zero point: float64."""
    a_zero = rows(a_zero)
    left = a.double() - (0 if a_zero is None else a_zero.double())
    right = b.double() - (0 if b_zero is None else b_zero.double())
    return torch.matmul(left, right)


def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """Matrix product of steps, as int32."""
    return matmul_steps(a, b, a_zero, b_zero).to(torch.int32)


def requantize(y: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """Products of steps in the steps of a result."""
    return (torch.round(y * scale) + zero.to(y.dtype)).clamp(low, high).to(zero.dtype)


def quantized_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    low: int,
    high: int,
) -> Tensor:
    """Matrix product of quantised matrices, quantised again."""
    a_scale = a_scale.unsqueeze(-1) if a_scale.dim() == 1 and a_scale.numel() > 1 else a_scale
    scale = a_scale.double() * b_scale.double() / y_scale.double()
    return requantize(matmul_steps(a, b, a_zero, b_zero), scale, y_zero, low, high)


def conv_steps(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolution of steps, each counted from its zero point, zeros around them: float64."""
    rank = x.dim() - 2
    amounts = [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])]
    steps = torch.nn.functional.pad(integers(x, x_zero, 1), amounts)
    convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]
    return convolve(steps, integers(w, w_zero, 0), None, tuple(strides), 0, tuple(dilations), groups)


def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolution of steps, as int32."""
    return conv_steps(x, w, x_zero, w_zero, pads, strides, dilations, groups).to(torch.int32)


def quantized_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    low: int,
    high: int,
) -> Tensor:
    """Convolution of quantised numbers with an int32 bias, quantised again."""
    y = conv_steps(x, w, x_zero, w_zero, pads, strides, dilations, groups)
    if bias is not None:
        y = y + spread(bias, y, 1, 0).double()
    scale = x_scale.double() * spread(w_scale, y, 1, 0).double() / y_scale.double()
    return requantize(y, scale, y_zero, low, high)
