"""Views, cuts, joins and padding as models, against torch itself: exported and traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lowering import Fn, judged, ops
from scripting import trace_judged
from torch import nn

IMAGE = (2, 4, 6, 8)
LINE = (2, 5, 7)


def written(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, 1:3] = x[:, :2]
    y[:, 0, ::2] = 3.0
    y[..., -1] += x[..., 0]
    return y


def shifted(x: torch.Tensor) -> torch.Tensor:
    """The temporal shift of a network on videos."""
    out = torch.zeros_like(x)
    out[:, :-1, :2] = x[:, 1:, :2]
    out[:, 1:, 2:4] = x[:, :-1, 2:4]
    return out


FORMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], list[str] | None]] = {
    "view": (lambda x: x.view(x.size(0), -1), (IMAGE,), ["Reshape"]),
    "view_sizes": (lambda x: x.view(x.size(0), 2, 2, -1, x.size(3)), (IMAGE,), ["Reshape"]),
    "reshape_fold": (lambda x: x.reshape(-1, 6, 8), (IMAGE,), None),
    "flatten": (lambda x: x.flatten(1), (IMAGE,), ["Flatten"]),
    "flatten_inner": (lambda x: x.flatten(2, 3), (IMAGE,), ["Reshape"]),
    "flatten_all": (lambda x: x.flatten(), (IMAGE,), ["Reshape"]),
    "flatten_lead": (lambda x: torch.flatten(x, 0, 1), (IMAGE,), None),
    "unflatten": (lambda x: x.unflatten(1, (2, -1)), (IMAGE,), ["Reshape"]),
    "permute": (lambda x: x.permute(0, 2, 3, 1), (IMAGE,), ["Transpose"]),
    "transpose": (lambda x: x.transpose(-1, 1), (IMAGE,), ["Transpose"]),
    "movedim": (lambda x: torch.movedim(x, (1, 2), (-1, 1)), (IMAGE,), ["Transpose"]),
    "swapaxes": (lambda x: x.swapaxes(1, 2), (IMAGE,), ["Transpose"]),
    "matrix_transpose": (lambda x: x.mT, (IMAGE,), ["Transpose"]),
    "unsqueeze": (lambda x: x.unsqueeze(-1).unsqueeze(1), (LINE,), ["Unsqueeze", "Unsqueeze"]),
    "squeeze": (lambda x: x.squeeze(1), ((2, 1, 5),), ["Squeeze"]),
    "squeeze_other": (lambda x: x.squeeze(2) + 1, ((2, 1, 5),), ["Add"]),
    "squeeze_several": (lambda x: x.squeeze((1, 3)), ((2, 1, 5, 1),), ["Squeeze"]),
    "expand": (lambda x: x.expand(-1, 3, 5), ((2, 1, 5),), ["Expand"]),
    "expand_lead": (lambda x: x.expand(4, -1, -1, -1), (LINE,), ["Expand"]),
    "expand_as": (lambda x: x[:, :1].expand_as(x), (LINE,), None),
    "broadcast_to": (lambda x: x.broadcast_to(x.size(0), 3, 5), ((2, 1, 5),), ["Expand"]),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), (IMAGE,), ["Tile"]),
    "repeat_lead": (lambda x: x.repeat(2, 1, 1, 2), (LINE,), None),
    "tile": (lambda x: x.tile(2), (LINE,), ["Tile"]),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, dim=1), (LINE,), None),
    "repeat_interleave_places": (lambda x: x.repeat_interleave(torch.tensor([1, 0, 2, 1, 1]), dim=1), (LINE,), None),
    "pixel_shuffle": (nn.PixelShuffle(2), (IMAGE,), ["DepthToSpace"]),
    "pixel_unshuffle": (nn.PixelUnshuffle(2), (IMAGE,), ["Reshape", "Transpose", "Reshape"]),
    "channel_shuffle": (nn.ChannelShuffle(2), (IMAGE,), ["Reshape", "Transpose", "Reshape"]),
    "channel_shuffle_by_hand": (
        lambda x: x.view(x.size(0), 2, 2, x.size(2), x.size(3)).transpose(1, 2).contiguous().view(x.size(0), -1, x.size(2), x.size(3)),
        (IMAGE,),
        ["Reshape", "Transpose", "Reshape"],
    ),
    # cuts and joins
    "slice": (lambda x: x[:, 1:3, ::2, -3:], (IMAGE,), None),
    "slice_step": (lambda x: x[:, :, 1::2, 1:-1:3], (IMAGE,), None),
    "slice_beyond": (lambda x: x[:, 2:100, -100:4], (IMAGE,), None),
    "select": (lambda x: x[:, -1] + x.select(1, 0), (IMAGE,), None),
    "narrow": (lambda x: x.narrow(2, 1, 3), (IMAGE,), ["Slice"]),
    "first_of_batch": (lambda x: x[0] * x[-1:], (IMAGE,), None),
    "cat": (lambda x: torch.cat([x, x * 2, x[:, :1]], 1), (IMAGE,), None),
    "cat_types": (lambda x: torch.cat([x, (x > 0)], -1), (IMAGE,), None),
    "cat_empty": (lambda x: torch.cat([torch.zeros(0), x], 1), (LINE,), None),
    "stack": (lambda x: torch.stack([x, -x], -1), (LINE,), None),
    "hstack": (lambda x: torch.hstack([x, x]), (LINE,), None),
    "split": (lambda x: torch.split(x, 3, 2)[1] * 2, ((2, 4, 6),), None),
    "split_rest": (lambda x: torch.split(x, 4, 2), ((2, 4, 6),), ["Split"]),
    "split_sizes": (lambda x: torch.split(x, [1, 3], 1), (IMAGE,), ["Split"]),
    "chunk": (lambda x: x.chunk(3, 3), (IMAGE,), ["Split"]),
    "tensor_split": (lambda x: x.tensor_split(3, 2) + x.tensor_split((1, 4), 2), (LINE,), None),
    "unbind": (lambda x: x.unbind(1)[2] + x.unbind(1)[0], (LINE,), None),
    "flip": (lambda x: x.flip(2, 3), (IMAGE,), ["Slice"]),
    "roll": (lambda x: x.roll((1, -2), (2, 3)), (IMAGE,), None),
    "roll_far": (lambda x: torch.roll(x, 9, 3), (IMAGE,), None),
    "rot90": (lambda x: torch.rot90(x, 1, (2, 3)), (IMAGE,), None),
    "rot270": (lambda x: torch.rot90(x, 3, (2, 3)), (IMAGE,), None),
    "unfold_axis": (lambda x: x.unfold(2, 3, 2), (LINE,), None),
    "unfold": (nn.Unfold((3, 2), (1, 2), (1, 0), (2, 1)), (IMAGE,), None),
    "fold": (nn.Fold((5, 6), (2, 3), padding=(0, 1), stride=(1, 2)), ((2, 12, 12),), None),
    "slice_written": (written, (IMAGE,), None),
    "temporal_shift": (shifted, ((2, 3, 5, 4),), None),
    # padding
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3)), (IMAGE,), ["Pad"]),
    "pad_value": (lambda x: F.pad(x, (1, 2), value=-1.5), (IMAGE,), ["Pad"]),
    "pad_channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), (IMAGE,), ["Pad"]),
    "pad_cut": (lambda x: F.pad(x, (-1, 2, 1, -2)), (IMAGE,), None),
    "reflect": (nn.ReflectionPad2d((1, 2, 3, 0)), (IMAGE,), ["Pad"]),
    "reflect_1d": (nn.ReflectionPad1d((2, 1)), (LINE,), ["Pad"]),
    "replicate": (nn.ReplicationPad2d((1, 2, 3, 0)), (IMAGE,), ["Pad"]),
    "replicate_3d": (nn.ReplicationPad3d(1), ((2, 3, 4, 3, 4),), ["Pad"]),
    "circular": (nn.CircularPad2d((1, 2, 3, 0)), (IMAGE,), ["Pad"]),
    "constant_pad": (nn.ConstantPad1d((1, 3), 2.0), (LINE,), ["Pad"]),
    # made from nothing
    "arange": (lambda x: x + torch.arange(7) - torch.arange(1, 15, 2) * torch.arange(0, 0.7, 0.1), (LINE,), None),
    "arange_size": (lambda x: x + torch.arange(x.size(0)).view(-1, 1, 1), (LINE,), None),
    "filled": (lambda x: x * torch.full((7,), 2.5) + torch.ones(5, 1) + torch.zeros(x.size(0), 1, 1) + torch.eye(5, 7), (LINE,), None),
    "like": (lambda x: torch.zeros_like(x) + torch.ones_like(x) * x.new_full((1,), 3.0) + torch.full_like(x, 0.5), (LINE,), None),
    "linspace": (lambda x: x * torch.linspace(-1, 1, 7), (LINE,), None),
    "sizes": (lambda x: x.view(x.shape[0] * x.shape[1] // 5, -1)[:, : x.shape[2] - 2] * x.size(1), (LINE,), None),
}
TRACED_ONLY = {"slice_written", "temporal_shift"}
"""Writing into a part of a tensor, which only the walk through TorchScript follows."""


@pytest.mark.parametrize("name", [n for n in FORMS if n not in TRACED_ONLY])
def test_exported(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = judged(function if isinstance(function, nn.Module) else Fn(function), *shapes)
    if wanted is not None:
        assert ops(model) == wanted


@pytest.mark.parametrize("name", FORMS)
def test_traced(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = trace_judged(function if isinstance(function, nn.Module) else Fn(function), *shapes)
    if wanted is not None:
        assert ops(model) == wanted
