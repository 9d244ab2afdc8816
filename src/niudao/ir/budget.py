"""What a stranger's network may ask for before somebody says that it may: memory, turns, and work of constants.

Small files can ask for anything: ten nodes square a constant until it fills the memory. Everything here is compared with
shapes, before an array is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Limits on what reading and running a network spends.

    Attributes:
        value_bytes: Of one value of the network, free axes taken as 1.
        constant_bytes: Of one value that depends on no input, unless the weights are large themselves.
        constant_growth: How many times the weights' bytes such a value may take instead.
        constant_work: Multiplications that give such values, over the whole network.
        fold_elements: That one folded node may give.
        fold_growth: A folded result of more elements than this must not be larger than what it is made from.
        turns: Of a Loop that nothing but its count ends.
    """

    value_bytes: int = 2 << 30
    constant_bytes: int = 64 << 20
    constant_growth: int = 8
    constant_work: int = 10**10
    fold_elements: int = 1 << 20
    fold_growth: int = 4096
    turns: int = 1 << 20


BUDGET = Budget(value_bytes=int(os.environ.get("NIUDAO_MAX_MEMORY", 2 << 30)))
