"""Normalisations, activations and matrices of torch.nn as models, against torch itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from layers import IMAGE, OTHERS, Beside
from lowering import judged, ops


@pytest.mark.parametrize("name", OTHERS)
def test_layer(name: str) -> None:
    make, shapes, wanted = OTHERS[name]
    model = judged(make(), *shapes)
    if wanted is not None:
        assert ops(model) == wanted


@pytest.mark.parametrize("shapes", sorted({shapes for _, shapes, _ in OTHERS.values()}))
def test_layers_of_core_aten(shapes: tuple[Any, ...]) -> None:
    """All layers that take inputs of these shapes, side by side, taken apart by torch into its fewer operators."""
    judged(Beside([make() for make, given, _ in OTHERS.values() if given == shapes]), *shapes, decompose=True)


def test_names_of_weights() -> None:
    model = judged(nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.PReLU(5)), IMAGE)
    assert set(model.graph.initializers) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight",
    }  # fmt: skip


def test_double() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.CELU(0.5), nn.Tanh(), nn.Linear(5, 3), nn.Sigmoid())
    model = judged(net.double(), ((3, 6), torch.float64), tolerance=1e-12)
    assert {str(v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)} == {"DOUBLE"}
