"""Batch normalization without torch's counter of batches, and with weights that are given with the call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Counterless(nn.modules.batchnorm._BatchNorm):
    """Batch normalization that counts no batches, so that its state holds only what the model's does."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.register_buffer("num_batches_tracked", None)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own asks for the counter


class BatchNorm1d(Counterless, nn.BatchNorm1d):
    """nn.BatchNorm1d without a counter of batches."""


class BatchNorm2d(Counterless, nn.BatchNorm2d):
    """nn.BatchNorm2d without a counter of batches."""


class BatchNorm3d(Counterless, nn.BatchNorm3d):
    """nn.BatchNorm3d without a counter of batches."""


class Given(nn.modules.batchnorm._BatchNorm):
    """Batch normalization whose weights and running statistics are given with the call; it updates these while it trains."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum, affine=False, track_running_stats=False)

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class GivenBatchNorm1d(Given, nn.BatchNorm1d):
    """nn.BatchNorm1d on weights that are given with the call."""


class GivenBatchNorm2d(Given, nn.BatchNorm2d):
    """nn.BatchNorm2d on weights that are given with the call."""


class GivenBatchNorm3d(Given, nn.BatchNorm3d):
    """nn.BatchNorm3d on weights that are given with the call."""
