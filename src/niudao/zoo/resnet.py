"""Residual networks for ImageNet: ResNet-18, -34, -50, -101 and -152.

Reference:
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, projection shortcuts (option B).
    In v1 (the paper, Caffe) the 1x1 convolution that enters a stage has stride 2; in v1.5 (fb.resnet.torch, torchvision) the 3x3
    behind it has. Both have the same parameters under the same names, torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def shortcut(channels: int, filters: int, stride: int) -> nn.Sequential | None:
    """A projection where shapes change; None for the identity."""
    if stride == 1 and channels == filters:
        return None
    return nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1
    residual_end = "bn2"

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return y


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1 beside a shortcut.

    Args:
        channels: Channels of the input.
        width: Channels inside; four times as many leave.
        stride: Step of the block.
        early: The first convolution takes the step (v1); otherwise the second does (v1.5).
    """

    expansion = 4
    residual_end = "bn3"

    def __init__(self, channels: int, width: int, stride: int, early: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, stride if early else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1 if early else stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return y


class ResNet(nn.Module):
    """A residual network.

    Args:
        block: Makes a block of (channels, width, stride).
        expansion: Channels that leave a block, in widths.
        depths: Blocks of each of the four stages.
        classes: Number of classes.
    """

    def __init__(self, block: Callable[[int, int, int], nn.Module], expansion: int, depths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(block(channels, 64 << i, 2 if i and not j else 1))
                channels = (64 << i) * expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return y


def _deep(depths: tuple[int, ...], classes: int, early: bool) -> ResNet:
    return ResNet(lambda channels, width, stride: Bottleneck(channels, width, stride, early), Bottleneck.expansion, depths, classes)


def resnet18(classes: int = 1000) -> ResNet:
    """ResNet-18."""
    return ResNet(Basic, Basic.expansion, (2, 2, 2, 2), classes)


def resnet34(classes: int = 1000) -> ResNet:
    """ResNet-34."""
    return ResNet(Basic, Basic.expansion, (3, 4, 6, 3), classes)


def resnet50_v1(classes: int = 1000) -> ResNet:
    """ResNet-50 of the paper."""
    return _deep((3, 4, 6, 3), classes, early=True)


def resnet50_v1_5(classes: int = 1000) -> ResNet:
    """ResNet-50 of torchvision."""
    return _deep((3, 4, 6, 3), classes, early=False)


def resnet101_v1(classes: int = 1000) -> ResNet:
    """ResNet-101 of the paper."""
    return _deep((3, 4, 23, 3), classes, early=True)


def resnet101_v1_5(classes: int = 1000) -> ResNet:
    """ResNet-101 of torchvision."""
    return _deep((3, 4, 23, 3), classes, early=False)


def resnet152_v1(classes: int = 1000) -> ResNet:
    """ResNet-152 of the paper."""
    return _deep((3, 8, 36, 3), classes, early=True)


def resnet152_v1_5(classes: int = 1000) -> ResNet:
    """ResNet-152 of torchvision."""
    return _deep((3, 8, 36, 3), classes, early=False)
