"""Sizes as Python numbers: what a network computes from shapes stays out of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import fx

Number: TypeAlias = int | float | bool | fx.Node


@dataclass(frozen=True)
class Numbers:
    """A vector of numbers, or one number; FX nodes among them stand for numbers known only when the network runs.

    Attributes:
        values: The numbers in order.
        scalar: Whether the tensor that this stands for has no axes.
    """

    values: tuple[Number, ...]
    scalar: bool = False
