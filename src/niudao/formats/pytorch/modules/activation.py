"""Activations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.layers.activation import HardSigmoid, PReLU, ScaledELU, Shrink, Swish
from niudao.formats.pytorch.modules.table import converts

_FLOAT32_END = 3.4e38
"""A bound beyond which no float32 lies, as files write "no bound"."""


@converts("Relu")
def relu(c: Call) -> Any:
    return c.module(nn.ReLU(), c.x(0))


@converts("LeakyRelu")
def leaky_relu(c: Call) -> Any:
    return c.module(nn.LeakyReLU(c.attr("alpha")), c.x(0))


@converts("PRelu")
def prelu(c: Call) -> Any:
    """nn.PReLU where there is one slope, or one a channel; else a slope that broadcasts."""
    x, slope = c.dims(0), c.dims(1)
    if x is not None and slope is not None and None not in slope and c.dtype(0).is_floating_point:
        count = math.prod(d or 0 for d in slope)
        by_channel = len(x) > 1 and len(slope) <= len(x) and count == ([1] * (len(x) - len(slope)) + slope)[1]
        if by_channel or count == 1:
            own: Any = 1 if slope == [count] else (1, _flat)
            layer = c.weighted(lambda: nn.PReLU(count), {"weight": own}, c.x(0))
            if layer is not None:
                return layer
    return c.module(PReLU(), c.x(0), c.x(1))


def _flat(slope: torch.Tensor) -> torch.Tensor:
    return slope.reshape(-1)


@converts("Elu")
def elu(c: Call) -> Any:
    return c.module(nn.ELU(c.attr("alpha")), c.x(0))


@converts("Celu")
def celu(c: Call) -> Any:
    return c.module(nn.CELU(c.attr("alpha")), c.x(0))


@converts("Selu")
def selu(c: Call) -> Any:
    alpha, gamma = c.attr("alpha"), c.attr("gamma")
    if math.isclose(alpha, 1.6732632423543772, rel_tol=1e-6) and math.isclose(gamma, 1.0507009873554805, rel_tol=1e-6):
        return c.module(nn.SELU(), c.x(0))
    return c.module(ScaledELU(alpha, gamma), c.x(0))


@converts("Sigmoid")
def sigmoid(c: Call) -> Any:
    return c.module(nn.Sigmoid(), c.x(0))


@converts("HardSigmoid")
def hard_sigmoid(c: Call) -> Any:
    alpha, beta = c.attr("alpha"), c.attr("beta")
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return c.module(nn.Hardsigmoid(), c.x(0))
    return c.module(HardSigmoid(alpha, beta), c.x(0))


@converts("HardSwish")
def hard_swish(c: Call) -> Any:
    return c.module(nn.Hardswish(), c.x(0))


@converts("Swish")
def swish(c: Call) -> Any:
    alpha = c.attr("alpha", 1.0)
    return c.module(nn.SiLU() if alpha == 1 else Swish(alpha), c.x(0))


@converts("Mish")
def mish(c: Call) -> Any:
    return c.module(nn.Mish(), c.x(0))


@converts("Gelu")
def gelu(c: Call) -> Any:
    return c.module(nn.GELU(approximate=c.attr("approximate")), c.x(0))


@converts("Tanh")
def tanh(c: Call) -> Any:
    return c.module(nn.Tanh(), c.x(0))


@converts("Softplus")
def softplus(c: Call) -> Any:
    return c.module(nn.Softplus(), c.x(0))


@converts("Softsign")
def softsign(c: Call) -> Any:
    return c.module(nn.Softsign(), c.x(0))


@converts("ThresholdedRelu")
def thresholded_relu(c: Call) -> Any:
    return c.module(nn.Threshold(c.attr("alpha"), 0.0), c.x(0))


@converts("Shrink")
def shrink(c: Call) -> Any:
    bias, bound = c.attr("bias"), c.attr("lambd")
    if c.dtype(0).is_floating_point and bound >= 0 and bias in (0, bound):
        return c.module(nn.Hardshrink(bound) if bias == 0 else nn.Softshrink(bound), c.x(0))
    return c.module(Shrink(bias, bound), c.x(0))


@converts("Clip")
def clip(c: Call) -> Any:
    """nn.ReLU6, nn.Hardtanh, nn.ReLU, or torch.clamp where a bound is missing or computed."""
    constant = all(not c.has(i) or c.known(i) is not None for i in (1, 2))
    if not constant:
        return c.call(torch.clamp, c.x(0), c.x(1), c.x(2))
    low, high = c.number(1), c.number(2)
    low = None if low is None or low <= -_FLOAT32_END else low
    high = None if high is None or high >= _FLOAT32_END else high
    if low is None and high is None:
        return c.x(0)
    if not c.dtype(0).is_floating_point or low is None or (high is None and low != 0):
        return c.call(torch.clamp, c.x(0), **{k: v for k, v in (("min", low), ("max", high)) if v is not None})
    if high is None:
        return c.module(nn.ReLU(), c.x(0))
    if (low, high) == (0, 6):
        return c.module(nn.ReLU6(), c.x(0))
    if low >= high:  # ONNX gives the upper bound; nn.Hardtanh refuses
        return c.call(torch.clamp, c.x(0), low, high)
    return c.module(nn.Hardtanh(low, high), c.x(0))
