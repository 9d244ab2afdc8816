"""Layers of torch.nn, with inputs for them and the operators that they become."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from lowering import Fn, Fn2


class Beside(nn.Module):
    """Layers beside each other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return [layer(x) if y is None else layer(x, y) for layer in self.layers]


IMAGE, LINE, CUBE = (2, 4, 9, 7), (2, 4, 11), (2, 4, 6, 5, 7)

Table = dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], list[str] | None]]
"""Name -> what makes the layer, shapes of its inputs, and the operators that it becomes."""

WINDOWS: Table = {
    # convolutions
    "conv": (lambda: nn.Conv2d(4, 5, 3), (IMAGE,), ["Conv"]),
    "conv_settings": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2, bias=False), (IMAGE,), ["Conv"]),
    "conv_depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (IMAGE,), ["Conv"]),
    "conv_same": (lambda: nn.Conv2d(4, 5, 3, padding="same"), (IMAGE,), ["Conv"]),
    "conv_same_even": (lambda: nn.Conv2d(4, 5, (4, 2), padding="same", dilation=(1, 3)), (IMAGE,), ["Conv"]),
    "conv_valid": (lambda: nn.Conv2d(4, 5, 3, padding="valid"), (IMAGE,), ["Conv"]),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3, 2, 2), (LINE,), ["Conv"]),
    "conv1d_same": (lambda: nn.Conv1d(4, 5, 4, padding="same"), (LINE,), ["Conv"]),
    "conv3d": (lambda: nn.Conv3d(4, 5, (3, 2, 3), padding=(1, 0, 1)), (CUBE,), ["Conv"]),
    "deconv": (lambda: nn.ConvTranspose2d(4, 5, 3), (IMAGE,), ["ConvTranspose"]),
    "deconv_settings": (lambda: nn.ConvTranspose2d(4, 6, 4, (3, 2), (1, 2), (2, 1), 2, dilation=(1, 2)), (IMAGE,), ["ConvTranspose"]),
    "deconv1d": (lambda: nn.ConvTranspose1d(4, 5, 3, 2, 1, 1, bias=False), (LINE,), ["ConvTranspose"]),
    "deconv3d": (lambda: nn.ConvTranspose3d(4, 2, 3, 2, 1, 1), ((2, 4, 3, 4, 3),), ["ConvTranspose"]),
    # windows
    "max_pool": (lambda: nn.MaxPool2d(3, 2, 1), (IMAGE,), ["MaxPool"]),
    "max_pool_dilated": (lambda: nn.MaxPool2d((2, 3), (1, 2), (1, 1), (3, 2)), (IMAGE,), ["MaxPool"]),
    "max_pool_ceil": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), ((2, 4, 10, 8),), ["MaxPool"]),
    "max_pool_ceil_padded": (lambda: nn.MaxPool2d(2, 3, 1, ceil_mode=True), ((2, 4, 10, 9),), ["MaxPool"]),
    "max_pool_ceil_dropped": (lambda: nn.MaxPool2d(3, 4, 1, ceil_mode=True), ((2, 4, 8, 7),), ["MaxPool"]),
    "max_pool_ceil_dilated": (lambda: nn.MaxPool2d(2, 5, 1, 4, ceil_mode=True), ((2, 4, 12, 13),), None),
    "max_pool_indices": (lambda: nn.MaxPool2d(3, 2, 1, return_indices=True), (IMAGE,), None),
    "max_pool1d": (lambda: nn.MaxPool1d(3, 2, 1), (LINE,), ["MaxPool"]),
    "max_pool3d": (lambda: nn.MaxPool3d((2, 3, 2), ceil_mode=True), (CUBE,), ["MaxPool"]),
    "avg_pool": (lambda: nn.AvgPool2d(3, 2, 1), (IMAGE,), ["AveragePool"]),
    "avg_pool_without_pad": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (IMAGE,), ["AveragePool"]),
    "avg_pool_ceil": (lambda: nn.AvgPool2d(3, 2, ceil_mode=True), ((2, 4, 10, 8),), ["AveragePool"]),
    "avg_pool_ceil_padded": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), ((2, 4, 10, 8),), ["Pad", "AveragePool"]),
    "avg_pool_ceil_without_pad": (lambda: nn.AvgPool2d(3, 2, 1, True, False), ((2, 4, 10, 8),), ["AveragePool"]),
    "avg_pool_ceil_dropped": (lambda: nn.AvgPool2d(3, 4, 1, ceil_mode=True), ((2, 4, 8, 7),), None),
    "avg_pool_divisor": (lambda: nn.AvgPool2d((3, 2), 2, (1, 1), divisor_override=5), (IMAGE,), None),
    "avg_pool_divisor_ceil": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=4), ((2, 4, 10, 8),), None),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2, 1), (LINE,), ["AveragePool"]),
    "avg_pool3d": (lambda: nn.AvgPool3d(3, 2, 1, ceil_mode=True, count_include_pad=False), (CUBE,), ["AveragePool"]),
    "lp_pool": (lambda: nn.LPPool2d(2, 3, 2), (IMAGE,), None),
    # adaptive windows
    "adaptive_global": (lambda: nn.AdaptiveAvgPool2d(1), (IMAGE,), ["GlobalAveragePool"]),
    "adaptive_divides": (lambda: nn.AdaptiveAvgPool2d((3, 4)), ((2, 4, 9, 8),), ["AveragePool"]),
    "adaptive_mixed": (lambda: nn.AdaptiveAvgPool2d((None, 2)), (IMAGE,), ["MatMul"]),
    "adaptive_others": (lambda: nn.AdaptiveAvgPool2d((4, 5)), (IMAGE,), ["MatMul", "MatMul"]),
    "adaptive_larger": (lambda: nn.AdaptiveAvgPool2d((12, 10)), (IMAGE,), ["MatMul", "MatMul"]),
    "adaptive_1d": (lambda: nn.AdaptiveAvgPool1d(4), (LINE,), ["MatMul"]),
    "adaptive_3d": (lambda: nn.AdaptiveAvgPool3d((4, 3, 2)), (CUBE,), None),
    "adaptive_max_global": (lambda: nn.AdaptiveMaxPool2d(1), (IMAGE,), ["GlobalMaxPool"]),
    "adaptive_max_divides": (lambda: nn.AdaptiveMaxPool2d((3, 7)), (IMAGE,), ["MaxPool"]),
    "adaptive_max_others": (lambda: nn.AdaptiveMaxPool2d((4, 5)), (IMAGE,), None),
    "adaptive_max_1d": (lambda: nn.AdaptiveMaxPool1d(4), (LINE,), None),
    "adaptive_max_indices": (lambda: nn.AdaptiveMaxPool2d((3, 7), return_indices=True), (IMAGE,), None),
}

