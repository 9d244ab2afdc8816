"""Poolings against loops over windows, as Caffe's sources describe them, and against real Caffe."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

LOWEST = np.finfo(np.float32).min


def windows(n, k, s, p, rounding, clip):
    out = int(rounding((n + 2 * p - k) / s)) + 1
    if clip and (out - 1) * s >= n + p:
        out -= 1
    return [(i * s - p, min(i * s - p + k, n + p)) for i in range(out)]


def pooled(x, kind, kernel, stride, pad, rounding=ceil):
    """Caffe's two loops: returns the values and, for MAX, the place of each maximum in its plane."""
    height, width = x.shape[2:]
    ys, xs = (windows(n, k, s, p, rounding, any(pad)) for n, k, s, p in zip((height, width), kernel, stride, pad, strict=True))
    y, mask = np.full((*x.shape[:2], len(ys), len(xs)), LOWEST, np.float64), np.full((*x.shape[:2], len(ys), len(xs)), -1.0)
    for i, (top, bottom) in enumerate(ys):
        for j, (left, right) in enumerate(xs):
            size = (bottom - top) * (right - left)
            part = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            if kind == "AVE":
                with np.errstate(all="ignore"):
                    y[:, :, i, j] = np.float64(part.sum((2, 3))) / np.float64(size)
            elif part.size:
                y[:, :, i, j] = part.max((2, 3))
                row, column = np.unravel_index(part.reshape(*part.shape[:2], -1).argmax(2), part.shape[2:])
                mask[:, :, i, j] = (row + max(top, 0)) * width + column + max(left, 0)
    return y, mask


SETTINGS = [
    # size, kernel, stride, pad
    ((7, 10), (3, 3), (2, 2), (0, 0)),
    ((7, 10), (3, 3), (2, 2), (1, 1)),
    ((12, 9), (5, 2), (3, 1), (2, 1)),
    ((6, 6), (2, 2), (2, 2), (1, 1)),
    ((10, 8), (1, 1), (2, 3), (0, 0)),  # the last window begins behind the image
    ((9, 11), (1, 2), (4, 5), (0, 0)),
    ((5, 4), (6, 5), (2, 3), (0, 0)),  # larger than the image
    ((3, 8), (2, 3), (5, 1), (1, 0)),
]


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_pooling_is_a_loop_over_windows(net, kind, setting) -> None:
    size, kernel, stride, pad = setting
    x = np.random.default_rng(0).standard_normal((3, 2, *size)).astype(np.float32)
    pairs = zip(("kernel", "stride", "pad"), (kernel, stride, pad), strict=True)
    said = f"pool: {kind} " + " ".join(f"{n}_h: {v[0]} {n}_w: {v[1]}" for n, v in pairs)
    tops = 'top: "y" top: "mask"' if kind == "MAX" else 'top: "y"'
    model = net(f'layer {{ name: "p" type: "Pooling" bottom: "x" {tops} pooling_param {{ {said} }} }}', x=(1, 2, *size))
    got = run(model, {"x": x})
    want, mask = pooled(x, kind, kernel, stride, pad)
    np.testing.assert_allclose(got["y"], want, rtol=1e-5, atol=1e-6)
    if kind == "MAX":
        np.testing.assert_array_equal(got["mask"], mask)


@pytest.mark.parametrize("said", ["round_mode: FLOOR", "ceil_mode: false"])
def test_rounding_down(net, said) -> None:
    x = np.random.default_rng(1).standard_normal((2, 2, 8, 6)).astype(np.float32)
    model = net(
        f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ kernel_size: 3 stride: 2 {said} }} }}', x=(1, 2, 8, 6)
    )
    np.testing.assert_array_equal(run(model, {"x": x})["y"], pooled(x, "MAX", (3, 3), (2, 2), (0, 0), floor)[0])


def test_stochastic_pooling_weighs_by_the_value_itself(net) -> None:
    x = np.abs(np.random.default_rng(2).standard_normal((2, 1, 4, 4))).astype(np.float32)
    x[0, 0, :2, :2] = 0
    model = net(
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 } }',
        x=(1, 1, 4, 4),
    )
    blocks = x.reshape(2, 1, 2, 2, 2, 2).astype("f8")
    want = (blocks**2).sum((3, 5)) / np.maximum(blocks.sum((3, 5)), 1e-30)
    np.testing.assert_allclose(run(model, {"x": x})["y"], want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_a_pyramid_is_poolings_side_by_side(net, kind) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 9, 7)).astype(np.float32)
    model = net(f'layer {{ name: "s" type: "SPP" bottom: "x" top: "y" spp_param {{ pyramid_height: 2 pool: {kind} }} }}', x=(1, 3, 9, 7))
    levels = [pooled(x, kind, (9, 7), (9, 7), (0, 0))[0], pooled(x, kind, (5, 4), (5, 4), (1, 1))[0]]
    want = np.concatenate([v.reshape(2, -1) for v in levels], 1)
    np.testing.assert_allclose(run(model, {"x": x})["y"], want, rtol=1e-5, atol=1e-6)


