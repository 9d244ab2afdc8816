"""Seeded weights under which an untrained network behaves like a trained one: no layer dies, explodes or answers always the same."""

from __future__ import annotations

import math

import torch
from torch import nn

EACH = 3
"""Pictures of each kind that statistics are measured on."""


def initialise(network: nn.Module, head: str, size: tuple[int, int, int], seed: int = 0) -> nn.Module:
    """Give a network He weights, measured batch statistics and centred logits, all from a seed, and put it into evaluation mode.

    Scales and shifts of BatchNormalization are random, shifts mostly above zero: so little is cut off that differences between pictures
    outlive a hundred layers and rounding does not; biases are moved to the same end. A layer whose block names it as `residual_end`
    adds less than the shortcut beside it, as in trained networks, so that depth does not blow numbers up. One pass over seeded
    pictures of three kinds (noise about zero, noise in 0..1, slow changes) then sets the running means and variances to what the
    layers really give, and the last layer so that answers tell pictures of one kind apart: what all pictures of a kind share is
    taken out of it.

    Args:
        network: An image classifier on the CPU.
        head: Path of its last layer with weights, a Linear or a 1x1 Conv2d.
        size: (channels, height, width) of its input.
        seed: Of everything random.

    Returns:
        The same network.

    Reference:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015, equation 10.
    """
    random = torch.Generator().manual_seed(seed)
    ends = {block.get_submodule(block.residual_end) for block in network.modules() if hasattr(block, "residual_end")}
    network.eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                scale = math.sqrt(2 / layer.weight[0].numel()) * (0.3 if layer in ends else 1.0)
                layer.weight.normal_(0, scale, generator=random)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.05, generator=random)
            elif isinstance(layer, nn.BatchNorm2d):
                gain = 0.3 if layer in ends else 1.0
                layer.weight.uniform_(0.7 * gain, 1.3 * gain, generator=random)
                layer.bias.normal_(gain, 0.2 * gain, generator=random)
        last = network.get_submodule(head)
        _centre(last, _measure(network, last, _pictures(size, random)))
    return network


def _pictures(size: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
    """Noise about zero, noise in 0..1, and slow changes with grain: (3 * EACH, C, H, W)."""
    shape = (EACH, *size)
    coarse = torch.randn(EACH, size[0], 6, 6, generator=random)
    field = nn.functional.interpolate(coarse, size[1:], mode="bilinear", align_corners=True)
    grain = torch.randn(shape, generator=random)
    return torch.cat([torch.randn(shape, generator=random), torch.rand(shape, generator=random), 0.5 * (field + grain)])


def _measure(network: nn.Module, head: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Set the running statistics and the biases; what enters the head is returned as (pictures, channels, places)."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the average of all batches, of which there is one
        layer.train()
    entered: list[torch.Tensor] = []
    biased = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None and m is not head]
    hooks = [layer.register_forward_hook(_settle) for layer in biased]
    hooks.append(head.register_forward_pre_hook(lambda layer, given: entered.append(given[0])))
    network(pictures)
    for hook in hooks:
        hook.remove()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.num_batches_tracked.zero_()
        layer.eval()
    return entered[0].reshape(*entered[0].shape[:2], -1)


def _settle(layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Move the biases of a layer that no BatchNormalization follows, so that what all pictures share does not grow from layer to layer."""
    channels = output.movedim(1, -1).flatten(0, -2)
    shift = 0.5 * channels.std(0) - channels.mean(0)
    layer.bias += shift
    return output + shift.reshape(-1, *[1] * (output.ndim - 2))


def _centre(head: nn.Module, features: torch.Tensor) -> None:
    """Take out of the last layer what tells kinds of pictures apart, and give every class the same mean and spread.

    Args:
        head: The layer.
        features: What enters it, (pictures, channels, places).
    """
    kinds = features.mean(2).unflatten(0, (-1, EACH)).mean(1)
    shared, _ = torch.linalg.qr((kinds[1:] - kinds[:1]).T)
    weight = head.weight.flatten(1)
    weight = weight - (weight @ shared) @ shared.T
    weight /= torch.einsum("kc,pcs->kps", weight, features).flatten(1).std(1, keepdim=True)
    answers = torch.einsum("kc,pcs->kps", weight, features)
    means = answers.mean(2).unflatten(1, (-1, EACH))  # (classes, kinds, EACH)
    spread = (means - means.mean(2, keepdim=True)).square().mean((0, 2)).sqrt().log().mean().exp()
    floor = 2 * answers.std() if features.shape[2] > 1 else 0.0  # a ReLU follows where the head is a convolution
    head.weight.copy_((weight / spread).reshape(head.weight.shape))
    head.bias.copy_((floor - answers.mean((1, 2))) / spread)
