"""Matrix products whose matrices are given with the call."""

from __future__ import annotations

import torch
from torch import nn


class MatMul(nn.Module):
    """`a @ b`."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


class Gemm(nn.Module):
    """`alpha * a @ b + beta * c`, with `a` and `b` transposed where asked."""

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, transpose_a: bool = False, transpose_b: bool = False) -> None:
        super().__init__()
        self.alpha, self.beta, self.transpose_a, self.transpose_b = alpha, beta, transpose_a, transpose_b

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        product = (a.t() if self.transpose_a else a) @ (b.t() if self.transpose_b else b)
        if self.alpha != 1:
            product = product * self.alpha
        if c is None:
            return product
        return product + (c if self.beta == 1 else c * self.beta)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, transpose_a={self.transpose_a}, transpose_b={self.transpose_b}"
