"""Resizing and sampling as torch modules: random settings, judged by ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from niudao.errors import Unsupported
from niudao.formats.pytorch import to_module

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import Make, build, differ, judge, operator, runtime, torch_answer, values

Draw = Callable[[st.SearchStrategy[Any]], Any]
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
REGION = "tf_crop_and_resize"


def one_of(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def resizing(draw: Draw) -> tuple[np.ndarray[Any, Any], Make]:
    """A picture, and a Resize of it in some way that ONNX knows."""
    spatial = draw(one_of(1, 2, 2, 2, 3))
    sizes = [draw(st.integers(1, 2)) for _ in range(2)] + [draw(st.integers(1, 8)) for _ in range(spatial)]
    how: dict[str, Any] = {"mode": draw(one_of("nearest", "linear", "cubic" if spatial == 2 else "linear"))}
    ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", REGION]
    way = how["coordinate_transformation_mode"] = draw(one_of(*ways))
    factors = [draw(one_of(0.3, 0.5, 1.0, 1.5, 2.0, 2.0, 3.0, 2.3)) for _ in range(spatial)]
    if draw(st.booleans()):
        factors = factors[:1] * spatial
    if how["mode"] == "nearest":
        how["nearest_mode"] = draw(one_of("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    if how["mode"] == "cubic":
        how |= {"cubic_coeff_a": draw(one_of(-0.5, -0.75)), "exclude_outside": draw(one_of(0, 1))}
    if how["mode"] != "nearest" and way != REGION and spatial == 2 and draw(one_of(False, False, True)):
        how["antialias"] = 1
    axes = draw(st.booleans())
    if axes:
        how["axes"] = list(range(2, 2 + spatial))
    lead = [] if axes else [1.0, 1.0]
    roi = None
    if way == REGION:
        assume(1.0 not in factors)  # ONNX Runtime forgets the region along such an axis
        starts = [0.0] * len(lead) + [draw(one_of(-0.2, 0.0, 0.3)) for _ in range(spatial)]
        ends = [1.0] * len(lead) + [draw(one_of(0.6, 1.0, 1.3)) for _ in range(spatial)]
        roi = np.array(starts + ends, np.float32)
        how["extrapolation_value"] = draw(one_of(0.0, 7.0))
    if draw(st.booleans()):
        made = [max(1, int(n * f)) for n, f in zip(sizes[2:], factors, strict=True)]
        if way == REGION:
            assume(all(n != m for n, m in zip(sizes[2:], made, strict=True)))
        if axes and way != REGION and draw(one_of(False, True)):
            how["keep_aspect_ratio_policy"] = draw(one_of("not_larger", "not_smaller"))
        whole = np.array(made if axes else sizes[:2] + made, np.int64)
        return values(*sizes), operator("Resize", roi, None, whole, **how)
    return values(*sizes), operator("Resize", roi, np.array(lead + factors, np.float32), **how)


def answers(model: ir.Model, x: np.ndarray[Any, Any]) -> tuple[list[Any], list[Any]]:
    """What torch and ONNX Runtime say; examples that one of them refuses say nothing."""
    try:
        want = runtime(model, [x])
    except Exception as e:  # onnxruntime's exceptions share no class
        event(f"ONNX Runtime refuses: {type(e).__name__}")
        assume(False)
        raise
    try:
        return torch_answer(model, [x]), want
    except (Unsupported, ValueError) as e:
        assert "corners" in str(e)
        event("refused: corners")
        assume(False)
        raise


@EXAMPLES
@given(st.data())
def test_resize(data: st.DataObject) -> None:
    x, make = resizing(data.draw)
    got, want = answers(build([x], make, free=data.draw(st.booleans())), x)
    assume(want[0].size)
    wrong = differ(got, want)
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("how", "layer"),
    [
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, "nearest"),
        ({"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, "bilinear"),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, "bilinear"),
        ({"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}, "bicubic"),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, None),
        ({"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5}, None),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_what_torch_has_is_torch(how: dict[str, Any], layer: str | None, free: bool) -> None:
    """Where torch's own interpolation says the same it is used, for open sizes too; its layer stands where hooks find it."""
    model = build([values(1, 2, 5, 4)], operator("Resize", None, np.array([1, 1, 2, 2], np.float32), layer="up", **how), free)
    found = [m for m in to_module(model).modules() if isinstance(m, torch.nn.Upsample)]
    assert [m.mode for m in found] == ([layer] if layer else [])


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_gradients(mode: str) -> None:
    """Gradients of our own interpolation equal finite differences."""
    how = {"mode": mode, "coordinate_transformation_mode": "half_pixel_symmetric", "antialias": 1}
    network = to_module(build([values(1, 1, 5, 4)], operator("Resize", None, np.array([1, 1, 0.7, 1.6], np.float32), **how))).double()
    assert torch.autograd.gradcheck(network, torch.from_numpy(values(1, 1, 5, 4)).double().requires_grad_())


@pytest.mark.parametrize(("way", "factor"), [("asymmetric", 2.0), ("half_pixel_symmetric", 0.5)])
def test_a_graph_of_open_sizes_exports(way: str, factor: float) -> None:
    """Our own interpolation works with sizes known only when the network runs."""
    how = {"mode": "linear", "coordinate_transformation_mode": way}
    factors = np.array([1, 1, factor, factor], np.float32)
    network = to_module(build([values(1, 2, 5, 4)], operator("Resize", None, factors, **how), free=True))
    x = torch.from_numpy(values(2, 2, 6, 8))
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    exported = torch.export.export(network, (x,), dynamic_shapes=(sizes,))
    y = torch.from_numpy(values(3, 2, 7, 5))
    torch.testing.assert_close(exported.module()(y), network(y))


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    grid = np.random.default_rng(0).uniform(-1.4, 1.4, (2, 3, 4, 2)).astype(np.float32)
    judge([values(2, 3, 5, 4), grid], operator("GridSample", mode=mode, padding_mode=padding, align_corners=corners), tolerance=1e-4)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    judge([values(2, 12, 3, 2)], operator("DepthToSpace", blocksize=2, mode=mode))


def test_space_to_depth() -> None:
    judge([values(2, 3, 4, 6)], operator("SpaceToDepth", blocksize=2))


@pytest.mark.parametrize("sizes", [(5, 4), (2, 7), (9, 1)])
def test_center_crop_pad(sizes: tuple[int, int]) -> None:
    judge([values(1, 2, 5, 4)], operator("CenterCropPad", np.array(sizes, np.int64), axes=[2, -1]))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]])
def test_fold(pads: list[int]) -> None:
    """Patches put together, with equal and with unequal padding."""
    image, block = np.array([5, 4]), np.array([2, 3])
    patches = [(5 + pads[0] + pads[2] - 2) + 1, (4 + pads[1] + pads[3] - 3) + 1]
    judge([values(2, 12, patches[0] * patches[1])], operator("Col2Im", image, block, pads=pads))


@pytest.mark.parametrize("corners", [0, 1])
def test_affine_grid(corners: int) -> None:
    judge([values(2, 2, 3)], operator("AffineGrid", np.array([2, 3, 4, 5]), align_corners=corners))