def test_segnet_unpools_with_the_mask(net) -> None:
    x = np.random.default_rng(4).standard_normal((3, 2, 6, 4)).astype(np.float32)
    down = 'layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "mask" pooling_param { kernel_size: 2 stride: 2 } }'
    up = 'layer { name: "u" type: "Upsample" bottom: "y" bottom: "mask" top: "z" upsample_param { scale: 2 } }'
    got = run(net(down, up, x=(1, 2, 6, 4)), {"x": x})["z"]
    largest = x.reshape(3, 2, 3, 2, 2, 2).max((3, 5)).repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(got, np.where(x == largest, x, 0))


def test_yolo_repeats_pixels(net) -> None:
    x = np.random.default_rng(5).standard_normal((2, 2, 3, 4)).astype(np.float32)
    got = run(net('layer { name: "u" type: "Upsample" bottom: "x" top: "y" upsample_param { scale: 3 } }', x=(1, 2, 3, 4)), {"x": x})["y"]
    np.testing.assert_array_equal(got, x.repeat(3, 2).repeat(3, 3))


def roi_loop(x, rois, height, width, scale):
    """Fast R-CNN's loop; `round` is C's, away from zero."""
    away = lambda v: int(np.sign(v) * np.floor(abs(v) + 0.5))  # noqa: E731
    y = np.zeros((len(rois), x.shape[1], height, width), np.float32)
    for n, roi in enumerate(rois):
        image = x[int(roi[0])]
        left, top, right, bottom = (away(np.float32(v) * np.float32(scale)) for v in roi[1:])
        bin_h, bin_w = max(bottom - top + 1, 1) / height, max(right - left + 1, 1) / width
        for i in range(height):
            for j in range(width):
                y0, y1 = (min(max(v + top, 0), image.shape[1]) for v in (floor(i * bin_h), ceil((i + 1) * bin_h)))
                x0, x1 = (min(max(v + left, 0), image.shape[2]) for v in (floor(j * bin_w), ceil((j + 1) * bin_w)))
                if y1 > y0 and x1 > x0:
                    y[n, :, i, j] = image[:, y0:y1, x0:x1].max((1, 2))
    return y


def test_roi_pooling_rounds_as_fast_rcnn(net) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 3, 10, 12)).astype(np.float32)
    corners = np.sort(rng.integers(-20, 110, (40, 2, 2)), 1).reshape(40, 4)[:, [0, 1, 2, 3]]
    rois = np.concatenate([rng.integers(0, 2, (40, 1)), corners], 1).astype(np.float32)
    layer = 'layer { name: "r" type: "ROIPooling" bottom: "x" bottom: "rois" top: "y" '
    layer += "roi_pooling_param { pooled_h: 4 pooled_w: 2 spatial_scale: 0.125 } }"
    got = run(net(layer, x=(2, 3, 10, 12), rois=(40, 5)), {"x": x, "rois": rois})["y"]
    np.testing.assert_array_equal(got, roi_loop(x, rois, 4, 2, 0.125))


BAD = [
    "",
    "kernel_size: 0",
    "kernel_size: 4294967295",
    "kernel_size: 3 pad: 3",
    "kernel_size: 3 stride: 0",
    "kernel_size: 1 stride: 4294967295",
    "kernel_size: 2000000000 pad: 1999999999",
    "kernel_size: 9",
    "kernel_size: 3 round_mode: FLOOR pad: 4294967295",
    "kernel_h: 3",
    "global_pooling: true kernel_size: 2",
    "global_pooling: true pad: 1",
    "pool: STOCHASTIC kernel_size: 2 pad: 1",
]


@pytest.mark.parametrize("setting", BAD)
def test_impossible_settings_are_refused(net, setting) -> None:
    with pytest.raises(NiudaoError, match="'p'"):
        net(f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {setting} }} }}', x=(1, 3, 8, 8))


@pytest.mark.parametrize(
    "layer",
    [
        'type: "SPP" bottom: "x" spp_param { pyramid_height: 4000000000 }',
        'type: "SPP" bottom: "x" spp_param { pyramid_height: 6 }',
        'type: "SPP" bottom: "x"',
        'type: "Upsample" bottom: "x" upsample_param { scale: 100000000 }',
        'type: "Upsample" bottom: "x" bottom: "x" bottom: "x"',
        'type: "Upsample" bottom: "x" upsample_param { upsample_h: 17 upsample_w: 16 }',
        'type: "ROIPooling" bottom: "x" bottom: "x" roi_pooling_param { pooled_h: 2 pooled_w: 2 }',
        'type: "Pooling" bottom: "x" top: "a" top: "b" pooling_param { pool: AVE kernel_size: 2 }',
    ],
)
def test_impossible_neighbours_are_refused(net, layer) -> None:
    with pytest.raises(NiudaoError, match=r"'p'|p \("):
        net(f'layer {{ name: "p" {layer} top: "y" }}', x=(1, 3, 8, 8))


@pytest.mark.parametrize(("name", "count"), [("op_pool_max", 8), ("op_pool_ave", 9)])
def test_as_real_caffe_ran(as_caffe_ran, name, count) -> None:
    assert as_caffe_ran(name) == count
