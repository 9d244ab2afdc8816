"""Resizing and its relatives: torch's own interpolation where that gives the same numbers, else ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import images
from niudao.formats.pytorch.modules.functions.resize import resize, scaled
from niudao.formats.pytorch.modules.shape import fixed
from niudao.formats.pytorch.modules.table import converts
from niudao.ir.operators import dims

_MODES = {
    ("nearest", 3): ("nearest", "nearest-exact"),
    ("nearest", 4): ("nearest", "nearest-exact"),
    ("nearest", 5): ("nearest", "nearest-exact"),
    ("linear", 3): ("linear",),
    ("linear", 4): ("bilinear",),
    ("linear", 5): ("trilinear",),
    ("cubic", 4): ("bicubic",),
}
_TRIED = range(1, 33)
"""Sizes on which torch's answer is compared with ours where the size is known only while the network runs."""
_LARGEST = 2048
"""Longer axes are not compared: the unit matrix would be large."""


@converts("Resize")
def resize_any(c: Call) -> Any:
    rank, mode, coordinates, policy = (
        c.needs_rank(),
        c.attr("mode"),
        c.attr("coordinate_transformation_mode"),
        c.attr("keep_aspect_ratio_policy"),
    )
    if mode != "nearest" and not c.dtype(0).is_floating_point:
        c.refuse("interpolates integers", "mode")
    axes = c.attr("axes")
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    scales = _given(c, 2)
    sizes = _given(c, 3) if scales is None else None
    if scales is not None and coordinates in ("align_corners", "tf_crop_and_resize") and _cut(c, axes, scales):
        c.refuse("its factors leave part of an element over, and ONNX and its runtimes do not agree where the corners lie then", "scales")
    if scales is not None and _rounded(c, axes, scales):
        c.refuse("ONNX's own rule of shapes and its runtimes round the product of a size and its factor to different sizes", "scales")
    have, roi = [(c.dims(0) or [None] * rank)[a] for a in axes], None
    if coordinates == "tf_crop_and_resize":
        roi = _given(c, 1)
        if roi is None or (mode != "nearest" and c.attr("antialias")):
            c.refuse("resizes a region and widens its filter, or has no region", "coordinate_transformation_mode")
    settings: dict[str, Any] = {"mode": mode, "coordinates": coordinates}
    if mode == "nearest":
        settings["rounding"] = c.attr("nearest_mode")
    elif mode == "cubic":
        settings |= {"cubic": c.attr("cubic_coeff_a"), "exclude_outside": bool(c.attr("exclude_outside"))}
    if mode != "nearest" and c.attr("antialias"):
        settings |= {"antialias": True, "exclude_outside": bool(c.attr("exclude_outside"))}
    if roi is not None:
        settings |= {"roi": roi, "extrapolation": c.attr("extrapolation_value")}
        return c.call(resize, c.x(0), axes, sizes, scales, **settings, policy=policy if sizes is not None else "stretch")
    if policy != "stretch" and sizes is not None:
        return c.call(resize, c.x(0), axes, sizes, None, **settings, policy=policy)
    kept = [i for i in range(len(axes)) if (scales[i] != 1 if scales is not None else (sizes or [])[i] != have[i])]
    axes, have = [axes[i] for i in kept], [have[i] for i in kept]
    scales = [scales[i] for i in kept] if scales is not None else None
    sizes = [sizes[i] for i in kept] if sizes is not None else None
    if not axes:
        return c.x(0)
    own = _torch(c, rank, axes, have, sizes, scales, settings)
    if own is not None:
        return own
    new = c.node.outputs[0].shape
    if sizes is None and new is not None and all(isinstance(new[a], int) for a in axes):
        sizes = [new[a] for a in axes]
    return c.call(resize, c.x(0), axes, sizes, scales, **settings)


def _cut(c: Call, axes: list[int], scales: list[Any]) -> bool:
    """Whether a size times its factor is no whole number; `resize` asks again where one is not known. One element has no corners."""
    return any(n != 1 and abs(n * s - round(n * s)) > 1e-4 for n, s, _ in _known(c, axes, scales))


def _rounded(c: Call, axes: list[int], scales: list[Any]) -> bool:
    """Whether the size that was inferred, and that later nodes count on, is another than the one that `resize` makes."""
    return any(isinstance(new, int) and new != scaled(n, s) for n, s, new in _known(c, axes, scales))


def _known(c: Call, axes: list[int], scales: list[Any]) -> list[tuple[int, float, Any]]:
    """Size, factor and inferred new size of the axes of which size and factor are known."""
    sizes, new = c.dims(0) or [], dims(c.node.outputs[0]) or [None] * c.needs_rank()
    triples = [(sizes[a], s, new[a]) for a, s in zip(axes, scales, strict=True)]
    return [(n, s, m) for n, s, m in triples if n is not None and isinstance(s, float)]


def _given(c: Call, i: int) -> list[Any] | None:
    """Sizes, scales or a region, numbers as far as they are known; None where there are none."""
    if not c.has(i) or c.dims(i) == [0]:
        return None
    known = c.known(i)
    return [n.item() for n in known.reshape(-1)] if known is not None else c.ints(i)


