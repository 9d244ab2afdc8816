"""Residual networks with pre-activation: ResNet-50, -101 and -152 v2.

Reference:
    He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 4e. The form of MXNet and pytorchcv: batch
    normalisation and ReLU behind the first convolution are kept, stride 2 is on the 3x3. Names are pytorchcv's `preresnet*b`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class PreConvolution(nn.Module):
    """Batch normalisation and ReLU before a convolution."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.activ = nn.ReLU()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(self.activ(self.bn(x)))
        return y


class Unit(nn.Module):
    """A pre-activation bottleneck; where shapes change, the projection takes the activated input."""

    residual_end = "body.conv3.conv"

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        width = filters // 4
        self.body = nn.Sequential(
            OrderedDict(
                conv1=PreConvolution(channels, width, 1),
                conv2=PreConvolution(width, width, 3, stride),
                conv3=PreConvolution(width, filters, 1),
            )
        )
        if stride != 1 or channels != filters:
            self.identity_conv = nn.Conv2d(channels, filters, 1, stride, bias=False)
        else:
            self.identity_conv = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.body.conv1
        active = first.activ(first.bn(x))
        y: torch.Tensor = self.body.conv3(self.body.conv2(first.conv(active)))
        return y + (x if self.identity_conv is None else self.identity_conv(active))


def stem() -> nn.Sequential:
    """Convolution, batch normalisation, ReLU, pooling."""
    conv = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(64), activ=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1)))


class ResNetV2(nn.Module):
    """A residual network with pre-activation.

    Args:
        depths: Units of each of the four stages.
        classes: Number of classes.
    """

    def __init__(self, depths: tuple[int, ...], classes: int = 1000) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(init_block=stem())
        channels = 64
        for i, depth in enumerate(depths):
            filters = 256 << i
            units = OrderedDict()
            for j in range(depth):
                units[f"unit{j + 1}"] = Unit(channels, filters, 2 if i and not j else 1)
                channels = filters
            layers[f"stage{i + 1}"] = nn.Sequential(units)
        layers["post_activ"] = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), activ=nn.ReLU()))
        layers["final_pool"] = nn.AdaptiveAvgPool2d(1)
        self.features = nn.Sequential(layers)
        self.output = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.output(torch.flatten(self.features(x), 1))
        return y


def resnet50_v2(classes: int = 1000) -> ResNetV2:
    """ResNet-50 v2."""
    return ResNetV2((3, 4, 6, 3), classes)


def resnet101_v2(classes: int = 1000) -> ResNetV2:
    """ResNet-101 v2."""
    return ResNetV2((3, 4, 23, 3), classes)


def resnet152_v2(classes: int = 1000) -> ResNetV2:
    """ResNet-152 v2."""
    return ResNetV2((3, 8, 36, 3), classes)
