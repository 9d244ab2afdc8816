"""Where the tests find real data, and a few networks that many of them need."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from niudao.ir.build import Builder

os.environ.setdefault("KERAS_BACKEND", "torch")

DATA = Path(os.environ.get("NIUDAO_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of files written by real frameworks."""
    if not DATA.is_dir():
        pytest.skip(f"real framework files are not at {DATA} (set NIUDAO_TEST_DATA)")
    return DATA


@pytest.fixture
def small_net() -> ir.Model:
    """conv - batch norm - relu - pool - dense on 3 x 9 x 7 pictures, five classes."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) * 0.3

    b = Builder("small")
    x = b.input("image", (None, 3, 9, 7))
    y = b.op("Conv", x, b.weight(draw(4, 3, 3, 3), "conv/kernel"), b.weight(draw(4), "conv/bias"), layer="conv", pads=[1, 1, 1, 1])
    stats = [b.weight(w, f"bn/{n}") for n, w in (("gamma", draw(4) + 1), ("beta", draw(4)), ("mean", draw(4)), ("var", draw(4) ** 2 + 0.5))]
    y = b.op("BatchNormalization", y, *stats, layer="bn", epsilon=1e-3)
    y = b.op("Relu", y, layer="relu")
    y = b.op("MaxPool", y, layer="pool", kernel_shape=[2, 2], strides=[2, 2])
    y = b.op("Flatten", y, layer="flatten")
    y = b.op("Gemm", y, b.weight(draw(48, 5), "dense/kernel"), b.weight(draw(5), "dense/bias"), layer="dense")
    y = b.op("Softmax", y, layer="prob")
    b.output(y, "prob")
    return b.model()
