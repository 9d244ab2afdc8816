"""Padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.nn import functional

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import pad as f
from niudao.formats.pytorch.modules.shape import fixed
from niudao.formats.pytorch.modules.table import converts

_TORCH = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@converts("Pad")
def pad(c: Call) -> Any:
    rank, mode, amounts = c.needs_rank(), c.attr("mode"), c.ints(1) or []
    given = c.ints(3)
    axes = list(range(rank)) if given is None else fixed(given)
    if axes is None:
        half = len(amounts) // 2
        if mode != "constant":
            return c.call(f.pad, c.x(0), amounts[:half], amounts[half:], given, mode)
        return c.call(f.pad_constant, c.x(0), amounts[:half], amounts[half:], given, c.x(2) if c.has(2) else 0)
    axes = [a % rank for a in axes]
    before, after = amounts[: len(axes)], amounts[len(axes) :]
    if fixed(amounts) is not None and not any(amounts):
        return c.x(0)
    if mode == "constant":
        return _constant(c, rank, before, after, axes)
    whole = _pairs(rank, before, after, axes)
    if _torch_pads(c, whole, mode):
        while whole and whole[-1] == 0 and whole[-2] == 0 and len(whole) > 2 * (rank - 2):
            whole = whole[:-2]
        return c.call(functional.pad, c.x(0), whole, mode=_TORCH[mode])
    moved = [i for i in range(len(axes)) if before[i] != 0 or after[i] != 0]
    return c.call(f.pad, c.x(0), [before[i] for i in moved], [after[i] for i in moved], [axes[i] for i in moved], mode)


def _pairs(rank: int, before: list[Any], after: list[Any], axes: list[int]) -> list[Any]:
    """Amounts in torch's order: the last axis first, before and after side by side."""
    whole: list[Any] = [0] * (2 * rank)
    for left, right, axis in zip(before, after, axes, strict=True):
        place = 2 * (rank - 1 - axis)
        whole[place], whole[place + 1] = left, right
    return whole


def _constant(c: Call, rank: int, before: list[Any], after: list[Any], axes: list[int]) -> fx.Node:
    value = c.known(2)
    if value is None and c.has(2):
        return c.call(f.pad_constant, c.x(0), before, after, axes, c.x(2))
    fill = value.reshape(-1)[0].item() if value is not None else 0
    whole = _pairs(rank, before, after, axes)
    while len(whole) > 2 and whole[-1] == 0 and whole[-2] == 0:
        whole = whole[:-2]
    if c.dtype(0) == torch.bool:
        fill = bool(fill)
    return c.call(functional.pad, c.x(0), whole, value=fill)


def _torch_pads(c: Call, whole: list[Any], mode: str) -> bool:
    """Whether torch's own mode says this: the last axes of an image, none cut, none grown by more than it has."""
    sizes, known = c.dims(0), fixed(whole)
    if sizes is None or known is None or not 3 <= len(sizes) <= 5 or not c.dtype(0).is_floating_point:
        return False
    if min(known) < 0 or any(known[2 * (len(sizes) - 2) :]):
        return False
    for i in range(len(sizes) - 2):
        size = sizes[len(sizes) - 1 - i]
        most = max(known[2 * i : 2 * i + 2])
        if most and mode != "edge" and (size is None or most > size - (mode == "reflect")):
            return False
    return True
