"""Dropout."""

from __future__ import annotations

import operator
from typing import Any

from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.layers.dropout import MaskedDropout
from niudao.formats.pytorch.modules.table import converts


@converts("Dropout")
def dropout(c: Call) -> Any:
    """nn.Dropout: it drops while the network trains, whatever the file says about training."""
    ratio: Any = c.number(1, 0.5) if not c.has(1) or c.known(1) is not None else None
    if ratio is not None and not 0 <= ratio < 1:
        c.refuse(f"drops with probability {ratio}", "ratio")
    if c.has(2) and c.known(2) is None:
        c.refuse("whether it drops is computed while the network runs", "training_mode")
    if ratio != 0 and bool(c.number(2)):
        c.refuse("drops at random even where the network only runs", "training_mode")
    if ratio is not None and not c.wants(1):
        return c.module(nn.Dropout(ratio), c.x(0))
    both = c.module(MaskedDropout(), c.x(0), c.x(1) if ratio is None else ratio)
    return c.call(operator.getitem, both, 0), c.call(operator.getitem, both, 1)
