"""Normalizations that torch has not, or not in this form."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def batch_statistics(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, eps: float, momentum: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch normalization by the batch's own statistics; also the running ones, of which `momentum` is kept."""
    axes = [0, *range(2, x.dim())]
    new_mean, new_var = x.mean(axes), x.var(axes, correction=0)
    shape = [1, -1] + [1] * (x.dim() - 2)
    y = (x - new_mean.reshape(shape)) * torch.rsqrt(new_var.reshape(shape) + eps) * scale.reshape(shape) + bias.reshape(shape)
    return y, mean * momentum + new_mean * (1 - momentum), var * momentum + new_var * (1 - momentum)


def instance_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Each channel of each example brought to mean 0 and variance 1, then scaled and shifted; one element becomes the shift."""
    y = F.layer_norm(x, x.shape[2:], eps=eps)
    shape = [1, -1] + [1] * (x.dim() - 2)
    return y * scale.reshape(shape) + bias.reshape(shape)


def group_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
    """Each group of channels brought to mean 0 and variance 1; scale and shift have one number a channel, or one a group."""
    y = x.reshape(x.shape[0], groups, -1)
    y = F.layer_norm(y, y.shape[2:], eps=eps).reshape(x.shape)
    shape = [1, -1] + [1] * (x.dim() - 2)
    each = x.shape[1] // scale.shape[0]
    return y * scale.repeat_interleave(each).reshape(shape) + bias.repeat_interleave(each).reshape(shape)


def layer_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, axis: int, eps: float) -> torch.Tensor:
    """The axes from `axis` on brought to mean 0 and variance 1; scale and shift broadcast."""
    y = F.layer_norm(x, x.shape[axis:], eps=eps) * scale
    return y if bias is None else y + bias


def layer_norm_statistics(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, axis: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `layer_norm`, with the mean and the reciprocal of the standard deviation."""
    axes = list(range(axis % x.dim(), x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + eps)
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


def rms_norm(x: torch.Tensor, scale: torch.Tensor, axis: int, eps: float) -> torch.Tensor:
    """The axes from `axis` on divided by their root mean square; the scale broadcasts."""
    axes = list(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + eps) * scale


def across_channels(x: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """Local response normalization over `size` channels, of an even number one more behind than before."""
    squares = F.pad(x.square().transpose(1, -1), [(size - 1) // 2, size // 2]).unfold(-1, size, 1).sum(-1).transpose(1, -1)
    return x / (k + alpha / size * squares) ** beta


def mean_variance(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """`(x - mean) / (standard deviation + 1e-9)` over the axes."""
    centred = x - x.mean(axes, keepdim=True)
    return centred / (x.var(axes, correction=0, keepdim=True).sqrt() + 1e-9)
