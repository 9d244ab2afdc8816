"""Activations that torch has not, or not with these settings."""

from __future__ import annotations

import torch
from torch import nn


class PReLU(nn.Module):
    """`x` where it is positive, `slope * x` elsewhere; the slope broadcasts to `x`."""

    def forward(self, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        return torch.where(x >= 0, x, x * slope)


class HardSigmoid(nn.Module):
    """`alpha * x + beta`, kept within [0, 1]."""

    def __init__(self, alpha: float = 0.2, beta: float = 0.5) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.alpha * x + self.beta, 0.0, 1.0)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}"


class ScaledELU(nn.Module):
    """`gamma * x` where `x` is positive, `gamma * alpha * (exp(x) - 1)` elsewhere."""

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gamma * nn.functional.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, gamma={self.gamma}"


class Swish(nn.Module):
    """`x * sigmoid(alpha * x)`."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.alpha * x)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Shrink(nn.Module):
    """`x + bias` below `-lambd`, `x - bias` above `lambd`, 0 between."""

    def __init__(self, bias: float, lambd: float) -> None:
        super().__init__()
        self.bias, self.lambd = bias, lambd

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = torch.where(x < -self.lambd, x + self.bias, torch.where(x > self.lambd, x - self.bias, torch.zeros_like(x)))
        return moved.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bias={self.bias}, lambd={self.lambd}"
