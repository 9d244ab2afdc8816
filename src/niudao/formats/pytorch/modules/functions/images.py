"""Pixels moved between space and channels, images cut and grown around their middle, patches put together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """(N, block * block * C, H, W) -> (N, C, H * block, W * block), the places in a block being the outer channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // (block * block), h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // (block * block), h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """(N, C, H, W) -> (N, block * block * C, H / block, W / block), the places in a block being the outer channels."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block * block, h // block, w // block)


def center_crop_pad(x: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Cut axes or pad them with zeros around their middle until they have the sizes of `shape`."""
    for size, axis in zip(shape, axes, strict=True):
        have = x.shape[axis]
        if size < have:
            x = x.narrow(axis, (have - size) // 2, size)
        elif size > have:
            amounts = [0] * (2 * x.dim())
            place = 2 * (x.dim() - 1 - axis % x.dim())
            amounts[place], amounts[place + 1] = (size - have) // 2, size - have - (size - have) // 2
            x = torch.nn.functional.pad(x, amounts)
    return x


def fold(
    x: Tensor, image: Sequence[int], block: Sequence[int], dilations: Sequence[int], pads: Sequence[int], strides: Sequence[int]
) -> Tensor:
    """Add patches up to an image of any number of axes.

    Args:
        x: (N, C * product of block, patches), the patches in the order of their places.
        image: Sizes of the image.
        block: Sizes of a patch.
        dilations: Distance between the elements of a patch, for each axis.
        pads: What lies before the image on each axis, then what lies behind.
        strides: Distance between patches, for each axis.

    Returns:
        (N, C, *image).
    """
    n, rank = x.shape[0], len(image)
    padded = [size + pads[i] + pads[rank + i] for i, size in enumerate(image)]
    volume, patch = 1, 1
    for size in padded:
        volume *= size
    for size in block:
        patch *= size
    places = torch.zeros((1,) * (2 * rank), dtype=torch.long, device=x.device)
    for i in range(rank):
        count = (padded[i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        inner = torch.arange(block[i], device=x.device).reshape([-1 if a == i else 1 for a in range(2 * rank)])
        outer = torch.arange(count, device=x.device).reshape([-1 if a == rank + i else 1 for a in range(2 * rank)])
        places = places * padded[i] + inner * dilations[i] + outer * strides[i]
    flat = torch.zeros(n, x.shape[1] // patch, volume, dtype=x.dtype, device=x.device)
    flat = flat.index_add(2, places.flatten(), x.reshape(n, x.shape[1] // patch, -1))
    y = flat.reshape(n, x.shape[1] // patch, *padded)
    for i, size in enumerate(image):
        y = y.narrow(2 + i, pads[i], size)
    return y
