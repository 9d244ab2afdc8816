"""Inception v4.

Reference:
    Szegedy, Ioffe, Vanhoucke, Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI 2017,
    figures 3 to 9. Parameter names are those of the checkpoints of `pretrainedmodels` and timm.
"""

from __future__ import annotations

import torch
from torch import nn

from niudao.zoo.convolution import Branches, Convolution, Pair

ROW, COLUMN = (1, 7), (7, 1)


def chain(channels: int, *steps: tuple[int, Pair], reduce: bool = False, padded: bool = True) -> nn.Module:
    """Convolutions one after the other, (filters, kernel) each.

    Args:
        channels: Channels of the input.
        steps: The convolutions.
        reduce: The last one has stride 2 and no padding.
        padded: The last one keeps the size.
    """
    layers = []
    for i, (filters, kernel) in enumerate(steps, 1):
        last = i == len(steps)
        layers.append(Convolution(channels, filters, kernel, 2 if reduce and last else 1, 0 if last and (reduce or not padded) else None))
        channels = filters
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def pooled(channels: int, filters: int) -> nn.Sequential:
    """Average pooling, whose window counts no padding, and a 1x1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), Convolution(channels, filters, 1))


def stem() -> list[nn.Module]:
    """Figure 3: from 299x299x3 to 35x35x384."""
    return [
        Convolution(3, 32, 3, 2, 0),
        Convolution(32, 32, 3, 1, 0),
        Convolution(32, 64, 3),
        Branches(maxpool=nn.MaxPool2d(3, 2), conv=chain(64, (96, 3), reduce=True)),
        Branches(
            branch0=chain(160, (64, 1), (96, 3), padded=False),
            branch1=chain(160, (64, 1), (64, ROW), (64, COLUMN), (96, 3), padded=False),
        ),
        Branches(conv=chain(192, (192, 3), reduce=True), maxpool=nn.MaxPool2d(3, 2)),
    ]


def inception_a() -> Branches:
    """Figure 4: 35x35x384."""
    return Branches(
        branch0=chain(384, (96, 1)),
        branch1=chain(384, (64, 1), (96, 3)),
        branch2=chain(384, (64, 1), (96, 3), (96, 3)),
        branch3=pooled(384, 96),
    )


def reduction_a() -> Branches:
    """Figure 7: from 35x35x384 to 17x17x1024."""
    return Branches(
        branch0=chain(384, (384, 3), reduce=True),
        branch1=chain(384, (192, 1), (224, 3), (256, 3), reduce=True),
        branch2=nn.MaxPool2d(3, 2),
    )


def inception_b() -> Branches:
    """Figure 5: 17x17x1024."""
    return Branches(
        branch0=chain(1024, (384, 1)),
        branch1=chain(1024, (192, 1), (224, ROW), (256, COLUMN)),
        branch2=chain(1024, (192, 1), (192, COLUMN), (224, ROW), (224, COLUMN), (256, ROW)),
        branch3=pooled(1024, 128),
    )


def reduction_b() -> Branches:
    """Figure 8: from 17x17x1024 to 8x8x1536."""
    return Branches(
        branch0=chain(1024, (192, 1), (192, 3), reduce=True),
        branch1=chain(1024, (256, 1), (256, ROW), (320, COLUMN), (320, 3), reduce=True),
        branch2=nn.MaxPool2d(3, 2),
    )


class InceptionC(nn.Module):
    """Figure 6: 8x8x1536, two branches of which end in a 1x3 beside a 3x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = Convolution(1536, 256, 1)
        self.branch1_0 = Convolution(1536, 384, 1)
        self.branch1_1a = Convolution(384, 256, (1, 3))
        self.branch1_1b = Convolution(384, 256, (3, 1))
        self.branch2_0 = Convolution(1536, 384, 1)
        self.branch2_1 = Convolution(384, 448, (3, 1))
        self.branch2_2 = Convolution(448, 512, (1, 3))
        self.branch2_3a = Convolution(512, 256, (1, 3))
        self.branch2_3b = Convolution(512, 256, (3, 1))
        self.branch3 = pooled(1536, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.branch1_0(x)
        two = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        ends = [self.branch0(x), self.branch1_1a(one), self.branch1_1b(one), self.branch2_3a(two), self.branch2_3b(two), self.branch3(x)]
        return torch.cat(ends, 1)


class InceptionV4(nn.Module):
    """Inception v4 for pictures of 299 x 299, figure 9.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *stem(),
            *(inception_a() for _ in range(4)),
            reduction_a(),
            *(inception_b() for _ in range(7)),
            reduction_b(),
            *(InceptionC() for _ in range(3)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.last_linear = nn.Linear(1536, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last_linear(self.dropout(torch.flatten(self.avgpool(self.features(x)), 1)))
        return y


def inception_v4(classes: int = 1000) -> InceptionV4:
    """The network of the paper."""
    return InceptionV4(classes)
