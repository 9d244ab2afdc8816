"""Tensors that are written into while others share their memory, against torch itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from lowering import Fn, judged, tensors

from niudao.errors import Unsupported
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.program.live import program_of

X = torch.Tensor
SHAPE = (2, 4, 6)


def a_view(x: X) -> Any:
    y = x * 2
    z = y.view(-1)
    z.add_(1)
    return y


def cuts(x: X) -> Any:
    y = x.clone()
    y[:, 1:] = 0
    y[:, 0].mul_(3)
    return y


def an_order(x: X) -> Any:
    y = x * 1
    p, q = y.transpose(1, 2), y[:, 1]
    p.add_(1)
    return y, q, p, y.permute(2, 0, 1).sub_(3), y


def parts(x: X) -> Any:
    y = x * 1
    both = y.split(2, 1)
    both[0].mul_(2)
    both[1][:, 0].add_(5)
    return y, both[0] + both[1]


def rows(x: X) -> Any:
    y = x * 1
    first, second = y.unbind(1)[:2]
    first.add_(1)
    second.zero_()
    return y.relu_() + 1, y


def filled(x: X) -> Any:
    out = torch.zeros_like(x)
    out[:, :2] = x[:, 2:]
    out[:, 2:3] = x[:, :1]
    out[:, 3] = x[:, 3]
    return out


def the_input(x: X) -> Any:
    x[:, ::2] = 1
    return x + 0


def a_view_of_a_view(x: X) -> Any:
    y = x + 1
    v = y[:, 1:3]
    w = v[:, :1]
    w += 7
    y[:, 2:] *= 2
    return v, w, y


def the_whole_after_the_view(x: X) -> Any:
    y = x + 1
    v = y[:, 1:3]
    y.mul_(2)
    return v + 0


def a_copy_of_another_type(x: X) -> Any:
    y = x + 1
    z = y.double()
    y.mul_(2)
    return y, z.mul_(3)


def the_same_type(x: X) -> Any:
    y = x + 1
    z = y.float()
    z.mul_(2)
    return y, z


def a_forced_copy(x: X) -> Any:
    y = x + 1
    z = y.to(torch.float32, copy=True)
    z.mul_(2)
    return y, z


def a_dropout_that_drops_nothing(x: X) -> Any:
    y = x + 1
    z = F.dropout(y, training=False)
    z.mul_(2)
    return y, z


STEPS: list[Callable[[X], Any]] = [
    a_view,
    cuts,
    an_order,
    parts,
    rows,
    filled,
    the_input,
    a_view_of_a_view,
    the_whole_after_the_view,
    a_copy_of_another_type,
    the_same_type,
    a_forced_copy,
    a_dropout_that_drops_nothing,
]


@pytest.mark.parametrize("steps", STEPS)
def test_written(steps: Callable[[X], Any]) -> None:
    judged(Fn(steps), SHAPE)


def test_what_depends_on_strides_is_refused() -> None:
    def steps(x: X) -> Any:
        y = x * 1
        z = y.permute(0, 2, 1).reshape(x.shape[0], -1)
        z.add_(1)
        return y, z

    with pytest.raises(Unsupported, match="strides"):
        build(program_of(Fn(steps).eval(), tensors([SHAPE])))


def test_overlapping_memory_is_refused() -> None:
    def steps(x: X) -> Any:
        y = x[:, :, :1] * 1
        y.expand(-1, -1, 6).select(2, 0).add_(1)
        return y

    with pytest.raises(Unsupported, match="expand"):
        build(program_of(Fn(steps).eval(), tensors([SHAPE])))
