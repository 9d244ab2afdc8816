"""A model as torch's exported program, saved as .pt2."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import WriteError
from niudao.formats.pytorch import extra
from niudao.ir import card, probe


def save(model: ir.Model, network: Any, path: Path, where: Path) -> list[str]:
    """Export a network made of a model by `to_module`, and write it.

    Args:
        model: The model.
        network: What `to_module` made of it, in eval mode.
        path: Where the .pt2 goes.
        where: What the user calls it, for messages.

    Returns:
        What a person should know: which free axes became numbers.

    Raises:
        WriteError: torch.export does not take the network.
    """
    import torch

    from niudao.formats.pytorch.modules.weights import DTYPES, to_tensor
    from niudao.formats.pytorch.program.live import reason_of

    arguments = tuple(to_tensor(a, DTYPES[ir.DataType.from_numpy(a.dtype)]) for a in _examples(model))
    notes: list[str] = []
    with _quiet():
        program = None
        for axes in dict.fromkeys((_free(model), _batch_only(model), ())):
            try:
                program = torch.export.export(network, arguments, dynamic_shapes=_dynamic(model, axes), strict=False)
            except Exception as e:  # torch.export raises many kinds where an axis turns out not to be free
                reason = reason_of(e)
                continue
            fixed = sorted({f"{model.graph.inputs[i].name} axis {a}" for i, a, _ in set(_free(model)) - set(axes)})
            notes += [f"torch.export fixed {', '.join(fixed)}: the network's graph computes with the number"] if fixed else []
            break
        if program is None:
            raise WriteError("torch.export does not take this network.", where=where, got=reason)
        for node in program.graph.nodes:
            for told in _TRACES:
                node.meta.pop(told, None)
        held = io.BytesIO()  # torch's own writer ends the process where a disk is full
        torch.export.save(program, held, extra_files={extra.NAME: extra.text_of(model)})
    with path.open("wb") as file:
        file.write(held.getbuffer())
    return notes


_TRACES = ("stack_trace", "from_node", "source_fn_stack", "torch_fn")
"""What torch.export notes of this machine and this run: paths, and numbers that differ every time."""

Axis = tuple[int, int, str]
"""Input, axis, symbol."""


def _free(model: ir.Model) -> tuple[Axis, ...]:
    found = []
    for i, value in enumerate(model.graph.inputs):
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                found.append((i, axis, dim.value or f"any_{i}_{axis}"))
    return tuple(found)


def _batch_only(model: ir.Model) -> tuple[Axis, ...]:
    return tuple(a for a in _free(model) if a[1] == 0)


def _dynamic(model: ir.Model, axes: tuple[Axis, ...]) -> tuple[dict[int, Any], ...]:
    """What torch.export wants for `forward(*inputs)`; which sizes are equal it finds by itself."""
    import torch

    return tuple({axis: torch.export.Dim.DYNAMIC for j, axis, _ in axes if j == i} for i in range(len(model.graph.inputs)))


def _examples(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """Inputs to export with: batches of two, since torch takes a size of one for a constant."""
    inputs = {}
    for value in model.graph.inputs:
        dtype = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.dtype(np.float32)
        inputs[value.name or ""] = (dtype, tuple(d if isinstance(d, int) else d.value for d in value.shape or ()))
    drawn, _ = probe.draw(inputs, card.get_cards(model), probe.vocabulary(model), 2, np.random.default_rng(0))
    return list(drawn.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export talks of its own insides, and logs the stack of what it then raises."""
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged)
