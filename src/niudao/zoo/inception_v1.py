"""GoogLeNet: the Inception network of 2014 with local response normalisation, and its later form with batch normalisation.

Reference:
    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1. The auxiliary heads are for training only and left out.
    The form with batch normalisation is TensorFlow-Slim's `inception_v1`: no biases, a 3x3 convolution where the paper has 5x5.
    Parameter names are torchvision's `googlenet`.
"""

from __future__ import annotations

import torch
from torch import nn

from niudao.zoo.convolution import Branches, Convolution

STAGES: dict[str, tuple[tuple[int, int, int, int, int, int, int], ...]] = {
    # channels in; 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; behind the pooling
    "3": ((192, 64, 96, 128, 16, 32, 32), (256, 128, 128, 192, 32, 96, 64)),
    "4": (
        (480, 192, 96, 208, 16, 48, 64),
        (512, 160, 112, 224, 24, 64, 64),
        (512, 128, 128, 256, 24, 64, 64),
        (512, 112, 144, 288, 32, 64, 64),
        (528, 256, 160, 320, 32, 128, 128),
    ),
    "5": ((832, 256, 160, 320, 32, 128, 128), (832, 384, 192, 384, 48, 128, 128)),
}


def inception(channels: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int, normalized: bool) -> Branches:
    """One module of figure 2b."""

    def conv(channels: int, filters: int, kernel: int) -> Convolution:
        return Convolution(channels, filters, kernel, normalized=normalized)

    return Branches(
        branch1=conv(channels, one, 1),
        branch2=nn.Sequential(conv(channels, reduce3, 1), conv(reduce3, three, 3)),
        branch3=nn.Sequential(conv(channels, reduce5, 1), conv(reduce5, five, 3 if normalized else 5)),
        branch4=nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(channels, pooled, 1)),
    )


class GoogLeNet(nn.Module):
    """GoogLeNet without auxiliary heads.

    Args:
        normalized: Batch normalisation; otherwise biases and two local response normalisations.
        classes: Number of classes.
    """

    def __init__(self, *, normalized: bool, classes: int = 1000) -> None:
        super().__init__()

        def response() -> nn.Module:
            return nn.Identity() if normalized else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

        def pool(size: int = 3) -> nn.MaxPool2d:
            return nn.MaxPool2d(size, 2, ceil_mode=True)

        self.conv1 = Convolution(3, 64, 7, 2, normalized=normalized)
        self.maxpool1, self.norm1 = pool(), response()
        self.conv2 = Convolution(64, 64, 1, normalized=normalized)
        self.conv3 = Convolution(64, 192, 3, normalized=normalized)
        self.norm2, self.maxpool2 = response(), pool()
        for stage, modules in STAGES.items():
            for letter, widths in zip("abcde", modules, strict=False):
                self.add_module(f"inception{stage}{letter}", inception(*widths, normalized))
            if stage != "5":
                self.add_module(f"maxpool{stage}", pool(2 if normalized and stage == "4" else 3))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2 if normalized else 0.4)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            if layer is self.dropout:
                x = torch.flatten(x, 1)
            x = layer(x)
        return x


def googlenet_v1_lrn(classes: int = 1000) -> GoogLeNet:
    """The network of the paper, as BVLC's Caffe model has it."""
    return GoogLeNet(normalized=False, classes=classes)


def googlenet_bn(classes: int = 1000) -> GoogLeNet:
    """The network of TensorFlow-Slim and torchvision."""
    return GoogLeNet(normalized=True, classes=classes)
