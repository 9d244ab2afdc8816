"""Functions of single elements."""

from __future__ import annotations

import torch


def detect_inf(x: torch.Tensor, positive: bool, negative: bool) -> torch.Tensor:
    """Where the infinities of the wanted signs are."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if positive:
        found = found | torch.isposinf(x)
    if negative:
        found = found | torch.isneginf(x)
    return found
