"""Reductions, running sums and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import reduce as f
from niudao.formats.pytorch.modules.table import converts


def reduced(c: Call, float_function: Callable[..., Any], integer_function: Callable[..., Any] | None = None, **extra: Any) -> Any:
    """A reduction over the axes that the node says; `integer_function` where the input is not float."""
    rank, axes = c.needs_rank(), c.ints(1)
    if not axes and not c.attr("noop_with_empty_axes"):
        axes = list(range(rank))
    keep = bool(c.attr("keepdims"))
    function = float_function if integer_function is None or c.dtype(0).is_floating_point else integer_function
    return c.call(function, c.x(0), axes, keep, **extra) if axes else _noop(c)


def _noop(c: Call) -> Any:
    """Without axes only what is done to each element is left."""
    x = c.x(0)
    if c.op in ("ReduceL1", "ReduceL2"):
        return c.call(torch.abs, x)
    if c.op == "ReduceSumSquare":
        return c.call(torch.square, x)
    if c.op == "ReduceLogSum":
        return c.call(torch.log, x)
    return x


def _empty(c: Call) -> bool:
    """Whether the input may have no elements."""
    sizes = c.dims(0)
    return sizes is not None and 0 in sizes


@converts("ReduceMean")
def reduce_mean(c: Call) -> Any:
    return reduced(c, torch.mean, f.reduce_mean)


@converts("ReduceSum")
def reduce_sum(c: Call) -> Any:
    return reduced(c, torch.sum, **({} if c.dtype(0).is_floating_point else {"dtype": c.dtype(0)}))


@converts("ReduceMax")
def reduce_max(c: Call) -> Any:
    return reduced(c, f.reduce_max if _empty(c) else torch.amax)


@converts("ReduceMin")
def reduce_min(c: Call) -> Any:
    return reduced(c, f.reduce_min if _empty(c) else torch.amin)


@converts("ReduceProd")
def reduce_prod(c: Call) -> Any:
    return reduced(c, f.reduce_prod)


@converts("ReduceL1")
def reduce_l1(c: Call) -> Any:
    return reduced(c, f.reduce_l1)


@converts("ReduceL2")
def reduce_l2(c: Call) -> Any:
    return reduced(c, f.reduce_l2, f.reduce_norm)


@converts("ReduceSumSquare")
def reduce_sum_square(c: Call) -> Any:
    return reduced(c, f.reduce_sum_square)


@converts("ReduceLogSum")
def reduce_log_sum(c: Call) -> Any:
    return reduced(c, f.reduce_log_sum)


@converts("ReduceLogSumExp")
def reduce_log_sum_exp(c: Call) -> Any:
    return reduced(c, torch.logsumexp)


@converts("ArgMax")
def argmax(c: Call) -> Any:
    function = f.last_argmax if c.attr("select_last_index") else torch.argmax
    return c.call(function, c.x(0), c.attr("axis"), bool(c.attr("keepdims")))


@converts("ArgMin")
def argmin(c: Call) -> Any:
    function = f.last_argmin if c.attr("select_last_index") else torch.argmin
    return c.call(function, c.x(0), c.attr("axis"), bool(c.attr("keepdims")))


@converts("CumSum", "CumProd")
def running(c: Call) -> Any:
    axis, product = (c.ints(1) or [0])[0], c.op == "CumProd"
    exclusive, reverse = bool(c.attr("exclusive")), bool(c.attr("reverse"))
    if not exclusive and not reverse and c.dtype(0).is_floating_point:
        return c.call(torch.cumprod if product else torch.cumsum, c.x(0), axis)
    return c.call(f.running, c.x(0), axis, product, exclusive, reverse)


@converts("Softmax")
def softmax(c: Call) -> Any:
    return c.module(nn.Softmax(c.attr("axis")), c.x(0))


@converts("LogSoftmax")
def log_softmax(c: Call) -> Any:
    return c.module(nn.LogSoftmax(c.attr("axis")), c.x(0))


@converts("Hardmax")
def hardmax(c: Call) -> Any:
    return c.call(f.hardmax, c.x(0), c.attr("axis"))
