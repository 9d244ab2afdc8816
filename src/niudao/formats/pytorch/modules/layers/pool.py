"""Pools with uneven paddings, dilations, and ONNX's way to count."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from niudao.formats.pytorch.modules.functions.pool import root
from niudao.formats.pytorch.modules.functions.windows import pad_same, pad_windows, sum_windows


class MaxPool(nn.Module):
    """The largest element of every window.

    Args:
        kernel: Window, one number an axis; so are the others.
        stride: Step of the window.
        dilation: Distance of its elements.
        before: Padding before each axis.
        after: Padding behind each axis.
        ceil_mode: A last window may reach beyond the padding, if it begins before it.
    """

    def __init__(
        self,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        before: tuple[int, ...],
        after: tuple[int, ...],
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.before, self.after, self.ceil_mode = before, after, ceil_mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = pad_windows(x, self.kernel, self.stride, self.dilation, self.before, self.after, self.ceil_mode, -math.inf)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.kernel) - 1]
        return pool(padded, self.kernel, self.stride, 0, self.dilation)

    def extra_repr(self) -> str:
        return (
            f"kernel={self.kernel}, stride={self.stride}, dilation={self.dilation}, "
            f"before={self.before}, after={self.after}, ceil_mode={self.ceil_mode}"
        )


class AveragePool(nn.Module):
    """The mean of every window; padding counts as zeros, or not at all.

    Args:
        kernel: Window, one number an axis; so are the others.
        stride: Step of the window.
        dilation: Distance of its elements.
        before: Padding before each axis.
        after: Padding behind each axis.
        ceil_mode: A last window may reach beyond the padding, if it begins before it.
        count_include_pad: Padding counts as zeros.
    """

    def __init__(
        self,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        before: tuple[int, ...],
        after: tuple[int, ...],
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.before, self.after, self.ceil_mode, self.count_include_pad = before, after, ceil_mode, count_include_pad

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = pad_windows(x, self.kernel, self.stride, self.dilation, self.before, self.after, self.ceil_mode)
        ones = torch.ones_like(x[:1, :1])
        if self.count_include_pad:  # what a last window takes beyond the padding does not count
            ones = F.pad(ones, [p for b, a in zip(self.before[::-1], self.after[::-1], strict=True) for p in (b, a)], value=1.0)
            beyond = [whole - some for whole, some in zip(padded.shape[2:], ones.shape[2:], strict=True)]
            ones = F.pad(ones, [p for more in reversed(beyond) for p in (0, more)])
        else:
            ones = pad_windows(ones, self.kernel, self.stride, self.dilation, self.before, self.after, self.ceil_mode)
        return sum_windows(padded, self.kernel, self.stride, self.dilation) / sum_windows(ones, self.kernel, self.stride, self.dilation)

    def extra_repr(self) -> str:
        return (
            f"kernel={self.kernel}, stride={self.stride}, dilation={self.dilation}, before={self.before}, after={self.after}, "
            f"ceil_mode={self.ceil_mode}, count_include_pad={self.count_include_pad}"
        )


class AveragePoolSame(nn.Module):
    """The mean of every window, padded so that ceil(size / stride) windows fit; padding counts as zeros, or not at all.

    Args:
        kernel: Window, one number an axis; so is the stride.
        stride: Step of the window.
        lower: An odd rest of the padding goes before the axis, not behind.
        count_include_pad: Padding counts as zeros.
    """

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...], lower: bool = False, count_include_pad: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride, self.lower, self.count_include_pad = kernel, stride, lower, count_include_pad

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(self.kernel) - 1]
        y = mean(pad_same(x, self.kernel, self.stride, self.lower), self.kernel, self.stride)
        if self.count_include_pad:
            return y
        return y / mean(pad_same(torch.ones_like(x[:1, :1]), self.kernel, self.stride, self.lower), self.kernel, self.stride)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, lower={self.lower}, count_include_pad={self.count_include_pad}"


class LpPool(nn.Module):
    """The p-norm of every window.

    Args:
        p: Exponent.
        kernel: Window, one number an axis; so are the others.
        stride: Step of the window.
        dilation: Distance of its elements.
        before: Padding before each axis.
        after: Padding behind each axis.
        ceil_mode: A last window may reach beyond the padding, if it begins before it.
    """

    def __init__(
        self,
        p: float,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        before: tuple[int, ...],
        after: tuple[int, ...],
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.p, self.kernel, self.stride, self.dilation = p, kernel, stride, dilation
        self.before, self.after, self.ceil_mode = before, after, ceil_mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        powers = x.abs().pow(self.p)
        padded = pad_windows(powers, self.kernel, self.stride, self.dilation, self.before, self.after, self.ceil_mode)
        return root(sum_windows(padded, self.kernel, self.stride, self.dilation), self.p)

    def extra_repr(self) -> str:
        return (
            f"p={self.p}, kernel={self.kernel}, stride={self.stride}, dilation={self.dilation}, "
            f"before={self.before}, after={self.after}, ceil_mode={self.ceil_mode}"
        )
