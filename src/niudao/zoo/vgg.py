"""VGG-11, -13, -16 and -19, plain and with batch normalisation.

Reference:
    Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1, columns A, B, D, E.
    With batch normalisation the convolutions keep their biases, as in torchvision, whose parameter names these are.
"""

from __future__ import annotations

import torch
from torch import nn

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers with weights -> convolutions before each pooling."""

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """A stack of 3x3 convolutions and three fully connected layers.

    Args:
        depth: Layers with weights: 11, 13, 16 or 19.
        normalized: Batch normalisation behind every convolution.
        classes: Number of classes.
    """

    def __init__(self, depth: int, *, normalized: bool = False, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in zip(WIDTHS, DEPTHS[depth], strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width), nn.ReLU()] if normalized else [nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)  # changes nothing at 224 x 224
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return y


def vgg11(classes: int = 1000) -> VGG:
    """Column A."""
    return VGG(11, classes=classes)


def vgg13(classes: int = 1000) -> VGG:
    """Column B."""
    return VGG(13, classes=classes)


def vgg16(classes: int = 1000) -> VGG:
    """Column D."""
    return VGG(16, classes=classes)


def vgg19(classes: int = 1000) -> VGG:
    """Column E."""
    return VGG(19, classes=classes)


def vgg11_bn(classes: int = 1000) -> VGG:
    """Column A with batch normalisation."""
    return VGG(11, normalized=True, classes=classes)


def vgg13_bn(classes: int = 1000) -> VGG:
    """Column B with batch normalisation."""
    return VGG(13, normalized=True, classes=classes)


def vgg16_bn(classes: int = 1000) -> VGG:
    """Column D with batch normalisation."""
    return VGG(16, normalized=True, classes=classes)


def vgg19_bn(classes: int = 1000) -> VGG:
    """Column E with batch normalisation."""
    return VGG(19, normalized=True, classes=classes)
