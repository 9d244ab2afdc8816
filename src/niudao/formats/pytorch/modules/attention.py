"""Attention and what belongs to it."""

from __future__ import annotations

import operator
from typing import Any

import onnx_ir as ir
from torch.nn import functional

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import attention as f
from niudao.formats.pytorch.modules.table import converts
from niudao.formats.pytorch.modules.weights import DTYPES


@converts("Attention")
def attention(c: Call) -> Any:
    heads, key_heads, flat = c.attr("q_num_heads"), c.attr("kv_num_heads"), c.needs_rank() == 3
    q, k, v = c.x(0), c.x(1), c.x(2)
    if flat:
        if not heads or not key_heads:
            c.refuse("does not say how many heads it has", "q_num_heads")
        q, k, v = c.call(f.split_heads, q, heads), c.call(f.split_heads, k, key_heads), c.call(f.split_heads, v, key_heads)
    settings = {
        "scale": c.attr("scale"),
        "causal": bool(c.attr("is_causal")),
        "softcap": c.attr("softcap"),
        "left": c.attr("left_window_size", -1),
        "right": c.attr("right_window_size", -1),
        "precision": DTYPES.get(ir.DataType(c.attr("softmax_precision"))) if c.attr("softmax_precision") else None,
        "shown": c.attr("qk_matmul_output_mode"),
    }
    bare = not any(c.has(i) for i in range(3, 7)) and not settings["softcap"] and settings["precision"] is None
    if bare and settings["left"] < 0 and settings["right"] < 0 and not c.wants(3):
        grouped = (c.dims(1) or [None])[1] != (c.dims(0) or [0])[1] if not flat else heads != key_heads
        y = c.call(
            functional.scaled_dot_product_attention,
            *(q, k, v),
            is_causal=settings["causal"],
            scale=settings["scale"],
            enable_gqa=grouped,
        )
        return (c.call(f.join_heads, y) if flat else y), k, v, None
    made = c.call(f.attention, q, k, v, c.x(3), c.x(4), c.x(5), c.x(6), **settings)
    y, *rest = (c.call(operator.getitem, made, i) for i in range(4))
    return (c.call(f.join_heads, y) if flat else y), *rest


@converts("RotaryEmbedding")
def rotary_embedding(c: Call) -> Any:
    interleaved, size, heads = bool(c.attr("interleaved")), c.attr("rotary_embedding_dim"), c.attr("num_heads") or 0
    if c.needs_rank() == 3 and not heads:
        c.refuse("does not say how many heads it has", "num_heads")
    return c.call(f.rotary_embedding, c.x(0), c.x(1), c.x(2), c.x(3), interleaved, size, heads)


@converts("LinearAttention")
def linear_attention(c: Call) -> Any:
    rule = c.attr("update_rule")
    settings = (c.attr("q_num_heads"), c.attr("kv_num_heads"), c.attr("scale"), rule in ("gated", "gated_delta"), "delta" in rule)
    made = c.call(f.linear_attention, *(c.x(i) for i in range(6)), *settings)
    return c.call(operator.getitem, made, 0), c.call(operator.getitem, made, 1)


@converts("CausalConvWithState")
def causal_conv(c: Call) -> Any:
    made = c.call(f.causal_conv, c.x(0), c.x(1), c.x(2), c.x(3), c.attr("activation") != "none")
    return c.call(operator.getitem, made, 0), c.call(operator.getitem, made, 1)
