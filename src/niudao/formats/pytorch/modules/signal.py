"""Fourier transforms, their windows, mel spectra."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import signal as f
from niudao.formats.pytorch.modules.shape import device_of, in_network_type
from niudao.formats.pytorch.modules.table import converts
from niudao.formats.pytorch.modules.weights import DTYPES

_WINDOWS = {"HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 1 - 25 / 46, 0.0), "BlackmanWindow": (0.42, 0.5, 0.08)}


def _one(c: Call, i: int, default: Any = None) -> Any:
    """A setting as a number, whether the file or the network's caller gives it."""
    return (c.ints(i) or [default])[0] if c.has(i) else default


def _type(c: Call) -> Any:
    dtype = DTYPES.get(ir.DataType(c.attr("output_datatype")))
    return dtype if dtype is not None else c.refuse("torch has no such type", "output_datatype")


@converts("DFT")
def dft(c: Call) -> Any:
    return c.call(f.dft, c.x(0), _one(c, 1), _one(c, 2, -2), bool(c.attr("inverse")), bool(c.attr("onesided")))


@converts("STFT")
def stft(c: Call) -> Any:
    return c.call(f.stft, c.x(0), _one(c, 1), c.x(2), _one(c, 3), bool(c.attr("onesided")))


@converts(*_WINDOWS)
def window(c: Call) -> Any:
    dtype = _type(c)
    return in_network_type(c, c.call(f.cosine_window, _one(c, 0), bool(c.attr("periodic")), *_WINDOWS[c.op], dtype, device_of(c)), dtype)


@converts("MelWeightMatrix")
def mel_weights(c: Call) -> Any:
    dtype = _type(c)
    return in_network_type(c, c.call(f.mel_weights, *(_one(c, i) for i in range(5)), dtype, device_of(c)), dtype)
