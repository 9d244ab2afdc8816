"""A module of torch against the model that we make of it, at several batch sizes; what every test of an operator does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.program.live import program_of
from niudao.ir.session import run


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any, *weights: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, *self.weights)


class Fn2(nn.Module):
    """A function of two tensors as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return self.function(x, y)


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with seeded weights and statistics, in evaluation."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.4)
        for name, b in module.named_buffers():
            if name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)
            elif name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=g))
    return module.eval()


def tensors(shapes: Sequence[Any], batch: int | None = None, seed: int = 1) -> list[torch.Tensor]:
    """Inputs of these shapes, the first axis of each replaced by `batch` where that is given; an entry may be (shape, type)."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for entry in shapes:
        shape, dtype = entry if isinstance(entry[-1], torch.dtype) else (entry, torch.float32)
        shape = (batch, *shape[1:]) if batch is not None else shape
        x = torch.randn(shape, generator=g)
        found.append((x * 4).round().to(dtype) if not dtype.is_floating_point else x.to(dtype))
    return found


def leaves(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for r in (result.values() if isinstance(result, dict) else result) for t in leaves(r)]


def agrees(model: ir.Model, module: nn.Module, inputs: Sequence[torch.Tensor], tolerance: float = 1e-5) -> None:
    """The model gives what the module gives, in values, shapes and types."""
    feeds = {v.name: x.numpy() for v, x in zip(model.graph.inputs, inputs, strict=True)}
    with torch.no_grad():
        wanted = leaves(module(*[x.clone() for x in inputs]))
    got = list(run(model, feeds).values())
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == tuple(w.shape)
        assert g.dtype == w.numpy().dtype
        gap = np.abs(g.astype(np.float64) - w.numpy().astype(np.float64))
        near = (gap <= tolerance * max(1.0, float(np.abs(w.numpy()[np.isfinite(w.numpy())]).max(initial=0)))) | (g == w.numpy())
        assert (near | (np.isnan(g) & np.isnan(w.numpy()))).all(), f"{np.nanmax(gap)} apart"


def judged(module: nn.Module, *shapes: Any, batch: str = "free", decompose: bool = False, tolerance: float = 1e-5) -> ir.Model:
    """Export, lower, and compare at the size of the example and at another one; gives the model."""
    module = drawn(module)
    example = tensors(shapes)
    program = program_of(module, example, batch=batch, decompose=decompose)
    model = build(program)
    agrees(model, module, example, tolerance)
    if batch == "free":
        assert not program.notes, program.notes
        agrees(model, module, tensors(shapes, 3, seed=2), tolerance)
    return model


def ops(model: ir.Model) -> list[str]:
    """Operators of the model, in order."""
    return [node.op_type for node in model.graph]
