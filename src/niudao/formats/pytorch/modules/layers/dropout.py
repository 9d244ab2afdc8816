"""Dropout that tells what it kept, or is told how much to drop."""

from __future__ import annotations

import torch
from torch import nn


class MaskedDropout(nn.Module):
    """Dropout, and which elements it kept; the probability to drop is given with the call."""

    def forward(self, x: torch.Tensor, p: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        kept = torch.rand_like(x) >= p if self.training else torch.ones_like(x, dtype=torch.bool)
        return (x * kept / (1 - p) if self.training else x), kept
