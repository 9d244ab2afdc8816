"""Lookups."""

from __future__ import annotations

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor


@reads("Embedding")
def embedding(call: Call, x: Tensor) -> Tensor:
    rows, width = call.integer("input_dim"), call.integer("output_dim")
    masked = call.flag("mask_zero", default=False)
    call.known()
    b = call.b
    index = b.op("Cast", x.source_order(b).value, to=7)
    y = b.op("Gather", call.weight("embeddings", (rows, width)), index, axis=0)
    return Tensor(y, tuple(range(x.rank + 1)), masked)
