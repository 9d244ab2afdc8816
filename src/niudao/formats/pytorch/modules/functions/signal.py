"""Spectra, their windows, and the matrix that gathers them as ears do."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dft(x: Tensor, length: int | None, axis: int, inverse: bool, onesided: bool) -> Tensor:
    """Discrete Fourier transform along an axis; the last axis of `x` and of the result holds real parts, or real and imaginary ones."""
    axis = axis % x.dim()
    signal = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    if inverse and onesided:
        return torch.fft.irfft(signal, length, dim=axis).unsqueeze(-1)
    if inverse:
        return torch.view_as_real(torch.fft.ifft(signal, length, dim=axis).resolve_conj())
    y = torch.fft.fft(signal, length, dim=axis)
    y = y if y.is_complex() else torch.complex(y, torch.zeros_like(y))
    y = y.narrow(axis, 0, y.shape[axis] // 2 + 1) if onesided else y
    return torch.view_as_real(y.resolve_conj())


def stft(x: Tensor, step: int, window: Tensor | None, length: int | None, onesided: bool) -> Tensor:
    """Fourier transforms of frames of a signal.

    Args:
        x: (batch, time, 1), or (batch, time, 2) with imaginary parts.
        step: Distance of frames.
        window: Factor of each element of a frame.
        length: Length of a frame; the window's where it is not given.
        onesided: Leave the negative frequencies out.

    Returns:
        (batch, frames, frequencies, 2).
    """
    if length is None:
        length = x.shape[1] if window is None else window.shape[0]
    frames = x.unfold(1, length if window is None else window.shape[0], step).transpose(2, 3)
    if window is not None:
        frames = frames * window.reshape(-1, 1)
    return dft(frames, length, 2, False, onesided)


def cosine_window(size: int, periodic: bool, first: float, second: float, third: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """first - second * cos(t) + third * cos(2 t), where t goes once round the circle."""
    turn = torch.arange(size, dtype=torch.float64, device=device) * (2 * math.pi / max(size if periodic else size - 1, 1))
    return (first - second * torch.cos(turn) + third * torch.cos(2 * turn)).to(dtype)


def mel_weights(bins: int, length: int, rate: int, low: float, high: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (length / 2 + 1, bins) whose product with a spectrum is a mel spectrum."""
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (low, high))
    edges = []
    for i in range(bins + 2):
        mel = low + i * (high - low) / (bins + 2)
        edges.append(int((length + 1) * 700 * (10 ** (mel / 2595) - 1) // rate))
    matrix = torch.zeros(length // 2 + 1, bins, dtype=torch.float64)
    for i in range(bins):
        left, middle, right = edges[i : i + 3]
        if left == middle:
            matrix[middle, i] = 1
        for j in range(left, middle + 1 if left < middle else left):
            matrix[j, i] = (j - left) / (middle - left)
        for j in range(middle, right):
            matrix[j, i] = (right - j) / (right - middle)
    return matrix.to(device, dtype)
