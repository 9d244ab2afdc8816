"""Attention."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor


@reads("MultiHeadAttention")
def multi_head(call: Call, query: Tensor, value: Tensor | None = None, key: Tensor | None = None) -> Any:
    """softmax(q k^T / sqrt(key_dim)) v for each head. Kernels: query, key, value (D, heads, dim), output (heads, dim, D)."""
    heads, key_dim = call.integer("num_heads"), call.integer("key_dim")
    value_dim = call.integer("value_dim") if call.get("value_dim") is not None else key_dim
    bias = call.flag("use_bias", default=True)
    axes = call.get("attention_axes")
    call.get("output_shape", "flash_attention", "query_shape", "key_shape", "value_shape", "use_gate")
    call.known("kernel_initializer")
    if axes not in (None, [1], (1,)):
        raise call.refuse("only attention over the first axis behind the batch is read", attribute="attention_axes")
    for flag in ("use_causal_mask", "return_attention_scores"):
        if call.kwargs.get(flag):
            raise call.refuse(f"{flag} is not read", attribute=flag)
    if call.kwargs.get("attention_mask") is not None:
        raise call.refuse("an attention mask is not read", attribute="attention_mask")
    b = call.b
    q = query.source_order(b)
    v = (value or query).source_order(b)
    k = (key or value or query).source_order(b)

    def project(x: Tensor, name: str, dim: int) -> ir.Value:
        width = x.shape[-1]
        w = call.weight(f"{name}/kernel", (width, heads, dim) if isinstance(width, int) else None, lambda a: a.reshape(a.shape[0], -1))
        y = b.op("MatMul", x.value, w)
        if bias:
            y = b.op("Add", y, call.weight(f"{name}/bias", (heads, dim), lambda a: a.reshape(-1)))
        return b.op("Transpose", b.op("Reshape", y, b.const([0, 0, heads, dim])), perm=[0, 2, 1, 3])

    qh, kh, vh = project(q, "query", key_dim), project(k, "key", key_dim), project(v, "value", value_dim)
    scaled = b.op("Mul", qh, b.const(float(key_dim) ** -0.5))
    scores = b.op("Softmax", b.op("MatMul", scaled, b.op("Transpose", kh, perm=[0, 1, 3, 2])), axis=-1)
    mixed = b.op("Reshape", b.op("Transpose", b.op("MatMul", scores, vh), perm=[0, 2, 1, 3]), b.const([0, 0, heads * value_dim]))
    stored = call.stored("attention_output/kernel")
    if stored.shape[:2] != (heads, value_dim):
        raise call.refuse(f"its output kernel has shape {stored.shape}", attribute="num_heads")
    y = b.op("MatMul", mixed, call.weight("attention_output/kernel", change=lambda a: a.reshape(heads * value_dim, -1)))
    if bias:
        y = b.op("Add", y, call.weight("attention_output/bias", change=lambda a: a.reshape(-1)))
    return Tensor.plain(y)


@reads("Attention", "AdditiveAttention")
def attention(call: Call, *xs: Tensor) -> Any:
    """Luong's dot-product attention of (query, value[, key])."""
    use_scale = call.flag("use_scale", default=False)
    mode = call.get("score_mode", default="dot")
    call.get("causal")
    call.known()
    if call.class_name != "Attention" or mode != "dot" or call.get("causal") or len(xs) not in (2, 3):
        raise call.refuse("only dot-product attention without a mask is read")
    b = call.b
    q, v = xs[0].source_order(b), xs[1].source_order(b)
    k = xs[2].source_order(b) if len(xs) == 3 else v
    scores = b.op("MatMul", q.value, b.op("Transpose", k.value, perm=[0, 2, 1]))
    if use_scale:
        scores = b.op("Mul", scores, call.weight("scale"))
    return Tensor.plain(b.op("MatMul", b.op("Softmax", scores, axis=-1), v.value))
