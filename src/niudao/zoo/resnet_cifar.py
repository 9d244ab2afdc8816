"""Residual networks for pictures of 32 x 32: ResNet-20, -32, -44, -56 and -110.

Reference:
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. Option A, the paper's: a shortcut that
    changes shape drops every second row and column and pads with channels of zeros. Option B: it is a projection.
    Parameter names are those of akamaster/pytorch_resnet_cifar10.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Subsample(nn.Module):
    """Every second row and column, and as many channels of zeros before as behind the others."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.side = added // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.side, self.side))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    residual_end = "bn2"

    def __init__(self, channels: int, width: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 and projected:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        elif stride != 1:
            self.shortcut = Subsample(width - channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y = self.relu(y + self.shortcut(x))
        return y


class ResNetCifar(nn.Module):
    """A residual network of three stages.

    Args:
        depth: Layers with weights, 6n + 2.
        projected: Shortcuts of option B; otherwise A.
        classes: Number of classes.
    """

    def __init__(self, depth: int, *, projected: bool = False, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        channels = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for j in range((depth - 2) // 6):
                blocks.append(Block(channels, width, 2 if i and not j else 1, projected))
                channels = width
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        y: torch.Tensor = self.linear(torch.flatten(self.avgpool(x), 1))
        return y


def resnet20_cifar(classes: int = 10) -> ResNetCifar:
    """ResNet-20, option A."""
    return ResNetCifar(20, classes=classes)


def resnet32_cifar(classes: int = 10) -> ResNetCifar:
    """ResNet-32, option A."""
    return ResNetCifar(32, classes=classes)


def resnet44_cifar(classes: int = 10) -> ResNetCifar:
    """ResNet-44, option A."""
    return ResNetCifar(44, classes=classes)


def resnet56_cifar(classes: int = 10) -> ResNetCifar:
    """ResNet-56, option A."""
    return ResNetCifar(56, classes=classes)


def resnet110_cifar(classes: int = 10) -> ResNetCifar:
    """ResNet-110, option A."""
    return ResNetCifar(110, classes=classes)


def resnet20_cifar_b(classes: int = 10) -> ResNetCifar:
    """ResNet-20, option B."""
    return ResNetCifar(20, projected=True, classes=classes)


def resnet32_cifar_b(classes: int = 10) -> ResNetCifar:
    """ResNet-32, option B."""
    return ResNetCifar(32, projected=True, classes=classes)


def resnet44_cifar_b(classes: int = 10) -> ResNetCifar:
    """ResNet-44, option B."""
    return ResNetCifar(44, projected=True, classes=classes)


def resnet56_cifar_b(classes: int = 10) -> ResNetCifar:
    """ResNet-56, option B."""
    return ResNetCifar(56, projected=True, classes=classes)


def resnet110_cifar_b(classes: int = 10) -> ResNetCifar:
    """ResNet-110, option B."""
    return ResNetCifar(110, projected=True, classes=classes)
