"""The generator of random networks: what it promises, checked with the ONNX checker and both judges."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parent))
import randomgraphs as rg


def test_cases_keep_their_promises() -> None:
    cases = list(rg.graphs(25, seed=5))
    assert len({c.seed for c in cases}) == 25
    operators: Counter[str] = Counter()
    for case in cases:
        onnx.checker.check_model(case.model, full_check=True)
        assert 5 <= len(case.operators) <= 21
        assert case.opset in rg.OPSETS
        assert rg.difference(rg.ort_run(case.model, case.feeds, optimize=True), case.expected) <= rg.TOLERANCE
        assert rg.difference(rg.reference_run(case.model, case.feeds), case.expected) <= rg.TOLERANCE
        image = next(iter(case.feeds.values()))
        assert image.ndim == 4 and image.shape[2] != image.shape[3]
        operators.update(case.operators)
    assert len(operators) >= 30


def test_a_seed_decides_the_graph() -> None:
    a, b = rg.random_graph(12), rg.random_graph(12)
    assert a.SerializeToString() == b.SerializeToString()
    assert rg.random_graph(13).SerializeToString() != a.SerializeToString()


def test_every_operator_is_reached() -> None:
    """Each grower must be able to add its node somewhere, or the bar is lower than it looks."""
    seen: set[str] = set()
    for seed in range(400):
        seen.update(n.op_type for n in rg.random_graph(seed).graph.node)
    wanted = {
        "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
        "InstanceNormalization", "LRN", "Relu", "PRelu", "Clip", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Add", "Sub", "Mul",
        "Div", "Max", "Min", "Pow", "Sum", "Mean", "Concat", "Split", "Slice", "Pad", "Resize", "Transpose", "Reshape", "Squeeze",
        "Unsqueeze", "Flatten", "Gemm", "MatMul", "Softmax", "LogSoftmax", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum",
        "ReduceL2", "DepthToSpace", "SpaceToDepth", "Gather", "Tile", "Expand", "Where", "ArgMax", "Identity", "Dropout",
    }  # fmt: skip
    missing = wanted - seen
    assert not missing


def test_a_free_batch_is_free() -> None:
    free = [c for c in rg.graphs(12, seed=9) if c.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param]
    assert free
    for case in free:
        for batch in (1, 5):
            feeds = rg.feeds_for(case.model, case.seed, batch)
            assert all(v.shape[0] == batch for v in rg.ort_run(case.model, feeds, optimize=False).values())


def test_difference_fails_on_nan_and_shape() -> None:
    import numpy as np

    one = {"y": np.ones((2, 3), "float32")}
    assert rg.difference(one, one) == 0
    assert rg.difference({"y": one["y"] * np.float32("nan")}, one) == float("inf")
    assert rg.difference({"y": one["y"].reshape(3, 2)}, one) == float("inf")
    assert rg.difference({"z": one["y"]}, one) == float("inf")
