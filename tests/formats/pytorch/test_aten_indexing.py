"""Reading and writing at places, and reductions, as models, against torch itself: exported and traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lowering import Fn, Fn2, judged, ops
from scripting import trace_judged
from torch import nn

IMAGE = (2, 4, 6, 5)
LINE = (2, 5, 7)
WHOLE = torch.int64
INDEX = torch.tensor([[0, 2], [1, -1]])

FORMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], list[str] | None]] = {
    "index_one": (lambda x: x[:, torch.tensor([2, 0, -1])], (IMAGE,), ["Gather"]),
    "index_table": (lambda x: x[:, :, INDEX], (IMAGE,), ["Gather"]),
    "index_two": (lambda x: x[:, INDEX, torch.tensor([1, 3])], (IMAGE,), None),
    "index_apart": (lambda x: x[:, torch.tensor([1, 2]), :, torch.tensor([0, -2])], (IMAGE,), None),
    "index_all": (lambda x: x[:, torch.tensor([0, 1]), torch.tensor([2, 1]), torch.tensor([0, 4])], (IMAGE,), None),
    "index_mask": (lambda x: x[:, torch.tensor([True, False, True, True])], (IMAGE,), None),
    "index_select": (lambda x: x.index_select(2, torch.tensor([3, 0])), (IMAGE,), ["Gather"]),
    "gather": (lambda x: x.gather(2, x.argsort(2)), (LINE,), None),
    "take": (lambda x: torch.take(x.flatten(), torch.tensor([[0, 3], [5, 1]])) + 0 * x[0, 0, 0], (LINE,), None),
    "take_along": (lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1), (LINE,), None),
    "scatter": (lambda x: x.scatter(2, torch.argsort(x, 2)[:, :, :3], x * 2), (LINE,), None),
    "scatter_value": (lambda x: x.scatter(1, torch.argsort(x, 1)[:, :1], 9.0), (LINE,), None),
    "scatter_add": (lambda x: x.scatter_add(1, x.argsort(1), x), (LINE,), None),
    "scatter_amax": (lambda x: x.scatter_reduce(1, x.argsort(1), x, "amax"), (LINE,), None),
    "index_add": (lambda x: x.index_add(1, torch.tensor([1, 3, 1]), x[:, :3]), (LINE,), None),
    "index_copy": (lambda x: x.index_copy(2, torch.tensor([6, 0]), x[:, :, 2:4]), (LINE,), None),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([0, 2]), -1.0), (LINE,), None),
    "index_put": (lambda x: x.index_put((torch.arange(x.size(0)), torch.tensor(1)), x[:, 0] * 5), (LINE,), None),
    "mask_put": (lambda x: torch.index_put(x, (x > 0.5,), torch.tensor(7.0)), (LINE,), None),
    "masked_fill": (lambda x: x.masked_fill(x > 0, -2.5), (LINE,), None),
    "where": (lambda x: torch.where(x > 0, x, -0.1 * x), (LINE,), None),
    "where_numbers": (lambda x: torch.where(x > 0, 1.0, x), (LINE,), None),
    "topk": (lambda x: x.topk(3, dim=1), (LINE,), ["TopK"]),
    "topk_small": (lambda x: torch.topk(x, 2, largest=False), (LINE,), ["TopK"]),
    "sort": (lambda x: x.sort(2, descending=True), (LINE,), ["TopK"]),
    "sort_up": (lambda x: torch.sort(x, 1), (LINE,), ["TopK"]),
    "argsort": (lambda x: x.argsort(-1), (LINE,), ["TopK"]),
    "kthvalue": (lambda x: x.kthvalue(2, 1, keepdim=True), (LINE,), None),
    "median": (lambda x: x.median(1), ((2, 6, 4),), None),
    "argmax": (lambda x: x.argmax(1), (LINE,), ["ArgMax"]),
    "argmax_all": (lambda x: x.argmax(), (LINE,), None),
    "argmin_keep": (lambda x: x.argmin(2, True), (LINE,), ["ArgMin"]),
    "one_hot": (lambda x: torch.nn.functional.one_hot(x.argmax(1), 5), (LINE,), ["ArgMax", "OneHot"]),
    "embedding": (lambda x: torch.nn.functional.embedding(x.argmax(1), torch.arange(15.0).view(5, 3)), (LINE,), None),
    "tril": (lambda x: x.tril() + x.triu(2), (LINE,), None),
    "tril_mask": (lambda x: x.masked_fill(torch.ones(5, 7).tril(1) == 0, 0.0), (LINE,), None),
    "diagonal": (lambda x: x.diagonal(1, 1, 2), (LINE,), None),
    "chosen_of_each": (lambda x: x[torch.arange(x.size(0)), x[:, :, 0].argmax(1)], (LINE,), None),
    # reductions
    "sum": (lambda x: x.sum((1, 2)), (LINE,), ["ReduceSum"]),
    "sum_all": (lambda x: x.sum() + x, (LINE,), None),
    "sum_bool": (lambda x: (x > 0).sum(1), (LINE,), None),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), (IMAGE,), ["ReduceMean"]),
    "mean_all": (lambda x: x.mean() * x, (IMAGE,), None),
    "amax": (lambda x: x.amax((1, -1)) + x.amin((1, -1)), (IMAGE,), None),
    "max_dim": (lambda x: x.max(1), (IMAGE,), None),
    "max_values": (lambda x: x.max(1, keepdim=True)[0], (IMAGE,), ["ReduceMax"]),
    "min_dim": (lambda x: torch.min(x, -1)[1], (IMAGE,), None),
    "max_all": (lambda x: x - x.max() - x.min(), (LINE,), None),
    "aminmax": (lambda x: torch.aminmax(x, dim=1), (LINE,), None),
    "var": (lambda x: x.var(2), (IMAGE,), None),
    "var_biased": (lambda x: x.var((1, 2), unbiased=False, keepdim=True), (IMAGE,), None),
    "var_correction": (lambda x: torch.var(x, 1, correction=2), (IMAGE,), None),
    "std": (lambda x: x.std((2, 3)), (IMAGE,), None),
    "std_free": (lambda x: x.std() * x, (IMAGE,), None),
    "var_mean": (lambda x: torch.var_mean(x, (1, 2, 3), keepdim=True), (IMAGE,), None),
    "std_mean": (lambda x: torch.std_mean(x, 1), (IMAGE,), None),
    "prod": (lambda x: x.prod(1), (IMAGE,), ["ReduceProd"]),
    "cumsum": (lambda x: x.cumsum(1), (IMAGE,), ["CumSum"]),
    "norm": (lambda x: x.norm(dim=1) + x.norm(p=1, dim=1) + torch.norm(x, 3, 1), (IMAGE,), None),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x, float("inf"), (1, 2)), (IMAGE,), None),
    "norm_all": (lambda x: x / x.norm(), (IMAGE,), None),
    "normalize": (lambda x: torch.nn.functional.normalize(x, dim=1), (IMAGE,), None),
    "logsumexp": (lambda x: x.logsumexp(1), (IMAGE,), ["ReduceLogSumExp"]),
    "any": (lambda x: (x > 1).any(1), (LINE,), None),
    "all": (lambda x: (x > -1).all(2, keepdim=True), (LINE,), None),
    "count_nonzero": (lambda x: torch.count_nonzero(x.relu(), 1), (LINE,), None),
    "softmax": (lambda x: x.softmax(1), (IMAGE,), ["Softmax"]),
    "log_softmax": (lambda x: torch.log_softmax(x, -1), (IMAGE,), ["LogSoftmax"]),
    "softmin": (nn.Softmin(1), (IMAGE,), None),
    "softmax2d": (nn.Softmax2d(), (IMAGE,), ["Softmax"]),
    # the rest
    "einsum": (lambda x: torch.einsum("b c n, b d n -> b c d", x, x), (LINE,), ["Einsum"]),
    "meshgrid": (lambda x: x + torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")[0], (LINE,), None),
    "meshgrid_xy": (lambda x: x + torch.meshgrid(x[0, 0], torch.arange(5.0), indexing="xy")[0], (LINE,), None),
    "cdist": (lambda x: torch.cdist(x, x[:, :3] + 1), (LINE,), None),
    "cross": (lambda x: torch.linalg.cross(x, x.flip(1), dim=1), ((2, 3, 4),), None),
    "types": (lambda x: (x.double() * 2).to(torch.float32) + x.int().float() + (x > 0).type_as(x) + x.to(x.dtype), (LINE,), None),
    "dropout": (nn.Dropout(0.3), (LINE,), ["Dropout"]),
    "dropout2d": (nn.Dropout2d(0.3), (IMAGE,), None),
    "diag_embed": (lambda x: torch.diag_embed(x), (LINE,), None),
    "whole_numbers": (lambda x: (x.long() + 3) // 2 - x.long() % 3, (LINE,), None),
}


def made(function: Any) -> nn.Module:
    return function if isinstance(function, nn.Module) else Fn(function)


@pytest.mark.parametrize("name", [n for n in FORMS if n != "take_along"])  # torch.export fixes the batch of it
def test_exported(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = judged(made(function), *shapes)
    if wanted is not None:
        assert ops(model) == wanted


@pytest.mark.parametrize("name", FORMS)
def test_traced(name: str) -> None:
    function, shapes, wanted = FORMS[name]
    model = trace_judged(made(function), *shapes)
    if wanted is not None:
        assert ops(model) == wanted


def test_two_inputs() -> None:
    judged(Fn2(lambda x, y: torch.gather(x, 1, y.clamp(0, 4))), (2, 5, 7), ((2, 3, 7), WHOLE))
    trace_judged(Fn2(lambda x, y: torch.gather(x, 1, y.clamp(0, 4))), (2, 5, 7), ((2, 3, 7), WHOLE))