def _torch(
    c: Call,
    rank: int,
    axes: list[int],
    have: list[int | None],
    sizes: list[Any] | None,
    scales: list[Any] | None,
    settings: dict[str, Any],
) -> Any:
    """torch's own interpolation as a layer, if it gives what we would; None if not."""
    names = _MODES.get((settings["mode"], rank), ())
    if (
        min(axes) < 2
        or (scales is not None and any(not isinstance(s, float) for s in scales))
        or (sizes is not None and fixed(sizes) is None)
    ):
        return None
    tries: list[list[int]] = [[n] if n is not None else list(_TRIED) for n in have]
    if settings["coordinates"] == "align_corners" and any(n is None and s % 1 for n, s in zip(have, scales or [], strict=False)):
        return None  # ours looks whether the factor leaves part of an element over
    if max(max(t) for t in tries) > _LARGEST or (sizes is not None and None in have) or max(sizes or [0]) > _LARGEST:
        return None
    antialias = settings.get("antialias", False)
    for name in names:
        for corners in (None,) if settings["mode"] == "nearest" else (False, True):
            if antialias and name in ("linear", "trilinear"):
                continue
            extra: dict[str, Any] = {"mode": name, "align_corners": corners}
            if antialias:
                extra["antialias"] = True
            if all(
                _same(n, rank, sizes[i] if sizes is not None else None, scales[i] if scales is not None else None, settings, extra)
                for i, t in enumerate(tries)
                for n in t
            ):
                return _layer(c, rank, axes, sizes, scales, extra)
    return None


def _same(n: int, rank: int, size: int | None, scale: float | None, settings: dict[str, Any], extra: dict[str, Any]) -> bool:
    """Whether torch maps the unit vectors of an axis of `n` elements to where ours are mapped."""
    spatial = rank - 2
    unit = torch.eye(n).reshape(n, 1, n, *[1] * (spatial - 1))
    ours = resize(unit, [2], [size] if size is not None else None, [scale] if scale is not None else None, **settings)
    if ours.shape[2] == 0:
        return False
    how: dict[str, Any] = {"size": (size, *[1] * (spatial - 1))} if size is not None else {"scale_factor": (scale, *[1.0] * (spatial - 1))}
    theirs = functional.interpolate(unit, **how, **extra)
    return theirs.shape == ours.shape and bool(torch.allclose(theirs, ours, rtol=0, atol=2e-6))


def _layer(c: Call, rank: int, axes: Sequence[int], sizes: list[Any] | None, scales: list[Any] | None, extra: dict[str, Any]) -> Any:
    if sizes is not None:
        whole: list[Any] = c.sizes(0)[2:]
        for axis, size in zip(axes, sizes, strict=True):
            whole[axis - 2] = size
        how: dict[str, Any] = {"size": tuple(whole)}
    else:
        factors = [1.0] * (rank - 2)
        for axis, scale in zip(axes, scales or [], strict=True):
            factors[axis - 2] = scale
        how = {"scale_factor": factors[0] if len(set(factors)) == 1 else tuple(factors)}
    if "antialias" in extra or (sizes is not None and fixed(how["size"]) is None):
        return c.call(functional.interpolate, c.x(0), **how, **extra)
    return c.module(nn.Upsample(**how, **extra), c.x(0))


@converts("GridSample")
def grid_sample(c: Call) -> Any:
    mode = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic", "bicubic": "bicubic"}[c.attr("mode")]
    rank = c.needs_rank()
    if rank not in (4, 5) or (rank == 5 and mode == "bicubic"):
        c.refuse("torch samples images of two or three axes, cubic ones of two", "mode")
    return c.call(
        functional.grid_sample, c.x(0), c.x(1), mode=mode, padding_mode=c.attr("padding_mode"), align_corners=bool(c.attr("align_corners"))
    )


@converts("AffineGrid")
def affine_grid(c: Call) -> Any:
    return c.call(functional.affine_grid, c.x(0), c.ints(1), align_corners=bool(c.attr("align_corners")))


@converts("DepthToSpace")
def depth_to_space(c: Call) -> Any:
    if c.attr("mode") == "CRD":
        return c.module(nn.PixelShuffle(c.attr("blocksize")), c.x(0))
    return c.call(images.depth_to_space, c.x(0), c.attr("blocksize"))


@converts("SpaceToDepth")
def space_to_depth(c: Call) -> Any:
    if c.attr("mode", "DCR") == "CRD":
        return c.module(nn.PixelUnshuffle(c.attr("blocksize")), c.x(0))
    return c.call(images.space_to_depth, c.x(0), c.attr("blocksize"))


@converts("CenterCropPad")
def center_crop_pad(c: Call) -> Any:
    axes = c.attr("axes")
    return c.call(images.center_crop_pad, c.x(0), c.ints(1), list(range(c.needs_rank())) if axes is None else axes)


@converts("Col2Im")
def fold(c: Call) -> Any:
    image, block = c.ints(1) or [], c.ints(2) or []
    rank = len(image)
    dilations, pads, strides = c.attr("dilations", [1] * rank), c.attr("pads", [0] * 2 * rank), c.attr("strides", [1] * rank)
    if rank == 2 and pads[:2] == pads[2:] and fixed(image) is not None and fixed(block) is not None:
        return c.module(nn.Fold(tuple(image), tuple(block), tuple(dilations), tuple(pads[:2]), tuple(strides)), c.x(0))
    return c.call(images.fold, c.x(0), image, block, dilations, pads, strides)
