"""Attention as ONNX says it: grouped heads, caches, masks, windows; rotary positions; its linear relatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    return x.transpose(1, 2).flatten(2)


def attention_bias(
    scores: Tensor, mask: Tensor | None, past: int, lengths: Tensor | None, causal: bool, left: int, right: int
) -> Tensor | None:
    """What is added to attention's scores: 0 where a query may look, minus infinity where it may not, or a mask's own numbers."""
    queries, keys = scores.shape[-2:]
    barred = None
    position = torch.arange(queries, device=scores.device).unsqueeze(1)
    key = torch.arange(keys, device=scores.device)
    offset: Tensor | int = past
    if not past and lengths is not None:
        offset = (lengths - queries).reshape(-1, 1, 1, 1)
    if causal:
        barred = key > position + offset
    if left >= 0:
        far = position + offset - key > left
        barred = far if barred is None else barred | far
    if right >= 0:
        far = key - position - offset > right
        barred = far if barred is None else barred | far
    if lengths is not None:
        behind = key >= lengths.reshape(-1, 1, 1, 1)
        barred = behind if barred is None else barred | behind
    if mask is not None and mask.shape[-1] < keys:
        fill = 0 if mask.dtype == torch.bool else -torch.inf
        mask = torch.nn.functional.pad(mask, (0, keys - mask.shape[-1]), value=fill)
    if mask is not None and mask.dtype == torch.bool:
        barred = ~mask if barred is None else barred | ~mask
        mask = None
    if barred is None:
        return mask
    bias = torch.zeros_like(barred, dtype=scores.dtype).masked_fill(barred, -torch.inf)
    return bias if mask is None else bias + mask


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    left: int = -1,
    right: int = -1,
    precision: torch.dtype | None = None,
    shown: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaled dot-product attention.

    Args:
        q: (batch, heads, queries, size).
        k: (batch, key heads, keys, size); each key head serves as many neighbouring query heads.
        v: (batch, key heads, keys, value size).
        mask: Added to the scores, or True where a query may look; shorter than the keys it bars the rest.
        past_key: Keys of earlier steps, put in front.
        past_value: Their values.
        lengths: How many keys of each batch count.
        scale: Factor of the scores; one over the root of the size where it is not given.
        causal: A query sees no key behind its own place.
        softcap: Bound of the scores, by a tanh; 0 is none.
        left: How many keys before its place a query sees; -1 all.
        right: How many behind it.
        precision: Type in which the softmax is taken.
        shown: Which scores the last result holds: 0 the products, 1 softcapped, 2 with the mask, 3 the weights.

    Returns:
        (batch, heads, queries, value size), all keys, all values, the scores asked for.
    """
    past = 0
    if past_key is not None:
        past, k = past_key.shape[2], torch.cat([past_key, k], 2)
    if past_value is not None:
        v = torch.cat([past_value, v], 2)
    keys, values = k, v
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    root = math.sqrt(scale) if scale is not None else q.shape[-1] ** -0.25
    scores = (q * root) @ (k * root).transpose(-1, -2)
    seen = scores
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
        seen = scores if shown == 1 else seen
    bias = attention_bias(scores, mask, past, lengths, causal, left, right)
    scores = scores if bias is None else scores + bias
    seen = scores if shown == 2 else seen
    weights = torch.softmax(scores if precision is None else scores.to(precision), -1)
    if bias is not None:
        weights = torch.where((bias == -torch.inf).all(-1, keepdim=True), torch.zeros_like(weights), weights)
    weights = weights.to(q.dtype)
    return weights @ v, keys, values, weights if shown == 3 else seen


def rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, interleaved: bool, size: int, heads: int) -> Tensor:
    """Turn pairs of features by an angle that grows with the place.

    Args:
        x: (batch, heads, time, size), or (batch, time, heads * size) with `heads` said.
        cos: (places, half) with `positions`, else (batch, time, half).
        sin: Likewise.
        positions: Place of each step (batch, time).
        interleaved: Pairs are neighbours; otherwise halves.
        size: How many features of each head are turned; 0 is all.
        heads: Number of heads where `x` does not say it; 0 otherwise.
    """
    flat = x.dim() == 3
    x = split_heads(x, heads) if flat else x
    size = size or x.shape[-1]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    turned, rest = x[..., :size], x[..., size:]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    turned = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    y = torch.cat([turned, rest], -1)
    return join_heads(y) if flat else y


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None,
    decay: Tensor | None,
    beta: Tensor | None,
    heads: int,
    key_heads: int,
    scale: float,
    gated: bool,
    delta: bool,
) -> tuple[Tensor, Tensor]:
    """Attention by a running sum of outer products of keys and values.

    Args:
        q: (batch, time, heads * size).
        k: (batch, time, key heads * size).
        v: (batch, time, key heads * value size).
        state: The sum so far (batch, key heads, size, value size).
        decay: Logarithm of what is kept of the sum at each step, for each head or each feature of it.
        beta: Weight of each step, for each head or all.
        heads: Number of query heads.
        key_heads: Number of key heads.
        scale: Factor of the result; 0 is one over the root of the size.
        gated: The sum decays.
        delta: A value is added less what the sum already answers to its key.

    Returns:
        (batch, time, heads * value size), and the sum.
    """
    kind = q.dtype if state is None else state.dtype
    wide = torch.promote_types(q.dtype, torch.float32)
    queries, keys, values = (split_heads(t, h).to(wide) for t, h in ((q, heads), (k, key_heads), (v, key_heads)))
    size = queries.shape[-1]
    total = keys.new_zeros(q.shape[0], key_heads, size, values.shape[-1]) if state is None else state.to(wide)
    scale = scale or size**-0.5
    outputs = []
    for t in range(q.shape[1]):
        key, value = keys[:, :, t], values[:, :, t]
        if gated and decay is not None:
            total = total * split_heads(decay, key_heads).to(wide)[:, :, t].exp().unsqueeze(-1)
        if delta and beta is not None:
            answered = torch.einsum("bhdm,bhd->bhm", total, key)
            value = split_heads(beta, beta.shape[-1]).to(wide)[:, :, t] * (value - answered)
        total = total + key.unsqueeze(-1) * value.unsqueeze(-2)
        seen = total.repeat_interleave(heads // key_heads, 1)
        outputs.append(scale * torch.einsum("bhd,bhdm->bhm", queries[:, :, t], seen))
    return join_heads(torch.stack(outputs, 2)).to(q.dtype), total.to(kind)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, silu: bool) -> tuple[Tensor, Tensor]:
    """Convolution of each channel with itself and what came before (batch, channels, time), and what the next call needs of it."""
    reach = weight.shape[2] - 1
    past = x.new_zeros(x.shape[0], x.shape[1], reach) if past is None else past
    whole = torch.cat([past, x], 2)
    y = torch.nn.functional.conv1d(whole, weight, bias, groups=x.shape[1])
    return torch.nn.functional.silu(y) if silu else y, whole.narrow(2, whole.shape[2] - reach, reach)
