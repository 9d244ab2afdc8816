"""Padding along any axes, in the ways that torch does only for the last ones of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], axes: Sequence[int], mode: str) -> Tensor:
    """Pad axes with their own elements; negative amounts cut.

    Args:
        x: Any tensor.
        before: How much each of `axes` grows at its start.
        after: How much it grows at its end.
        axes: The axes.
        mode: "edge" repeats the outermost element, "reflect" mirrors around it, "wrap" starts again at the other end.
    """
    for left, right, axis in zip(before, after, axes, strict=True):
        size = x.shape[axis]
        kept_left, kept_right = max(-left, 0), size - max(-right, 0)
        x = x.narrow(axis, kept_left, kept_right - kept_left)
        size = kept_right - kept_left
        index = torch.arange(-max(left, 0), size + max(right, 0), device=x.device)
        if mode == "edge":
            index = index.clamp(0, size - 1)
        elif mode == "wrap":
            index = index % size
        else:
            index = index.abs() % max(2 * size - 2, 1)
            index = torch.where(index >= size, 2 * size - 2 - index, index)
        x = x.index_select(axis, index)
    return x


def pad_constant(x: Tensor, before: Sequence[int], after: Sequence[int], axes: Sequence[int], value: Tensor | float) -> Tensor:
    """Pad axes that, or with a value that, is itself computed; negative amounts cut."""
    amounts = [0] * (2 * x.dim())
    for left, right, axis in zip(before, after, axes, strict=True):
        place = 2 * (x.dim() - 1 - axis % x.dim())
        amounts[place], amounts[place + 1] = left, right
    inside = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), amounts, value=False)
    return torch.where(inside, torch.nn.functional.pad(x, amounts), torch.as_tensor(value, dtype=x.dtype, device=x.device))
