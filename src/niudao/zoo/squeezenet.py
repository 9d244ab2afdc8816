"""SqueezeNet 1.0 and 1.1.

Reference:
    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016, table 1; 1.1 is the
    authors' later form with less work. Parameter names are torchvision's, and so is the last convolution, which has no padding.
"""

from __future__ import annotations

import torch
from torch import nn

POOL = "pool"

PLANS: dict[str, tuple[int, int, tuple[tuple[int, int] | str, ...]]] = {
    # filters and kernel of the first convolution; then (squeeze, expand) of the fire modules
    "1.0": (96, 7, (POOL, (16, 64), (16, 64), (32, 128), POOL, (32, 128), (48, 192), (48, 192), (64, 256), POOL, (64, 256))),
    "1.1": (64, 3, (POOL, (16, 64), (16, 64), POOL, (32, 128), (32, 128), POOL, (48, 192), (48, 192), (64, 256), (64, 256))),
}


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, and 1x1 beside 3x3 convolutions that expand."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """A SqueezeNet.

    Args:
        version: "1.0" or "1.1".
        classes: Number of classes.
    """

    def __init__(self, version: str, classes: int = 1000) -> None:
        super().__init__()
        channels, kernel, plan = PLANS[version]
        layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel, 2), nn.ReLU()]
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                layers.append(Fire(channels, *step))
                channels = 2 * step[1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


def squeezenet1_0(classes: int = 1000) -> SqueezeNet:
    """SqueezeNet of the paper."""
    return SqueezeNet("1.0", classes)


def squeezenet1_1(classes: int = 1000) -> SqueezeNet:
    """SqueezeNet with 2.4 times less work."""
    return SqueezeNet("1.1", classes)
