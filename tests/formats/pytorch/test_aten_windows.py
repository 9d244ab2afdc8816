"""Convolutions and pooling of torch.nn as models, against torch itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from layers import WINDOWS, Beside
from lowering import judged, ops


@pytest.mark.parametrize("name", WINDOWS)
def test_layer(name: str) -> None:
    make, shapes, wanted = WINDOWS[name]
    model = judged(make(), *shapes)
    if wanted is not None:
        assert ops(model) == wanted


@pytest.mark.parametrize("shapes", sorted({shapes for _, shapes, _ in WINDOWS.values()}))
def test_layers_of_core_aten(shapes: tuple[Any, ...]) -> None:
    """All layers that take inputs of these shapes, side by side, taken apart by torch into its fewer operators."""
    judged(Beside([make() for make, given, _ in WINDOWS.values() if given == shapes]), *shapes, decompose=True)


def test_without_batch() -> None:
    for module, shape in (
        (nn.Conv2d(4, 5, 3), (4, 9, 7)),
        (nn.MaxPool2d(2), (4, 9, 7)),
        (nn.AdaptiveAvgPool2d(2), (4, 8, 6)),
        (nn.Linear(4, 3), (4,)),
    ):
        judged(module, shape, batch="fixed")
