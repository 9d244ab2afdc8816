"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

from torch import fx, nn
from torch.nn import functional as F

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions.deform import deform_conv2d
from niudao.formats.pytorch.modules.functions.windows import pad_same
from niudao.formats.pytorch.modules.layers.conv import Conv, ConvTranspose
from niudao.formats.pytorch.modules.table import converts

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def spatial_rank(c: Call, most: int = 3) -> int:
    """Number of axes behind batch and channels; refuses none and more than torch has."""
    rank = c.needs_rank(0) - 2
    if not 1 <= rank <= most:
        c.refuse(f"works on {rank} spatial axes; torch knows 1 to {most}")
    return rank


def window(c: Call, rank: int, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int] | None, list[int] | None]:
    """Strides, dilations and paddings before and after each axis, `auto_pad` settled; the paddings are None where sizes are open."""
    strides = c.attr("strides") or [1] * rank
    dilations = c.attr("dilations") or [1] * rank
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = c.attr("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = c.attr("pads") or [0] * (2 * rank)
        return strides, dilations, extents, pads[:rank], pads[rank:]
    if auto == "VALID":
        return strides, dilations, extents, [0] * rank, [0] * rank
    sizes = (c.dims(0) or [])[2:]
    totals: list[int] = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        if stride == 1:
            totals.append(extent - 1)
        elif size is None:
            return strides, dilations, extents, None, None
        else:
            totals.append(max(0, (math.ceil(size / stride) - 1) * stride + extent - size))
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (strides, dilations, extents, less, more) if auto == "SAME_UPPER" else (strides, dilations, extents, more, less)


def pairs(before: list[int], after: list[int]) -> list[int]:
    """Paddings as F.pad takes them: from the last axis on."""
    return [p for b, a in zip(reversed(before), reversed(after), strict=True) for p in (b, a)]


def _kernel(c: Call, rank: int) -> list[int]:
    kernel: list[int | None] = c.attr("kernel_shape") or (c.dims(1) or [])[2:]
    if len(kernel) != rank or None in kernel:
        c.refuse("the size of its kernel is not known")
    return [k for k in kernel if k is not None]


def _has_bias(c: Call) -> bool:
    """Whether there is a bias; exporters write one of computed zeros where there is none."""
    if not c.has(2) or c.is_weight(2):
        return c.has(2)
    bias = c.known(2)
    return bias is None or bool(bias.any())


def _one(values: list[int]) -> Any:
    return tuple(values)


@converts("Conv")
def conv(c: Call) -> Any:
    """nn.Conv2d and its siblings; uneven paddings are padded first."""
    rank = spatial_rank(c)
    weight = c.dims(1)
    kernel = _kernel(c, rank)
    strides, dilations, extents, before, after = window(c, rank, kernel)
    groups, bias = c.attr("group"), _has_bias(c)
    x: Any = c.x(0)
    padding: Any = [0] * rank
    if before is None or after is None:
        x = c.call(pad_same, x, extents, strides, lower=c.attr("auto_pad") == "SAME_LOWER")
    elif before == after:
        padding = before
    else:
        x = c.call(F.pad, x, pairs(before, after))
    if weight is not None and None not in weight:
        layer = c.weighted(
            lambda: _CONV[rank](weight[1] * groups, weight[0], _one(kernel), _one(strides), _one(padding), _one(dilations), groups, bias),
            {"weight": 1} | ({"bias": 2} if bias else {}),
            x,
        )
        if layer is not None:
            return layer
    return c.module(Conv(_one(strides), _one(padding), _one(dilations), groups), x, c.x(1), *([c.x(2)] if bias else []))


@converts("ConvTranspose")
def conv_transpose(c: Call) -> Any:
    """nn.ConvTranspose2d and its siblings; what its padding cannot say is cut off or added behind the last axis."""
    rank = spatial_rank(c)
    weight = c.dims(1)
    kernel = _kernel(c, rank)
    strides = c.attr("strides") or [1] * rank
    dilations = c.attr("dilations") or [1] * rank
    extra = c.attr("output_padding") or [0] * rank
    groups, bias = c.attr("group"), _has_bias(c)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    found = _transposed_pads(c, rank, strides, extents, extra)
    if found is None:
        c.refuse("its paddings depend on sizes that are known only while the network runs", "output_shape")
    shape = c.node.outputs[0].shape
    if shape is not None and len(shape) != rank + 2:
        c.refuse("ONNX's own rule of shapes gives up on a result that is smaller than the input, and misleads later nodes", "output_shape")
    before, after = found
    surplus = [e + b - a for e, b, a in zip(extra, before, after, strict=True)]
    limits = [max(s, d) for s, d in zip(strides, dilations, strict=True)]
    if weight is not None and None not in weight and min(before) >= 0 and all(s < m for s, m in zip(surplus, limits, strict=True)):
        layer = c.weighted(
            lambda: _TRANSPOSE[rank](
                weight[0],
                weight[1] * groups,
                _one(kernel),
                _one(strides),
                _one(before),
                _one([max(0, s) for s in surplus]),
                groups,
                bias,
                _one(dilations),
            ),
            {"weight": 1} | ({"bias": 2} if bias else {}),
            c.x(0),
        )
        if layer is not None:
            return layer if min(surplus) >= 0 else c.call(F.pad, layer, pairs([0] * rank, [min(0, s) for s in surplus]))
    trims = pairs([-b for b in before], [e - a for e, a in zip(extra, after, strict=True)])
    layer = ConvTranspose(_one(strides), _one(dilations), groups, tuple(trims))
    return c.module(layer, c.x(0), c.x(1), *([c.x(2)] if bias else []))


def _transposed_pads(c: Call, rank: int, strides: list[int], extents: list[int], extra: list[int]) -> tuple[list[int], list[int]] | None:
    wanted, auto = c.attr("output_shape"), c.attr("auto_pad", "NOTSET")
    if not wanted and auto == "NOTSET":
        pads = c.attr("pads") or [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    if not wanted and auto == "VALID":
        return [0] * rank, [0] * rank
    if wanted:
        sizes = (c.dims(0) or [])[2:]
        if any(s is None for s in sizes):
            return None
        totals = [s * ((n or 0) - 1) + o + e - w for s, n, o, e, w in zip(strides, sizes, extra, extents, wanted[-rank:], strict=True)]
    else:
        totals = [max(0, o + e - s) for s, o, e in zip(strides, extra, extents, strict=True)]
    less, more = [max(t, 0) // 2 for t in totals], [t - max(t, 0) // 2 for t in totals]
    if min(totals) < 0:  # what is missing to the wanted size is filled behind, whichever way the rest is shared out
        uneven = [t < 0 for t in totals]
        return (
            [0 if u else a for u, a in zip(uneven, less if auto == "SAME_UPPER" else more, strict=True)],
            [t if u else a for u, t, a in zip(uneven, totals, more if auto == "SAME_UPPER" else less, strict=True)],
        )
    return (less, more) if auto == "SAME_UPPER" else (more, less)


@converts("DeformConv")
def deform_conv(c: Call) -> Any:
    """A convolution whose taps are moved; two spatial axes."""
    if c.needs_rank(0) != 4:
        c.refuse("works on other than two spatial axes")
    kernel = _kernel(c, 2)
    strides, dilations, _, before, after = window(c, 2, kernel)
    if before is None or after is None:
        c.refuse("auto_pad on open sizes", "auto_pad")
    given: list[fx.Node | None] = [c.x(i) for i in range(5)]
    return c.call(deform_conv2d, *given, strides, before, after, dilations, c.attr("group"), c.attr("offset_group"))
