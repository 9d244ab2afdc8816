"""TorchScript of a module as a program, without a process of its own: what tests of operators and of the walk share."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from lowering import agrees, drawn, tensors
from torch import nn

from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.checkpoint.script import script_state
from niudao.formats.pytorch.program import script, script_worker
from niudao.formats.pytorch.program.program import Program


def walked(archive: Any, shapes: dict[str, list[int | None]] | None = None) -> Program:
    """The program of a traced or scripted module, saved and loaded again."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "net.pt"
        torch.jit.save(archive, str(path))
        settings = {"shapes": shapes or {}, "traced": script.traced_inputs(path), "state": sorted(script_state(path)), "free": True}
        found = dict(script_worker.run(str(path), {}, settings))
        document = json.loads(found["program"].tobytes())
        if "failure" in document:
            raise script._failure(document, shapes or {}, path)
        program = script._program(document, found, script_state(path), path)
        held = {}
        for name, weight in program.weights.items():  # the file goes away
            tensor = weight.tensor
            held[name] = weight if isinstance(tensor, ir.TensorProtocol) else replace(weight, tensor=ir.tensor(tensor.array().copy()))
        return replace(program, weights=held)


def traced(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Program:
    """The program of a module traced on these inputs."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return walked(torch.jit.trace(module, tuple(inputs), strict=False, check_trace=False))


def trace_judged(module: nn.Module, *shapes: Any, batch: str = "free", tolerance: float = 1e-5) -> ir.Model:
    """Trace, walk, lower, and compare at the size of the example and at another one; gives the model."""
    module = drawn(module)
    example = tensors(shapes)
    program = traced(module, example)
    model = build(program)
    agrees(model, module, example, tolerance)
    if batch == "free":
        assert not program.notes, program.notes
        agrees(model, module, tensors(shapes, 3, seed=2), tolerance)
    return model


def script_judged(module: nn.Module, shapes: dict[str, Sequence[int | None]], *sizes: Any, tolerance: float = 1e-5) -> ir.Model:
    """Script, walk with these shapes, lower, and compare on inputs of these sizes; gives the model."""
    module = drawn(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = walked(torch.jit.script(module), {k: list(v) for k, v in shapes.items()})
    model = build(program)
    for seed, batch in ((1, None), (2, 3)):
        if batch is None or all(s[0] is None for s in shapes.values()):
            agrees(model, module, tensors(sizes, batch, seed=seed), tolerance)
    return model
