"""Quantised numbers."""

from __future__ import annotations

import operator
from typing import Any

import onnx_ir as ir
import torch

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import quantize as f
from niudao.formats.pytorch.modules.table import converts
from niudao.formats.pytorch.modules.weights import DTYPES

_FLOATS = (torch.float8_e4m3fn, torch.float8_e5m2)


def _bounds(c: Call, dtype: torch.dtype) -> tuple[int, int]:
    """The least and the largest step of an integer type."""
    if dtype.is_floating_point or dtype.is_complex:
        c.refuse("its steps are no integers", "output_dtype")
    held = torch.iinfo(dtype)
    return held.min, held.max


@converts("QuantizeLinear")
def quantize(c: Call) -> Any:
    said = c.attr("output_dtype")
    dtype = c.dtype(2) if c.has(2) else DTYPES.get(ir.DataType(said)) if said else torch.uint8
    if dtype is None:
        c.refuse("torch has no such type", "output_dtype")
    if dtype in _FLOATS:
        if not c.attr("saturate"):
            c.refuse("its steps are floats that overflow, and nobody agrees into what", "saturate")
        return c.call(f.quantize_float, c.x(0), c.x(1), c.attr("axis"), c.attr("block_size"), torch.finfo(dtype).max, dtype)
    low, high = _bounds(c, dtype)
    return c.call(f.quantize, c.x(0), c.x(1), c.x(2), c.attr("axis"), c.attr("block_size"), low, high, dtype)


@converts("DequantizeLinear")
def dequantize(c: Call) -> Any:
    return c.call(f.dequantize, c.x(0), c.x(1), c.x(2), c.attr("axis"), c.attr("block_size"))


@converts("DynamicQuantizeLinear")
def dynamic_quantize(c: Call) -> Any:
    made = c.call(f.dynamic_quantize, c.x(0))
    return tuple(c.call(operator.getitem, made, i) for i in range(3))


@converts("MatMulInteger")
def matmul_integer(c: Call) -> Any:
    return c.call(f.matmul_integer, c.x(0), c.x(1), c.x(2), c.x(3))


@converts("QLinearMatMul")
def quantized_matmul(c: Call) -> Any:
    return c.call(f.quantized_matmul, *(c.x(i) for i in range(8)), *_bounds(c, c.dtype(7)))


def _window(c: Call, kernel_at: int = 1) -> tuple[list[int], list[int], list[int], int]:
    """Pads, strides, dilations and groups of a convolution of steps."""
    sizes, kernel = c.dims(0), (c.dims(kernel_at) or [])[2:]
    if sizes is None or not 3 <= len(sizes) <= 5 or None in kernel:
        c.refuse("the sizes of its kernel are not known, or it has more than three axes")
    rank = len(sizes) - 2
    strides, dilations = c.attr("strides") or [1] * rank, c.attr("dilations") or [1] * rank
    pads, auto = c.attr("pads") or [0] * 2 * rank, c.attr("auto_pad")
    if auto == "VALID":
        pads = [0] * 2 * rank
    elif auto.startswith("SAME"):
        before, after = [], []
        for n, k, s, d in zip(sizes[2:], kernel, strides, dilations, strict=True):
            if n is None:
                c.refuse("pads by a size that is known only while the network runs", "auto_pad")
            total = max((-(-n // s) - 1) * s + ((k or 1) - 1) * d + 1 - n, 0)
            small, large = total // 2, total - total // 2
            before.append(small if auto == "SAME_UPPER" else large)
            after.append(large if auto == "SAME_UPPER" else small)
        pads = before + after
    return pads, strides, dilations, c.attr("group")


@converts("ConvInteger")
def conv_integer(c: Call) -> Any:
    return c.call(f.conv_integer, c.x(0), c.x(1), c.x(2), c.x(3), *_window(c))


@converts("QLinearConv")
def quantized_conv(c: Call) -> Any:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (c.x(i) for i in range(9))
    bounds = _bounds(c, c.dtype(7))
    return c.call(f.quantized_conv, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, *_window(c, 3), *bounds)
