"""Resizing and sampling of pictures.

torch computes where a pixel comes from in float32 and rounds down; another order of the same arithmetic can land on the neighbour.
Where it would, nearest neighbours are picked by constant places instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Array, Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten

Sizes = Sequence[Number] | None
Factors = Sequence[float | None] | None


def _resized(c: Lowering, x: ir.Value, sizes: Sizes, factors: Factors, **how: Any) -> ir.Value:
    """Resize of the axes behind the channels, by factors where torch goes by factors, else by sizes."""
    own = c.shape(x)[2:]
    scales = [f for f in factors or () if f is not None]
    if scales and len(scales) != len(own):
        c.refuse(f"{len(scales)} factors for {len(own)} axes", "scale_factors")
    if sizes is not None:
        new: list[Number] = list(sizes)
    elif scales:
        new = [_scaled(c, n, f) for n, f in zip(own, scales, strict=True)]
    else:
        c.refuse("neither sizes nor factors are stated")
    if scales and sizes is not None and not _agree(own, new, scales):
        scales = []  # torch goes by its factors and cuts to the sizes, which Resize has no word for
        if how.get("coordinate_transformation_mode") != "align_corners" and _matters(own, new, factors or ()):
            c.refuse("its sizes do not follow from its factors", "scale_factors", "use size or recompute_scale_factor=True")
    lead = [c.size(x, 0), c.size(x, 1)]
    if new == own and how.get("coordinate_transformation_mode") != "half_pixel_symmetric" and (not scales or all(f == 1 for f in scales)):
        return x
    if scales:
        y = c.op("Resize", x, None, c.const([1.0, 1.0, *scales]), None, **how)
    else:
        axes = list(range(2, 2 + len(own)))
        y = c.op("Resize", x, None, None, c.vector(new), axes=axes, **how)
    return c.shaped(y, [*lead, *new])


def _scaled(c: Lowering, n: Number, factor: float) -> Number:
    if isinstance(n, int):
        return int(np.floor(n * factor))
    if float(factor).is_integer():
        return n * int(factor)
    parts = float(factor).as_integer_ratio()
    if max(parts) > 1 << 16:
        c.refuse(f"a free size times {factor}", "scale_factors", "give the input's shape")
    return (n * parts[0]) // parts[1]


def _agree(own: Sequence[Number], new: Sequence[Number], scales: Sequence[float]) -> bool:
    return all(isinstance(a, Sym) or int(np.floor(a * f)) == b for a, b, f in zip(own, new, scales, strict=True))


def _matters(own: Sequence[Number], new: Sequence[Number], factors: Factors) -> bool:
    """Whether the factor differs from what the sizes say."""
    return any(
        f is not None and (isinstance(a, Sym) or isinstance(b, Sym) or abs(f * a - b) > 1e-6 * b)
        for a, b, f in zip(own, new, factors or (), strict=True)
    )


def _origins(size: int, new: int, factor: float | None, exact: bool) -> tuple[Array, Array]:
    """Where torch takes each nearest neighbour from, and where ONNX Runtime does.

    Reference: aten/src/ATen/native/UpSample.h, nearest_neighbor_compute_source_index; onnxruntime's upsamplebase.h.
    """
    one = np.float32(1)
    ratio = one / np.float32(factor) if factor else np.float32(size) / np.float32(new)
    at = np.arange(new, dtype=np.float32)
    scale = np.float32(factor) if factor else np.float32(new) / np.float32(size)
    if exact:
        theirs = np.floor((at + np.float32(0.5)) * ratio)
        place = (at + np.float32(0.5)) / scale - np.float32(0.5)
        ours = np.sign(place) * np.floor(np.abs(place) + np.float32(0.5))
    else:
        theirs = np.floor(at * ratio)
        ours = np.floor(at / scale)
    return (np.clip(v, 0, size - 1).astype(np.int64) for v in (theirs, ours))  # type: ignore[return-value]


def _nearest(c: Lowering, x: ir.Value, sizes: Sizes, factors: Factors, exact: bool) -> ir.Value:
    own = c.shape(x)[2:]
    given: list[float | None] = [f if f else None for f in factors] if factors else [None] * len(own)
    new = list(sizes) if sizes is not None else [_scaled(c, n, f) for n, f in zip(own, given, strict=True) if f]
    picked: list[Array] = []
    same = True
    for n, m, f in zip(own, new, given, strict=True):
        if isinstance(n, Sym) or isinstance(m, Sym):
            break
        theirs, ours = _origins(n, m, f, exact)
        picked.append(theirs)
        same = same and bool((theirs == ours).all()) and (f is None or int(np.floor(n * f)) == m)
    if len(picked) == len(own) and not same:
        for i, places in enumerate(picked):
            if len(places) != own[i] or (places != np.arange(len(places))).any():
                x = c.op("Gather", x, c.const(places), axis=2 + i)
        return x
    if exact:
        how = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    else:
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resized(c, x, sizes, factors, mode="nearest", **how)


def _smooth(c: Lowering, x: ir.Value, sizes: Sizes, factors: Factors, align_corners: bool, mode: str, **how: Any) -> ir.Value:
    place = "align_corners" if align_corners else "half_pixel"
    if align_corners and sizes is None and factors:  # only the sizes count then
        sizes = [_scaled(c, n, f) for n, f in zip(c.shape(x)[2:], factors, strict=True) if f]
    if align_corners:
        factors = None
    return _resized(c, x, sizes, factors, mode=mode, coordinate_transformation_mode=place, **how)


@aten("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec")
def nearest_vec(c: Lowering, input: ir.Value, output_size: Sizes, scale_factors: Factors) -> ir.Value:
    return _nearest(c, input, output_size, scale_factors, exact=False)


@aten("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_nearest3d")
def nearest(c: Lowering, self: ir.Value, output_size: Sizes, *scales: float | None, **named: float | None) -> ir.Value:
    return _nearest(c, self, output_size, _factors(scales, named), exact=False)


@aten("aten._upsample_nearest_exact1d.vec", "aten._upsample_nearest_exact2d.vec", "aten._upsample_nearest_exact3d.vec")
def nearest_exact_vec(c: Lowering, input: ir.Value, output_size: Sizes, scale_factors: Factors) -> ir.Value:
    return _nearest(c, input, output_size, scale_factors, exact=True)


@aten("aten._upsample_nearest_exact1d", "aten._upsample_nearest_exact2d", "aten._upsample_nearest_exact3d")
def nearest_exact(c: Lowering, self: ir.Value, output_size: Sizes, *scales: float | None, **named: float | None) -> ir.Value:
    return _nearest(c, self, output_size, _factors(scales, named), exact=True)


def _factors(scales: Sequence[float | None], named: dict[str, float | None]) -> Factors:
    """The factors of the overloads that take them one by one; all or none."""
    order = ("scales", "scales_d", "scales_h", "scales_w")
    found = [*scales, *(named[k] for k in order if k in named)]
    return found if found and all(f is not None for f in found) else None


@aten("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_trilinear3d.vec")
def linear_vec(c: Lowering, input: ir.Value, output_size: Sizes, align_corners: bool, scale_factors: Factors) -> ir.Value:
    return _smooth(c, input, output_size, scale_factors, align_corners, "linear")


@aten("aten.upsample_linear1d", "aten.upsample_bilinear2d", "aten.upsample_trilinear3d")
def linear(c: Lowering, self: ir.Value, output_size: Sizes, align_corners: bool, *scales: float | None, **named: float | None) -> ir.Value:
    return _smooth(c, self, output_size, _factors(scales, named), align_corners, "linear")


@aten("aten.upsample_bicubic2d.vec")
def cubic_vec(c: Lowering, input: ir.Value, output_size: Sizes, align_corners: bool, scale_factors: Factors) -> ir.Value:
    return _smooth(c, input, output_size, scale_factors, align_corners, "cubic", cubic_coeff_a=-0.75)


@aten("aten.upsample_bicubic2d")
def cubic(c: Lowering, self: ir.Value, output_size: Sizes, align_corners: bool, *scales: float | None, **named: float | None) -> ir.Value:
    return _smooth(c, self, output_size, _factors(scales, named), align_corners, "cubic", cubic_coeff_a=-0.75)


def _antialiased(c: Lowering, x: ir.Value, sizes: Sizes, factors: Factors, align_corners: bool, cubic: bool) -> ir.Value:
    """torch's antialiased cubic has a = -0.5, as Pillow's.

    Every axis is a matrix of its own, so the result is two products; Resize with antialias rounds its weights in other ways.
    """
    own = c.shape(x)[2:]
    given = list(factors) if factors else [None] * len(own)
    new = list(sizes) if sizes is not None else [_scaled(c, n, f) for n, f in zip(own, given, strict=True) if f]
    (h, w), (to_h, to_w) = ([c.whole(v, "size") for v in pair] for pair in (own, new))
    rows = _weights(h, to_h, given[0], align_corners, cubic)
    columns = _weights(w, to_w, given[1], align_corners, cubic)
    return c.op("MatMul", c.op("MatMul", c.const(rows, x), x), c.const(columns.T, x))


def _weights(size: int, new: int, factor: float | None, align_corners: bool, cubic: bool) -> Array:
    """Rows of weights, (new, size).

    Reference: aten/src/ATen/native/cpu/UpSampleKernel.cpp, _compute_indices_min_size_weights_aa.
    """
    corners = (size - 1) / (new - 1) if new > 1 else 0.0
    ratio = corners if align_corners else 1 / factor if factor else size / new
    reach = (2.0 if cubic else 1.0) * max(ratio, 1.0)
    shrink = 1 / ratio if ratio >= 1 else 1.0
    table = np.zeros((new, size))
    for i in range(new):
        centre = ratio * (i + 0.5)
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        t = np.abs((np.arange(first, last) - centre + 0.5) * shrink)
        table[i, first:last] = _cubic(t) if cubic else np.maximum(1 - t, 0)
        total = table[i].sum()
        table[i] /= total if total else 1.0
    return table


def _cubic(t: Array, a: float = -0.5) -> Array:
    near, far = ((a + 2) * t - (a + 3)) * t * t + 1, (((t - 5) * t + 8) * t - 4) * a
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


@aten("aten._upsample_bilinear2d_aa.vec")
def linear_aa_vec(c: Lowering, input: ir.Value, output_size: Sizes, align_corners: bool, scale_factors: Factors) -> ir.Value:
    return _antialiased(c, input, output_size, scale_factors, align_corners, cubic=False)


@aten("aten._upsample_bilinear2d_aa")
def linear_aa(
    c: Lowering, self: ir.Value, output_size: Sizes, align_corners: bool, *scales: float | None, **named: float | None
) -> ir.Value:
    return _antialiased(c, self, output_size, _factors(scales, named), align_corners, cubic=False)


@aten("aten._upsample_bicubic2d_aa.vec")
def cubic_aa_vec(c: Lowering, input: ir.Value, output_size: Sizes, align_corners: bool, scale_factors: Factors) -> ir.Value:
    return _antialiased(c, input, output_size, scale_factors, align_corners, cubic=True)


@aten("aten._upsample_bicubic2d_aa")
def cubic_aa(
    c: Lowering, self: ir.Value, output_size: Sizes, align_corners: bool, *scales: float | None, **named: float | None
) -> ir.Value:
    return _antialiased(c, self, output_size, _factors(scales, named), align_corners, cubic=True)


@aten("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def grid_sampler(
    c: Lowering, input: ir.Value, grid: ir.Value, interpolation_mode: int, padding_mode: int, align_corners: bool | None
) -> ir.Value:
    y = c.op(
        "GridSample",
        input,
        grid,
        mode=("linear", "nearest", "cubic")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(bool(align_corners)),
    )
    return c.shaped(y, [c.size(input, 0), c.size(input, 1), *c.shape(grid)[1:-1]])


@aten("aten.affine_grid_generator")
def affine_grid(c: Lowering, theta: ir.Value, size: Sequence[Number], align_corners: bool) -> ir.Value:
    y = c.op("AffineGrid", theta, c.vector(size), align_corners=int(align_corners))
    return c.shaped(y, [size[0], *size[2:], len(size) - 2])
