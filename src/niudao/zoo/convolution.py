"""The block that the Inception networks share: convolution, batch normalisation (or a bias), ReLU."""

from __future__ import annotations

import torch
from torch import nn

Pair = int | tuple[int, int]


class Convolution(nn.Module):
    """A convolution with BatchNormalization and ReLU; parameters are named `conv.weight`, `bn.weight`, ...

    Args:
        channels: Channels of the input.
        filters: Channels of the output.
        kernel: Height and width of the window.
        stride: Step of the window.
        padding: Zeros around the input; None for as many as keep the size at stride 1.
        normalized: Batch normalisation (epsilon 1e-3); otherwise the convolution has a bias.
    """

    def __init__(
        self, channels: int, filters: int, kernel: Pair, stride: int = 1, padding: Pair | None = None, *, normalized: bool = True
    ) -> None:
        super().__init__()
        if padding is None:
            padding = (kernel[0] // 2, kernel[1] // 2) if isinstance(kernel, tuple) else kernel // 2
        self.conv = nn.Conv2d(channels, filters, kernel, stride, padding, bias=not normalized)
        self.bn = nn.BatchNorm2d(filters, eps=1e-3) if normalized else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return y


class Branches(nn.Module):
    """Modules side by side on one input, their outputs concatenated along the channels in the order given."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)
