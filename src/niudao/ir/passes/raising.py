"""Everything that exporters spelt out, raised to the operators that people wrote, in the right order; each raise proven."""

from __future__ import annotations

import onnx_ir as ir

from niudao.ir.passes import PASSES, Result, raise_idioms, raise_shapes
from niudao.ir.passes.infer_shapes import infer_shapes
from niudao.ir.passes.proving import Tally, apply
from niudao.ir.passes.raise_frozen import RULES as FROZEN
from niudao.ir.passes.remove_dead import remove_dead
from niudao.ir.passes.remove_identity import remove_idle

_ROUNDS = 3
"""Raised operators are part of others (Softplus of Mish); a sweep goes forward, so that two rounds mostly do."""


@PASSES.register("raising")
def raise_all(model: ir.Model) -> Result:
    """Raise every idiom that the rules know, in place: first shapes, then operators, then batch normalisation.

    Every raise is proven: the chain and the operator run in ONNX Runtime on equal inputs, and where they differ by more than
    1e-5 of the largest value the chain stays. BatchNormalization is never folded.

    Requires: a sorted graph whose inputs have types.
    Ensures: results differ by rounding only; inner values that somebody else uses keep being computed.

    Returns:
        One line for each kind of raise ("raised 9 LRN (proven to 3e-07)"), and for each that could not be proven.
    """
    tally = Tally()
    shapes = raise_shapes.sweep(model, tally)
    raised = False
    for _ in range(_ROUNDS):
        if not raise_idioms.sweep(model, tally):
            break
        raised = True
        infer_shapes(model)
    if apply(model, FROZEN, tally) or raised:
        shapes = shapes + remove_idle(model, dropout=False)
        infer_shapes(model)
    return shapes + remove_dead(model) + tally.result()
