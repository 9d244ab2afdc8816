"""Inception v3, without its auxiliary head.

Reference:
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, as TensorFlow-Slim published it.
    Parameter names are torchvision's `inception_v3`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from niudao.zoo.convolution import Convolution, Pair


class Step(NamedTuple):
    """One convolution of a branch; `split` is one of 1x3 beside one of 3x1."""

    filters: int
    kernel: Pair
    stride: int = 1
    split: bool = False


class Mixed(nn.Module):
    """Branches of convolutions side by side, each named `<branch>`, or `<branch>_1`, `<branch>_2`, ... where it has several.

    Args:
        channels: Channels of the input.
        pool: What the branch `branch_pool` begins with.
        branches: Branch -> its convolutions.
    """

    def __init__(self, channels: int, pool: nn.Module, branches: dict[str, tuple[Step, ...]]) -> None:
        super().__init__()
        self.paths: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            width, path = channels, []
            for i, step in enumerate(steps, 1):
                name = f"{branch}_{i}" if len(steps) > 1 else branch
                kernels: dict[str, Pair] = {f"{name}a": (1, 3), f"{name}b": (3, 1)} if step.split else {name: step.kernel}
                for part, kernel in kernels.items():
                    self.add_module(part, Convolution(width, step.filters, kernel, step.stride, 0 if step.stride == 2 else None))
                path.append(list(kernels))
                width = step.filters
            self.paths[branch] = path
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = []
        for branch, path in self.paths.items():
            y = [self.pool(x) if branch == "branch_pool" else x]
            for names in path:
                y = [self.get_submodule(name)(y[0]) for name in names]
            ends += y
        return torch.cat(ends, 1)


def mixed_a(channels: int, pooled: int) -> Mixed:
    """35x35, figure 5."""
    branches = {
        "branch1x1": (Step(64, 1),),
        "branch5x5": (Step(48, 1), Step(64, 5)),
        "branch3x3dbl": (Step(64, 1), Step(96, 3), Step(96, 3)),
        "branch_pool": (Step(pooled, 1),),
    }
    return Mixed(channels, nn.AvgPool2d(3, 1, 1), branches)


def mixed_b() -> Mixed:
    """From 35x35 to 17x17, figure 10."""
    branches: dict[str, tuple[Step, ...]] = {
        "branch3x3": (Step(384, 3, 2),),
        "branch3x3dbl": (Step(64, 1), Step(96, 3), Step(96, 3, 2)),
        "branch_pool": (),
    }
    return Mixed(288, nn.MaxPool2d(3, 2), branches)


def mixed_c(width: int) -> Mixed:
    """17x17 with 7x7 convolutions taken apart, figure 6."""
    row, column = (1, 7), (7, 1)
    branches = {
        "branch1x1": (Step(192, 1),),
        "branch7x7": (Step(width, 1), Step(width, row), Step(192, column)),
        "branch7x7dbl": (Step(width, 1), Step(width, column), Step(width, row), Step(width, column), Step(192, row)),
        "branch_pool": (Step(192, 1),),
    }
    return Mixed(768, nn.AvgPool2d(3, 1, 1), branches)


def mixed_d() -> Mixed:
    """From 17x17 to 8x8."""
    branches: dict[str, tuple[Step, ...]] = {
        "branch3x3": (Step(192, 1), Step(320, 3, 2)),
        "branch7x7x3": (Step(192, 1), Step(192, (1, 7)), Step(192, (7, 1)), Step(192, 3, 2)),
        "branch_pool": (),
    }
    return Mixed(768, nn.MaxPool2d(3, 2), branches)


def mixed_e(channels: int) -> Mixed:
    """8x8 with filter banks that split, figure 7."""
    branches = {
        "branch1x1": (Step(320, 1),),
        "branch3x3": (Step(384, 1), Step(384, 3, split=True)),
        "branch3x3dbl": (Step(448, 1), Step(384, 3), Step(384, 3, split=True)),
        "branch_pool": (Step(192, 1),),
    }
    return Mixed(channels, nn.AvgPool2d(3, 1, 1), branches)


class InceptionV3(nn.Module):
    """Inception v3 for pictures of 299 x 299.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, 1, 0)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = mixed_a(192, 32), mixed_a(256, 64), mixed_a(288, 64)
        self.Mixed_6a = mixed_b()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = mixed_c(128), mixed_c(160), mixed_c(160), mixed_c(192)
        self.Mixed_7a = mixed_d()
        self.Mixed_7b, self.Mixed_7c = mixed_e(1280), mixed_e(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            if layer is self.dropout:
                x = torch.flatten(x, 1)
            x = layer(x)
        return x


def inception_v3(classes: int = 1000) -> InceptionV3:
    """The network of TensorFlow-Slim and torchvision."""
    return InceptionV3(classes)
