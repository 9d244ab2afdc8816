"""Layers around other layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.merge import concat
from niudao.formats.keras.tensor import Tensor


@reads("TimeDistributed")
def time_distributed(call: Call, x: Tensor) -> Tensor:
    """The steps join the batch, the inner layer runs once, and the steps come back."""
    inner = call.get("layer")
    call.known()
    if call.nested is None or not isinstance(inner, Mapping):
        raise call.refuse("it wraps no layer", attribute="layer")
    b = call.b
    x = x.source_order(b)
    steps = x.shape[1]
    rest = [int(d) if isinstance(d, int) else -1 for d in x.shape[2:]]
    if not isinstance(steps, int) or -1 in rest:
        raise call.refuse("the number of steps, or the size of a step, is open")
    joined = b.op("Reshape", x.value, b.const([-1, *rest]))
    y: Tensor = call.nested(inner, call.weights, Tensor.plain(joined))
    call.used.update(call.weights)
    y = y.source_order(b)
    after = [int(d) for d in y.shape[1:] if isinstance(d, int)]
    return Tensor(b.op("Reshape", y.value, b.const([-1, steps, *after])), tuple(range(2 + len(after))), x.masked)


@reads("Bidirectional")
def bidirectional(call: Call, x: Tensor) -> Any:
    """A layer forwards and one backwards over time; the backward one's sequence is turned round again before they are joined."""
    forward, backward = call.get("layer"), call.get("backward_layer")
    mode = call.get("merge_mode", default="concat")
    call.known("return_sequences", "return_state", "stateful", "go_backwards", "zero_output_for_mask", "time_major")
    if call.nested is None or not isinstance(forward, Mapping):
        raise call.refuse("it wraps no layer", attribute="layer")
    settings = dict(forward.get("config", {}))
    if not isinstance(backward, Mapping):
        backward = {**forward, "config": settings | {"go_backwards": not settings.get("go_backwards", False)}}
    ways = []
    for config, prefix in ((forward, "forward/"), (backward, "backward/")):
        weights = {k.removeprefix(prefix): w for k, w in call.weights.items() if k.startswith(prefix)}
        call.used.update(prefix + k for k in weights)
        out = call.nested(config, weights, x, tag=prefix.rstrip("/"))
        ways.append(out if isinstance(out, tuple) else (out,))
    y = _join(call, ways[0][0], ways[1][0], mode, sequences=bool(settings.get("return_sequences")))
    states = (*ways[0][1:], *ways[1][1:])
    joined = y if isinstance(y, tuple) else (y,)
    return (*joined, *states) if states or len(joined) > 1 else joined[0]


def _join(call: Call, f: Tensor, g: Tensor, mode: Any, *, sequences: bool) -> Any:
    b = call.b
    if sequences:
        g = reverse(call, g)
    if mode is None:
        return (f, g)
    if mode == "concat":
        return concat(call, (f, g), -1)
    if mode in ("sum", "ave", "mul"):
        y = b.op("Mul" if mode == "mul" else "Add", f.value, g.value)
        return f.like(b.op("Mul", y, b.const(0.5)) if mode == "ave" else y)
    raise call.refuse(f"the merge mode {mode!r} is unknown", attribute="merge_mode")


def reverse(call: Call, x: Tensor) -> Tensor:
    """Time (the source's axis 1) backwards."""
    b = call.b
    return x.like(b.op("Slice", x.value, b.const([-1]), b.const([-(2**62)]), b.const([x.axis(1)]), b.const([-1])))
