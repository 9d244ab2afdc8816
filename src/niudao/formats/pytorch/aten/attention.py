"""Attention: softmax(q k^T / sqrt(d) + mask) v, and the whole blocks that torch's fast paths make of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Absent, Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten


def attend(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    mask: ir.Value | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> ir.Value:
    """Attention over the last two axes.

    Args:
        c: The call.
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, V).
        mask: Broadcastable to (..., L, S): true where a key counts, or numbers to add.
        is_causal: Keys behind a query do not count.
        scale: Factor of the products; None for 1 / sqrt(E).
    """
    return c.op("MatMul", shares(c, query, key, mask, is_causal, scale), value)


def shares(
    c: Lowering, query: ir.Value, key: ir.Value, mask: ir.Value | None = None, is_causal: bool = False, scale: float | None = None
) -> ir.Value:
    """How much each key counts for each query, (..., L, S); arguments as in `attend`."""
    factor = scale if scale is not None else 1 / math.sqrt(max(c.fixed(query, -1), 1))
    rank = c.rank(key)
    turned = c.op("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = c.op("MatMul", c.op("Mul", query, c.const(factor, query)), turned)
    if is_causal:
        mask = _causal(c, c.size(query, -2), c.size(key, -2))
    if mask is not None:
        if c.dtype(mask) == ir.DataType.BOOL:
            scores = c.op("Where", mask, scores, c.const(-np.inf, query))
        else:
            scores = c.op("Add", scores, c.cast(mask, c.dtype(scores)))
    return c.op("Softmax", scores, axis=-1)


def _causal(c: Lowering, length: Number, keys: Number) -> ir.Value:
    if isinstance(length, int) and isinstance(keys, int):
        return c.const(np.tri(length, keys, dtype=bool))
    ones = c.op("ConstantOfShape", c.vector([length, keys]), value=np.ones(1, np.int64))
    return c.cast(c.op("Trilu", ones, upper=0), ir.DataType.BOOL)


def _heads(c: Lowering, query: ir.Value, key: ir.Value, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Keys and values repeated until there are as many heads as queries have."""
    heads = c.fixed(query, -3)

    def spread(x: ir.Value) -> ir.Value:
        times = heads // c.fixed(x, -3)
        if times == 1:
            return x
        axis = c.rank(x) - 3
        return c.op("Gather", x, c.const(np.repeat(np.arange(heads // times), times)), axis=axis)

    return spread(key), spread(value)


@aten("aten.scaled_dot_product_attention")
def scaled_dot_product_attention(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> ir.Value:
    if dropout_p > 0:
        c.refuse("it drops elements at random", "dropout_p", "call eval() before the network is saved")
    if enable_gqa:
        key, value = _heads(c, query, key, value)
    return attend(c, query, key, value, attn_mask, is_causal, scale)


_ONLY = Absent("of attention only the result itself is computed")


@aten("aten._scaled_dot_product_flash_attention_for_cpu")
def flash_cpu(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: ir.Value | None = None,
    scale: float | None = None,
) -> tuple[Any, ...]:
    return scaled_dot_product_attention(c, query, key, value, attn_mask, dropout_p, is_causal, scale), _ONLY


@aten("aten._scaled_dot_product_attention_math")
def attention_math(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    dropout_mask: ir.Value | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Any, ...]:
    return scaled_dot_product_attention(c, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa), _ONLY


@aten("aten._scaled_dot_product_flash_attention")
def flash(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    scale: float | None = None,
) -> tuple[Any, ...]:
    return scaled_dot_product_attention(c, query, key, value, None, dropout_p, is_causal, scale), *([_ONLY] * 8)


@aten("aten._scaled_dot_product_efficient_attention", "aten._scaled_dot_product_cudnn_attention")
def efficient(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_bias: ir.Value | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *more: Any,
    scale: float | None = None,
) -> tuple[Any, ...]:
    return scaled_dot_product_attention(c, query, key, value, attn_bias, dropout_p, is_causal, scale), *([_ONLY] * 8)


def _linear(c: Lowering, x: ir.Value, weight: ir.Value, bias: ir.Value | None) -> ir.Value:
    y = c.op("MatMul", x, c.op("Transpose", weight, perm=[1, 0]))
    return y if bias is None else c.op("Add", y, bias)


def _multi_head(
    c: Lowering,
    xs: tuple[ir.Value, ir.Value, ir.Value],
    width: int,
    heads: int,
    qkv: tuple[ir.Value, ir.Value],
    proj: tuple[ir.Value, ir.Value],
    mask: ir.Value | None,
    mask_type: int | None,
) -> tuple[ir.Value, ir.Value]:
    """Multi-head attention on (N, L, E), query, key and value weights one above the other; and what each key counted."""
    n = c.size(xs[0], 0)
    weights = c.ops("Split", qkv[0], c.const([width] * 3), outputs=3, axis=0)
    biases = c.ops("Split", qkv[1], c.const([width] * 3), outputs=3, axis=0)
    parts = []
    for x, w, b in zip(xs, weights, biases, strict=True):
        y = c.reshape(_linear(c, x, w, b), [n, c.size(x, 1), heads, width // heads])
        parts.append(c.op("Transpose", y, perm=[0, 2, 1, 3]))
    counts = None
    if mask is not None:  # true where a key does NOT count
        counts = c.op("Not", c.cast(mask, ir.DataType.BOOL))
        if c.rank(mask) == 2 and mask_type == 1:
            counts = c.op("Unsqueeze", counts, c.const([1, 2]))
    weights_of = shares(c, parts[0], parts[1], counts)
    mixed = c.op("Transpose", c.op("MatMul", weights_of, parts[2]), perm=[0, 2, 1, 3])
    return _linear(c, c.reshape(mixed, [n, c.size(xs[0], 1), width]), *proj), weights_of


@aten("aten._native_multi_head_attention")
def native_multi_head_attention(
    c: Lowering,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    embed_dim: int,
    num_head: int,
    qkv_weight: ir.Value,
    qkv_bias: ir.Value,
    proj_weight: ir.Value,
    proj_bias: ir.Value,
    mask: ir.Value | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Any, ...]:
    y, counted = _multi_head(c, (query, key, value), embed_dim, num_head, (qkv_weight, qkv_bias), (proj_weight, proj_bias), mask, mask_type)
    if not need_weights:
        return y, Absent("the weights of attention are not computed: need_weights=False")
    return y, c.op("ReduceMean", counted, c.const([1]), keepdims=0) if average_attn_weights else counted


@aten("aten._transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    c: Lowering,
    src: ir.Value,
    embed_dim: int,
    num_heads: int,
    qkv_weight: ir.Value,
    qkv_bias: ir.Value,
    proj_weight: ir.Value,
    proj_bias: ir.Value,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: ir.Value,
    norm_bias_1: ir.Value,
    norm_weight_2: ir.Value,
    norm_bias_2: ir.Value,
    ffn_weight_1: ir.Value,
    ffn_bias_1: ir.Value,
    ffn_weight_2: ir.Value,
    ffn_bias_2: ir.Value,
    mask: ir.Value | None = None,
    mask_type: int | None = None,
) -> ir.Value:
    def norm(x: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
        return c.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def block(x: ir.Value) -> ir.Value:
        return _multi_head(c, (x, x, x), embed_dim, num_heads, (qkv_weight, qkv_bias), (proj_weight, proj_bias), mask, mask_type)[0]

    def feed(x: ir.Value) -> ir.Value:
        y = _linear(c, x, ffn_weight_1, ffn_bias_1)
        return _linear(c, c.op("Gelu" if use_gelu else "Relu", y), ffn_weight_2, ffn_bias_2)

    if isinstance(c.size(src, -1), Sym):
        c.refuse("the width of its input is free")
    if norm_first:
        x = c.op("Add", src, block(norm(src, norm_weight_1, norm_bias_1)))
        return c.op("Add", x, feed(norm(x, norm_weight_2, norm_bias_2)))
    x = norm(c.op("Add", src, block(src)), norm_weight_1, norm_bias_1)
    return norm(c.op("Add", x, feed(x)), norm_weight_2, norm_bias_2)
