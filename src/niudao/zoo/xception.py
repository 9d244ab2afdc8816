"""Xception.

Reference:
    Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, figure 5. Parameter names are those of the
    checkpoints of `pretrainedmodels` (older ones) and timm's `legacy_xception`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Separable(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, filters, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.pointwise(self.conv1(x))
        return y


class Block(nn.Module):
    """Separable convolutions beside a shortcut, which is a projection where shapes change.

    Args:
        widths: Channels of the input and behind each separable convolution.
        stride: 2 to end with a pooling.
        active: Begin with a ReLU.
    """

    def __init__(self, *widths: int, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, filters in pairwise(widths):
            layers += [nn.ReLU(), Separable(channels, filters), nn.BatchNorm2d(filters)]
        layers = layers if active else layers[1:]
        self.residual_end = f"rep.{len(layers) - 1}"
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)
        changes = stride != 1 or widths[0] != widths[-1]
        self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False) if changes else nn.Identity()
        self.skipbn = nn.BatchNorm2d(widths[-1]) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.rep(x) + self.skipbn(self.skip(x))
        return y


class Xception(nn.Module):
    """Xception for pictures of 299 x 299.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        self.conv2, self.bn2, self.act2 = nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        self.block1 = Block(64, 128, 128, stride=2, active=False)
        self.block2 = Block(128, 256, 256, stride=2)
        self.block3 = Block(256, 728, 728, stride=2)
        for i in range(4, 12):
            self.add_module(f"block{i}", Block(728, 728, 728, 728))
        self.block12 = Block(728, 728, 1024, stride=2)
        self.conv3, self.bn3, self.act3 = Separable(1024, 1536), nn.BatchNorm2d(1536), nn.ReLU()
        self.conv4, self.bn4, self.act4 = Separable(1536, 2048), nn.BatchNorm2d(2048), nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            if layer is self.fc:
                x = torch.flatten(x, 1)
            x = layer(x)
        return x


def xception(classes: int = 1000) -> Xception:
    """The network of the paper."""
    return Xception(classes)
