"""MobileNet v1 in four widths, and the widest for smaller pictures.

Reference:
    Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, table 1. Activations are
    ReLU6, as in the authors' published weights; parameter names are those of timm's `mobilenetv1_100`.
"""

from __future__ import annotations

import torch
from torch import nn

STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Filters, blocks, and stride of the first block of each stage."""


class Separable(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution; batch normalisation and ReLU6 behind both."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU6()
        self.conv_pw = nn.Conv2d(channels, filters, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.act2 = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act2(self.bn2(self.conv_pw(self.act1(self.bn1(self.conv_dw(x))))))
        return y


class MobileNetV1(nn.Module):
    """A MobileNet.

    Args:
        width: The width multiplier.
        classes: Number of classes.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv_stem = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU6()
        stages = []
        for filters, count, stride in STAGES:
            blocks = []
            for i in range(count):
                blocks.append(Separable(channels, int(filters * width), 1 if i else stride))
                channels = int(filters * width)
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        y: torch.Tensor = self.classifier(torch.flatten(self.avgpool(x), 1))
        return y


def mobilenet_v1_1_0_224(classes: int = 1000) -> MobileNetV1:
    """MobileNet 1.0 for 224 x 224."""
    return MobileNetV1(1.0, classes)


def mobilenet_v1_0_75_224(classes: int = 1000) -> MobileNetV1:
    """MobileNet 0.75 for 224 x 224."""
    return MobileNetV1(0.75, classes)


def mobilenet_v1_0_5_224(classes: int = 1000) -> MobileNetV1:
    """MobileNet 0.5 for 224 x 224."""
    return MobileNetV1(0.5, classes)


def mobilenet_v1_0_25_224(classes: int = 1000) -> MobileNetV1:
    """MobileNet 0.25 for 224 x 224."""
    return MobileNetV1(0.25, classes)


def mobilenet_v1_1_0_192(classes: int = 1000) -> MobileNetV1:
    """MobileNet 1.0 for 192 x 192."""
    return MobileNetV1(1.0, classes)


def mobilenet_v1_1_0_160(classes: int = 1000) -> MobileNetV1:
    """MobileNet 1.0 for 160 x 160."""
    return MobileNetV1(1.0, classes)


def mobilenet_v1_1_0_128(classes: int = 1000) -> MobileNetV1:
    """MobileNet 1.0 for 128 x 128."""
    return MobileNetV1(1.0, classes)
