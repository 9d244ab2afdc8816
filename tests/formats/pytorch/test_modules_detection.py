"""Boxes and regions as torch modules: random ones, judged by ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niudao.formats.pytorch import to_module

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import build, judge, operator, values


def boxes(count: int, seed: int, size: float = 10.0) -> np.ndarray[Any, Any]:
    """(count, 4): x1, y1, x2, y2, some of them partly outside a picture of `size`."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-1, size - 3, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, 6, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize(("most", "iou", "score"), [(3, 0.5, 0.4), (20, 0.3, None), (20, 0.7, 0.2), (0, 0.5, None)])
def test_non_max_suppression(seed: int, centered: int, most: int, iou: float, score: float | None) -> None:
    """The same boxes in the same order, among equal scores too."""
    given = np.stack([boxes(12, seed), boxes(12, seed + 10)])
    if not centered and seed % 2:
        given = given[..., [2, 3, 0, 1]]
    scores = np.round(np.random.default_rng(seed).uniform(0, 1, (2, 3, 12)), 1).astype(np.float32)
    limits: list[Any] = [np.array([most]), np.array([iou], np.float32), None if score is None else np.array([score], np.float32)]
    judge([given, scores], operator("NonMaxSuppression", *limits, center_point_box=centered))


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("way", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, sampling: int, way: str) -> None:
    which = np.array([0, 1, 1, 0, 1], np.int64)
    how = {"mode": mode, "sampling_ratio": sampling, "coordinate_transformation_mode": way, "spatial_scale": 0.7}
    judge([values(2, 3, 8, 7), boxes(5, 3), which], operator("RoiAlign", output_height=3, output_width=2, **how))


def test_roi_align_gradients() -> None:
    make = operator("RoiAlign", boxes(2, 3), np.array([0, 0]), output_height=2, output_width=2, sampling_ratio=2)
    x = torch.from_numpy(values(1, 2, 6, 6)).double().requires_grad_()
    assert torch.autograd.gradcheck(to_module(build([values(1, 2, 6, 6)], make)).double(), x)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_max_roi_pool(scale: float) -> None:
    regions = np.concatenate([np.array([[0], [1], [1], [0]]), np.round(boxes(4, 5)).clip(0)], 1).astype(np.float32)
    judge([values(2, 3, 9, 8), regions], operator("MaxRoiPool", pooled_shape=[2, 3], spatial_scale=scale))
