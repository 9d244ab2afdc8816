"""Resizing and sampling as models, against torch itself: exported and traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lowering import Fn, Fn2, judged, ops
from scripting import trace_judged

IMAGE, LINE, CUBE = (2, 3, 7, 6), (2, 3, 7), (2, 3, 4, 3, 5)


def to(**how: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: F.interpolate(x, **how)


FORMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], list[str] | None]] = {
    "nearest": (to(scale_factor=2), (IMAGE,), ["Resize"]),
    "nearest_fraction": (to(scale_factor=1.7), (IMAGE,), None),
    "nearest_shrunk": (to(scale_factor=(0.4, 0.55)), (IMAGE,), None),
    "nearest_size": (to(size=(17, 5)), (IMAGE,), None),
    "nearest_far": (to(size=(50, 41)), ((2, 1, 6, 49),), None),
    "nearest_recomputed": (to(scale_factor=1.7, recompute_scale_factor=True), (IMAGE,), None),
    "nearest_1d": (to(scale_factor=3), (LINE,), ["Resize"]),
    "nearest_3d": (to(size=(3, 6, 7)), (CUBE,), None),
    "exact": (to(scale_factor=2, mode="nearest-exact"), (IMAGE,), ["Resize"]),
    "exact_size": (to(size=(13, 4), mode="nearest-exact"), (IMAGE,), None),
    "exact_1d": (to(size=20, mode="nearest-exact"), (LINE,), None),
    "bilinear": (to(scale_factor=2, mode="bilinear"), (IMAGE,), ["Resize"]),
    "bilinear_fraction": (to(scale_factor=1.7, mode="bilinear"), (IMAGE,), ["Resize"]),
    "bilinear_recomputed": (to(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True), (IMAGE,), ["Resize"]),
    "bilinear_size": (to(size=(3, 11), mode="bilinear"), (IMAGE,), ["Resize"]),
    "bilinear_corners": (to(size=(13, 4), mode="bilinear", align_corners=True), (IMAGE,), ["Resize"]),
    "bilinear_corners_factor": (to(scale_factor=1.6, mode="bilinear", align_corners=True), (IMAGE,), ["Resize"]),
    "bilinear_to_one": (to(size=(1, 1), mode="bilinear"), (IMAGE,), None),
    "bilinear_corners_to_one": (to(size=(1, 3), mode="bilinear", align_corners=True), (IMAGE,), None),
    "bilinear_same": (to(size=(7, 6), mode="bilinear"), (IMAGE,), []),
    "linear": (to(scale_factor=2.5, mode="linear"), (LINE,), ["Resize"]),
    "linear_corners": (to(size=4, mode="linear", align_corners=True), (LINE,), ["Resize"]),
    "trilinear": (to(scale_factor=2, mode="trilinear"), (CUBE,), ["Resize"]),
    "trilinear_corners": (to(size=(5, 6, 3), mode="trilinear", align_corners=True), (CUBE,), ["Resize"]),
    "bicubic": (to(scale_factor=1.5, mode="bicubic"), (IMAGE,), ["Resize"]),
    "bicubic_size": (to(size=(5, 9), mode="bicubic"), (IMAGE,), ["Resize"]),
    "bicubic_corners": (to(size=(12, 9), mode="bicubic", align_corners=True), (IMAGE,), ["Resize"]),
    "area": (to(size=(3, 4), mode="area"), (IMAGE,), None),
    "bilinear_antialias": (to(size=(3, 4), mode="bilinear", antialias=True), (IMAGE,), ["MatMul", "MatMul"]),
    "bilinear_antialias_larger": (to(size=(9, 13), mode="bilinear", antialias=True), (IMAGE,), ["MatMul", "MatMul"]),
    "bicubic_antialias": (to(size=(3, 4), mode="bicubic", antialias=True), (IMAGE,), ["MatMul", "MatMul"]),
    "bicubic_antialias_factor": (to(scale_factor=0.6, mode="bicubic", antialias=True), (IMAGE,), ["MatMul", "MatMul"]),
    "like_another": (lambda x: F.interpolate(x[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear"), (IMAGE,), None),
    "affine": (
        lambda x: F.grid_sample(x, F.affine_grid(x[:, :2, 0, :3], [x.size(0), 3, 5, 4], False), align_corners=False),
        (IMAGE,),
        None,
    ),
    "affine_corners": (lambda x: F.affine_grid(x[:, :2, 0, :3], [x.size(0), 3, 5, 4], align_corners=True), (IMAGE,), None),
}


@pytest.mark.parametrize("name", FORMS)
def test_exported(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = judged(Fn(function), *shapes)
    if wanted:
        assert ops(model) == wanted


@pytest.mark.parametrize("name", FORMS)
def test_traced(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = trace_judged(Fn(function), *shapes)
    if wanted:
        assert ops(model) == wanted


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, padding: str, corners: bool) -> None:
    def sample(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, grid.tanh() * 1.2, mode=mode, padding_mode=padding, align_corners=corners)

    trace_judged(Fn2(sample), IMAGE, (2, 4, 5, 2))


def test_grid_sample_of_volumes() -> None:
    judged(Fn2(lambda x, grid: F.grid_sample(x, grid.tanh(), align_corners=False)), CUBE, (2, 3, 4, 5, 3))


def test_nearest_neighbours_are_those_of_torch() -> None:
    """Where a pixel comes from is rounded as torch rounds it, at every pair of sizes."""

    def all_of(x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for size in (1, 3, 6, 7, 10, 13, 28, 29, 37, 49):
            for new in (1, 3, 7, 20, 41, 53):
                found += [F.interpolate(x[:, :, :size], size=new, mode=mode) for mode in ("nearest", "nearest-exact")]
        return found

    trace_judged(Fn(all_of), (2, 1, 50), tolerance=0)
