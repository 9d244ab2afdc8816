"""Windows that slide over the axes behind batch and channels, as ONNX counts them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def pad_same(x: torch.Tensor, extent: Sequence[int], stride: Sequence[int], lower: bool = False, value: float = 0.0) -> torch.Tensor:
    """Pad so that windows of this extent give ceil(size / stride) results; an odd rest goes behind, or before with `lower`."""
    pads: list[int] = []
    for axis in reversed(range(len(stride))):
        size = x.shape[axis + 2]
        total = max(0, (-(-size // stride[axis]) - 1) * stride[axis] + extent[axis] - size)
        less, more = total // 2, total - total // 2
        pads += [more, less] if lower else [less, more]
    return F.pad(x, pads, value=value)


def pad_windows(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    ceil_mode: bool,
    value: float = 0.0,
) -> torch.Tensor:
    """Pad each axis; with `ceil_mode` as far as the last window needs that starts before the padding behind begins."""
    pads: list[int] = []
    for axis in reversed(range(len(kernel))):
        extent, end = dilation[axis] * (kernel[axis] - 1) + 1, after[axis]
        if ceil_mode:
            size, step = x.shape[axis + 2] + before[axis], stride[axis]
            count = -(-(size + end - extent) // step) + 1
            if (count - 1) * step >= size:
                count -= 1
            end = max(end, (count - 1) * step + extent - size)
        pads += [before[axis], end]
    return F.pad(x, pads, value=value)


def sum_windows(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """The sum of every whole window."""
    for axis in range(len(kernel)):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        x = x.unfold(axis + 2, extent, stride[axis])[..., :: dilation[axis]].sum(-1)
    return x
