"""Convolutions whose weights are given with the call."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Module):
    """A convolution over one, two or three axes."""

    def __init__(self, stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], groups: int = 1) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"


class ConvTranspose(nn.Module):
    """A transposed convolution over one, two or three axes.

    Args:
        stride: One number an axis.
        dilation: One number an axis.
        groups: Number of groups.
        grow: How the full result grows at the beginning and end of each axis, from the last axis on; negative numbers cut off.
    """

    def __init__(self, stride: tuple[int, ...], dilation: tuple[int, ...], groups: int, grow: tuple[int, ...]) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups, self.grow = stride, dilation, groups, grow

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        rank = len(self.stride)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        y = F.pad(convolve(x, weight, None, self.stride, 0, 0, self.groups, self.dilation), self.grow)
        return y if bias is None else y + bias.reshape(-1, *[1] * rank)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, dilation={self.dilation}, groups={self.groups}, grow={self.grow}"
