"""Attention, spectra and losses as torch modules, judged by ONNX Runtime or by ONNX's evaluator where that has none."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from niudao.formats.pytorch import to_module

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import Array, Make, build, differ, judge, operator, torch_answer, values


def evaluate(arrays: list[Array], make: Make, tolerance: float = 1e-5) -> None:
    """Fail where the torch module and `onnx.reference` disagree."""
    from onnx.reference import ReferenceEvaluator

    model = build(arrays, make)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = ReferenceEvaluator(ir.to_proto(model)).run(None, {f"x{i}": a for i, a in enumerate(arrays)})
    wrong = differ(torch_answer(model, arrays), [np.asarray(w) for w in want], tolerance)
    assert not wrong, wrong


ATTENTIONS: list[dict[str, Any]] = [
    {},
    {"is_causal": 1},
    {"scale": 0.3, "softcap": 2.0},
    {"left_window_size": 1},
    {"left_window_size": 2, "right_window_size": 0},
]


@pytest.mark.parametrize("how", ATTENTIONS, ids=str)
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention(how: dict[str, Any], heads: int, mask: str | None) -> None:
    """Grouped heads, masks, windows; a query that may see nothing answers zero."""
    q, k, v = values(2, 4, 3, 5), values(2, heads, 4, 5, seed=1), values(2, heads, 4, 6, seed=2)
    looks = np.random.default_rng(0).uniform(size=(3, 4)) > 0.4
    looks[1] = False
    masks = {None: [], "float": [np.where(looks, values(3, 4), -np.inf).astype(np.float32)], "bool": [looks]}[mask]
    evaluate([q, k, v, *masks], operator("Attention", **how))


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_a_cache(causal: int) -> None:
    arrays = [values(1, 2, 8), values(1, 2, 4, seed=1), values(1, 2, 4, seed=2), values(2, 5)]
    cache = [values(1, 1, 3, 4, seed=3), values(1, 1, 3, 4, seed=4)]
    evaluate([*arrays, *cache], operator("Attention", outputs=3, is_causal=causal, q_num_heads=2, kv_num_heads=1))


def test_plain_attention_is_that_of_torch() -> None:
    network = to_module(build([values(2, 3, 8)] * 3, operator("Attention", q_num_heads=2, kv_num_heads=2)))
    assert any(n.target is torch.nn.functional.scaled_dot_product_attention for n in network.graph.nodes)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 4])
def test_rotary_embedding(interleaved: int, part: int) -> None:
    angles = values(7, (part or 6) // 2)
    places = np.array([[0, 3, 6, 1], [2, 2, 5, 4]])
    make = operator("RotaryEmbedding", np.cos(angles), np.sin(angles), places, interleaved=interleaved, rotary_embedding_dim=part)
    evaluate([values(2, 3, 4, 6)], make)


@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("axis", [1, 2, -2])
def test_dft(inverse: int, parts: int, axis: int) -> None:
    length = np.array(6) if axis == 1 else None
    evaluate([values(2, 5, 4, parts)], operator("DFT", length, np.array(axis), inverse=inverse), 1e-4)


def test_one_sided_dft_and_back() -> None:
    evaluate([values(2, 6, 1)], operator("DFT", None, np.array(1), onesided=1), 1e-4)
    evaluate([values(2, 4, 2)], operator("DFT", None, np.array(1), onesided=1, inverse=1), 1e-4)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_stft(onesided: int, windowed: bool) -> None:
    window = np.hanning(6).astype(np.float32) if windowed else None
    evaluate([values(2, 17, 1)], operator("STFT", np.array(3), window, np.array(6), onesided=onesided), 1e-4)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op: str, periodic: int) -> None:
    judge([np.array(9)], operator(op, periodic=periodic))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1, -1])
def test_losses(reduction: str, weighted: bool, ignored: int | None) -> None:
    target = np.array([[0, 1, 2], [2, 1, 1]])
    if ignored == -1:
        target[0, 1] = -1
    weight = [np.array([0.5, 2.0, 1.0], np.float32)] if weighted else []
    how: dict[str, Any] = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
    judge([values(2, 3, 3), target, *weight], operator("NegativeLogLikelihoodLoss", **how))
    judge([values(2, 3, 3), target, *weight], operator("SoftmaxCrossEntropyLoss", outputs=2, **how))