OTHERS: Table = {
    # normalisations
    "batch_norm": (lambda: nn.BatchNorm2d(4), (IMAGE,), ["BatchNormalization"]),
    "batch_norm_eps": (lambda: nn.BatchNorm2d(4, eps=0.01), (IMAGE,), ["BatchNormalization"]),
    "batch_norm_plain": (lambda: nn.BatchNorm2d(4, affine=False), (IMAGE,), ["BatchNormalization"]),
    "batch_norm_of_batch": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (IMAGE,), None),
    "batch_norm_of_batch_plain": (lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False), ((5, 4),), None),
    "batch_norm_1d": (lambda: nn.BatchNorm1d(4), ((3, 4),), ["BatchNormalization"]),
    "batch_norm_1d_line": (lambda: nn.BatchNorm1d(4), (LINE,), ["BatchNormalization"]),
    "batch_norm_3d": (lambda: nn.BatchNorm3d(4), (CUBE,), ["BatchNormalization"]),
    "instance_norm": (lambda: nn.InstanceNorm2d(4), (IMAGE,), ["InstanceNormalization"]),
    "instance_norm_affine": (lambda: nn.InstanceNorm1d(4, affine=True), (LINE,), ["InstanceNormalization"]),
    "instance_norm_tracked": (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (IMAGE,), ["BatchNormalization"]),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (IMAGE,), ["GroupNormalization"]),
    "group_norm_plain": (lambda: nn.GroupNorm(4, 4, affine=False), (LINE,), ["GroupNormalization"]),
    "group_norm_flat": (lambda: nn.GroupNorm(2, 6), ((3, 6),), None),
    "layer_norm": (lambda: nn.LayerNorm(7), (IMAGE,), ["LayerNormalization"]),
    "layer_norm_two": (lambda: nn.LayerNorm((9, 7), eps=1e-3), (IMAGE,), ["LayerNormalization"]),
    "layer_norm_plain": (lambda: nn.LayerNorm(7, elementwise_affine=False), (IMAGE,), ["LayerNormalization"]),
    "layer_norm_without_bias": (lambda: nn.LayerNorm(7, bias=False), (IMAGE,), ["LayerNormalization"]),
    "rms_norm": (lambda: nn.RMSNorm(7), (IMAGE,), None),
    "rms_norm_eps": (lambda: nn.RMSNorm(7, eps=0.1, elementwise_affine=False), (IMAGE,), None),
    "local_response": (lambda: nn.LocalResponseNorm(3, 0.5, 0.7, 2.0), (IMAGE,), None),
    "local_response_even": (lambda: nn.LocalResponseNorm(4, 0.5), (IMAGE,), None),
    "normalize": (lambda: Fn(lambda x: F.normalize(x, dim=1)), (IMAGE,), None),
    "cosine": (lambda: Fn2(F.cosine_similarity), (IMAGE, IMAGE), None),
    "distance": (lambda: nn.PairwiseDistance(), ((3, 6), (3, 6)), None),
    "distance_kept": (lambda: nn.PairwiseDistance(1, keepdim=True), ((3, 6), (3, 6)), None),
    # activations
    "relu": (nn.ReLU, (IMAGE,), ["Relu"]),
    "relu6": (nn.ReLU6, (IMAGE,), ["Clip"]),
    "leaky": (lambda: nn.LeakyReLU(0.2), (IMAGE,), ["LeakyRelu"]),
    "leaky_default": (nn.LeakyReLU, (IMAGE,), ["LeakyRelu"]),
    "prelu": (nn.PReLU, (IMAGE,), ["PRelu"]),
    "prelu_channels": (lambda: nn.PReLU(4), (IMAGE,), ["PRelu"]),
    "prelu_flat": (lambda: nn.PReLU(6), ((3, 6),), ["PRelu"]),
    "rrelu": (nn.RReLU, (IMAGE,), ["LeakyRelu"]),
    "elu": (lambda: nn.ELU(0.7), (IMAGE,), ["Elu"]),
    "celu": (lambda: nn.CELU(0.7), (IMAGE,), ["Celu"]),
    "selu": (nn.SELU, (IMAGE,), ["Selu"]),
    "gelu": (nn.GELU, (IMAGE,), ["Gelu"]),
    "gelu_tanh": (lambda: nn.GELU("tanh"), (IMAGE,), ["Gelu"]),
    "silu": (nn.SiLU, (IMAGE,), ["Sigmoid", "Mul"]),
    "mish": (nn.Mish, (IMAGE,), ["Mish"]),
    "hardswish": (nn.Hardswish, (IMAGE,), ["HardSwish"]),
    "hardsigmoid": (nn.Hardsigmoid, (IMAGE,), ["HardSigmoid"]),
    "hardtanh": (lambda: nn.Hardtanh(-0.5, 0.7), (IMAGE,), ["Clip"]),
    "softplus": (nn.Softplus, (IMAGE,), ["Softplus"]),
    "softplus_settings": (lambda: nn.Softplus(2, 1), (IMAGE,), None),
    "softsign": (nn.Softsign, (IMAGE,), None),
    "softshrink": (lambda: nn.Softshrink(0.3), (IMAGE,), ["Shrink"]),
    "hardshrink": (lambda: nn.Hardshrink(0.3), (IMAGE,), ["Shrink"]),
    "tanhshrink": (nn.Tanhshrink, (IMAGE,), None),
    "threshold": (lambda: nn.Threshold(0.2, -1), (IMAGE,), None),
    "threshold_zero": (lambda: nn.Threshold(0.2, 0), (IMAGE,), ["ThresholdedRelu"]),
    "sigmoid": (nn.Sigmoid, (IMAGE,), ["Sigmoid"]),
    "tanh": (nn.Tanh, (IMAGE,), ["Tanh"]),
    "log_sigmoid": (nn.LogSigmoid, (IMAGE,), None),
    "glu": (lambda: nn.GLU(1), (IMAGE,), None),
    # matrices
    "linear": (lambda: nn.Linear(6, 5), ((3, 6),), ["Gemm"]),
    "linear_without_bias": (lambda: nn.Linear(6, 5, bias=False), ((3, 6),), ["Gemm"]),
    "linear_3d": (lambda: nn.Linear(6, 5), ((3, 4, 6),), ["Transpose", "MatMul", "Add"]),
    "bilinear": (lambda: nn.Bilinear(4, 5, 3), ((3, 4), (3, 5)), None),
    "bilinear_3d": (lambda: nn.Bilinear(4, 5, 3, bias=False), ((3, 2, 4), (3, 2, 5)), None),
}

LAYERS = WINDOWS | OTHERS
