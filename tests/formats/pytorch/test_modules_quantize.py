"""Quantised operators as torch modules, step for step what ONNX Runtime gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import judge, operator, values

Array = np.ndarray[Any, Any]


def steps(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    held = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(held.min, held.max, shape, dtype, endpoint=True)


def scale(*numbers: float) -> Array:
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_quantize(dtype: Any) -> None:
    """Ties go to the even neighbour; what is too large ends at the last step."""
    x = np.concatenate([np.arange(-8, 8, 0.25, np.float32), [-1e6, 1e6]]).astype(np.float32).reshape(2, 33)
    judge([x], operator("QuantizeLinear", scale(0.5), np.array(3, dtype)))
    judge([x], operator("QuantizeLinear", scale(0.25, 0.5), np.array([3, 0], dtype), axis=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_dequantize(dtype: Any) -> None:
    x = steps(3, 4, dtype=dtype)
    zero = np.array(0, dtype)
    judge([x], operator("DequantizeLinear", scale(0.5), zero))
    judge([x], operator("DequantizeLinear", scale(0.5, 0.1, 2.0), np.zeros(3, dtype), axis=0))


def test_blocks() -> None:
    judge([values(2, 6)], operator("QuantizeLinear", np.abs(values(2, 3)) + 0.05, steps(2, 3), axis=1, block_size=2))
    judge([steps(2, 6)], operator("DequantizeLinear", np.abs(values(2, 3)) + 0.05, steps(2, 3), axis=1, block_size=2))


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_dynamic_quantize(shift: float) -> None:
    judge([values(4, 5) + np.float32(shift)], operator("DynamicQuantizeLinear", outputs=3))


def test_products_of_integers() -> None:
    a, b = steps(3, 4), steps(4, 2, dtype=np.int8)
    judge([a, b], operator("MatMulInteger", np.array(7, np.uint8), np.array(-3, np.int8)))
    judge([a, b], operator("MatMulInteger"))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 2, 1]])
def test_convolution_of_integers(pads: list[int]) -> None:
    x, w = steps(2, 4, 6, 5), steps(6, 2, 3, 2)
    judge([x, w], operator("ConvInteger", np.array(100, np.uint8), np.array(128, np.uint8), pads=pads, strides=[2, 1], group=2))


@pytest.mark.parametrize("channels", [False, True])
def test_quantized_convolution(channels: bool) -> None:
    w_scale = scale(0.01, 0.02, 0.03, 0.005) if channels else scale(0.01)
    w_zero = np.zeros(4, np.int8) if channels else np.array(0, np.int8)
    bias = np.arange(-200, 200, 100, dtype=np.int32)
    held = [scale(0.05), np.array(120, np.uint8), steps(4, 3, 3, 3, dtype=np.int8), w_scale, w_zero]
    judge([steps(2, 3, 6, 6)], operator("QLinearConv", *held, scale(0.2), np.array(90, np.uint8), bias, auto_pad="SAME_UPPER"))


def test_quantized_matrix_product() -> None:
    left = [scale(0.05), np.array(120, np.uint8)]
    right = [steps(4, 5, seed=1), scale(0.02), np.array(110, np.uint8)]
    judge([steps(3, 4)], operator("QLinearMatMul", *left, *right, scale(0.3), np.array(100, np.uint8)))
