"""Deformable convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def deform_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
    stride: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_groups: int,
) -> torch.Tensor:
    """A convolution whose taps are moved by `offset` and weighed by `mask`; what lies outside the picture counts as 0.

    Args:
        x: (batch, channels, height, width).
        weight: (outputs, channels / groups, kernel height, kernel width).
        offset: (batch, offset groups * kernel height * kernel width * 2, result height, result width), y before x.
        bias: (outputs,) or None.
        mask: (batch, offset groups * kernel height * kernel width, result height, result width) or None.
    """
    n, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    taps = rows * columns
    out_height, out_width = offset.shape[2:]
    moved = offset.reshape(n * offset_groups, taps, 2, out_height, out_width)

    def places(axis: int, count: int, results: int) -> torch.Tensor:
        tap = torch.arange(count, device=x.device, dtype=x.dtype) * dilation[axis]
        first = torch.arange(results, device=x.device, dtype=x.dtype) * stride[axis] - before[axis]
        return tap[:, None] + first[None, :]

    y = places(0, rows, out_height)[:, None, :, None].expand(rows, columns, out_height, out_width).reshape(1, taps, out_height, out_width)
    z = places(1, columns, out_width)[None, :, None, :].expand(rows, columns, out_height, out_width).reshape(1, taps, out_height, out_width)
    y, z = y + moved[:, :, 0], z + moved[:, :, 1]
    grid = torch.stack([2 * z / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    if height == 1 or width == 1:  # one row has no scale: give it a second one of zeros, where the grid's ends are one apart
        x = F.pad(x, [0, 1 if width == 1 else 0, 0, 1 if height == 1 else 0])
    picture = x.reshape(n * offset_groups, channels // offset_groups, *x.shape[2:])
    seen = F.grid_sample(picture, grid.reshape(n * offset_groups, taps * out_height, out_width, 2), align_corners=True)
    seen = seen.reshape(n, offset_groups, channels // offset_groups, taps, out_height * out_width)
    if mask is not None:
        seen = seen * mask.reshape(n, offset_groups, 1, taps, out_height * out_width)
    seen = seen.reshape(n, groups, channels // groups * taps, out_height * out_width)
    result = (weight.reshape(groups, weight.shape[0] // groups, -1) @ seen).reshape(n, weight.shape[0], out_height, out_width)
    return result if bias is None else result + bias.reshape(-1, 1, 1)
