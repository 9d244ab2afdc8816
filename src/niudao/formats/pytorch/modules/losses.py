"""Losses of classifiers."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.table import converts


def _loss(c: Call, logarithms: Any) -> Any:
    ignored = c.attr("ignore_index")
    return c.call(
        functional.nll_loss,
        logarithms,
        c.method("long", c.x(1)),
        weight=c.x(2),
        ignore_index=-100 if ignored is None else ignored,
        reduction=c.attr("reduction"),
    )


@converts("NegativeLogLikelihoodLoss")
def negative_log_likelihood(c: Call) -> Any:
    return _loss(c, c.x(0))


@converts("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(c: Call) -> Any:
    logarithms = c.call(functional.log_softmax, c.x(0), 1)
    return _loss(c, logarithms), logarithms
