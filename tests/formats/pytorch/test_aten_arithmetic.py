"""Arithmetic, comparisons and products of matrices as models, against torch itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from lowering import Fn, Fn2, judged, ops

X, ROWS = (2, 3, 4), (3, 5)
WHOLE = ((2, 3, 4), torch.int64)

ONE: dict[str, Callable[[torch.Tensor], Any]] = {
    "add_number": lambda x: x + 2,
    "add_alpha": lambda x: torch.add(x, x, alpha=3),
    "sub_number": lambda x: x - 0.5,
    "rsub": lambda x: 1 - x,
    "mul": lambda x: x * x * 3,
    "div": lambda x: x / 4,
    "div_into": lambda x: 2 / (x * x + 1),
    "div_floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "div_trunc": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "floor_divide": lambda x: x // 0.4,
    "remainder": lambda x: x % 0.7,
    "remainder_negative": lambda x: torch.remainder(x, -0.7),
    "fmod": lambda x: torch.fmod(x, 0.7),
    "power": lambda x: x**3,
    "power_half": lambda x: (x * x + 1) ** 0.5,
    "power_minus": lambda x: (x * x + 1) ** -1,
    "power_of_number": lambda x: 2.0**x,
    "square": torch.square,
    "abs": torch.abs,
    "neg": torch.neg,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": lambda x: torch.expm1(x * 0.001),
    "log": lambda x: torch.log(x.abs() + 0.1),
    "log2": lambda x: torch.log2(x.abs() + 0.1),
    "log10": lambda x: torch.log10(x.abs() + 0.1),
    "log1p": lambda x: torch.log1p(x.abs() * torch.tensor([1e-4, 1, 100, 0.3])),
    "sqrt": lambda x: torch.sqrt(x.abs()),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.1),
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 0.1),
    "trigonometry": lambda x: torch.sin(x) + torch.cos(x) * torch.tan(x) + torch.atan(x),
    "hyperbolic": lambda x: torch.sinh(x) + torch.cosh(x) + torch.asinh(x) + torch.acosh(x.abs() + 1),
    "inverse": lambda x: torch.asin(x.tanh()) + torch.acos(x.tanh()) + torch.atanh(x.tanh() * 0.9),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": lambda x: torch.round(x * 2) / 2,
    "round_decimals": lambda x: torch.round(x * 100, decimals=-1),
    "trunc": lambda x: torch.trunc(x * 3),
    "frac": lambda x: torch.frac(x * 3),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp_low": lambda x: x.clamp(min=0.1),
    "clamp_high": lambda x: x.clamp(max=0.1),
    "clamp_crossed": lambda x: x.clamp(0.7, -0.5),
    "clamp_tensors": lambda x: x.clamp(torch.tensor(-0.5), torch.tensor([0.1, 0.2, 0.3, 0.4])),
    "clamp_min": lambda x: torch.clamp_min(x, 0.2),
    "maximum_itself": lambda x: torch.maximum(x, -x) + torch.minimum(x, x * 2) + torch.max(x, x * 3),
    "compare": lambda x: (x > 0.1) & (x <= 0.9) | (x == 0) ^ (x != 0),
    "compare_more": lambda x: torch.stack([x < 0, x >= 0]),
    "logic": lambda x: torch.logical_and(x, x > 1) | torch.logical_not(x) | torch.logical_xor(x > 0, x < 1),
    "finite": lambda x: torch.isfinite(1 / x.round()) & ~torch.isnan(x) | torch.isinf(x),
    "nan_to_num": lambda x: torch.nan_to_num(x.round() / x.round(), 0.3) + torch.nan_to_num(1 / x.round(), posinf=7, neginf=-3),
    "lerp": lambda x: torch.lerp(x, x * x, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x + 1, value=0.4),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=2),
    "atan2": lambda x: torch.atan2(x, x.roll(1, 2)),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "xlogy": lambda x: torch.xlogy(x.clamp(min=0), x.abs() + 0.1),
    "logit": lambda x: torch.logit(x, 0.01),
    "deg2rad": torch.deg2rad,
    "double_meets_float": lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64),
    "double_scalar_stays_float": lambda x: x * torch.tensor(2.0, dtype=torch.float64),
    "whole_tensor_meets_float": lambda x: x + torch.tensor([1, 2, 3, 4]),
    "constant": lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "size_as_number": lambda x: x / x.shape[0] + x.shape[1] * x.shape[2],
    "square_of_size": lambda x: x * (x.shape[0] * x.shape[0] + 2 * x.shape[0] - 1),
    "celu_elu_selu": lambda x: F.celu(x, 0.3) + F.elu(x, 2) + F.selu(x),
}

WHOLES: dict[str, Callable[[torch.Tensor], Any]] = {
    "div": lambda x: x / 3,
    "floor_divide": lambda x: x // 3,
    "floor_divide_negative": lambda x: x // -3,
    "div_trunc": lambda x: torch.div(x, 3, rounding_mode="trunc"),
    "remainder": lambda x: x % 3,
    "remainder_negative": lambda x: x % -3,
    "fmod": lambda x: torch.fmod(x, 3),
    "float_number": lambda x: x * 0.5 + 1,
    "exp": lambda x: torch.exp(x) + torch.sqrt(x * x),
    "power": lambda x: x**2,
    "bits": lambda x: (x & 3) | (x ^ 1) & ~x,
    "relu": lambda x: torch.relu(x) + x.abs() + x.clamp(-1, 2),
    "rounding": lambda x: torch.round(x) + torch.floor(x) + torch.trunc(x),
}

TWO: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: torch.sub(x, y, alpha=2),
    "div": lambda x, y: x / (y.abs() + 1),
    "remainder": lambda x, y: torch.remainder(x, y),
    "power": lambda x, y: (x.abs() + 0.1) ** y,
    "maximum": torch.maximum,
    "equal": lambda x, y: x.round() == y.round(),
    "outer": lambda x, y: torch.outer(x[0], y[0]),
    "matmul": lambda x, y: x @ y.T,
    "mm": lambda x, y: torch.mm(x, y.transpose(0, 1)),
    "addmm": lambda x, y: torch.addmm(y[:, :1], x, y.T, beta=0.5, alpha=2),
    "bmm": lambda x, y: torch.bmm(x.unsqueeze(2), y.unsqueeze(1)),
    "baddbmm": lambda x, y: torch.baddbmm(x.unsqueeze(2), x.unsqueeze(2), y.unsqueeze(1), beta=0.3, alpha=2),
    "mv": lambda x, y: torch.mv(x, y[0]),
    "dot": lambda x, y: torch.dot(x[0], y[0]),
    "linear_of_both": lambda x, y: F.linear(x, y, y[:, 0]),
}


@pytest.mark.parametrize("name", ONE)
def test_of_one_tensor(name: str) -> None:
    judged(Fn(ONE[name]), X)


def test_of_core_aten() -> None:
    judged(Fn(lambda x: [function(x) for function in ONE.values()]), X, decompose=True)


@pytest.mark.parametrize("name", WHOLES)
def test_of_whole_numbers(name: str) -> None:
    judged(Fn(WHOLES[name]), WHOLE)


@pytest.mark.parametrize("name", TWO)
def test_of_two_tensors(name: str) -> None:
    judged(Fn2(TWO[name]), ROWS, ROWS)


def test_transposed_weight_becomes_a_flag() -> None:
    assert ops(judged(torch.nn.Linear(5, 4), ROWS, decompose=True)) == ["Gemm"]


def test_written_in_place() -> None:
    def steps(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y.mul_(2).relu_()
        y += x
        z = y.view(-1, 4)
        z.add_(1)
        return z

    judged(Fn(steps), X)


def test_input_written_in_place() -> None:
    judged(Fn(lambda x: torch.relu_(x) + x), X)
