"""A live module as a Program, through torch.export; the module is left as it was."""

from __future__ import annotations

import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import torch

from niudao.errors import Refusal, Unsupported, UsageError
from niudao.formats.pytorch.checkpoint.tensors import StoredTensor
from niudao.formats.pytorch.program import fx
from niudao.formats.pytorch.program.program import Program


def program_of(
    module: torch.nn.Module,
    example_inputs: Sequence[torch.Tensor],
    *,
    batch: str = "free",
    decompose: bool = False,
    free: Sequence[Collection[int]] | None = None,
) -> Program:
    """The calls that a module makes in evaluation.

    Args:
        module: The module; on any device.
        example_inputs: What `forward` is given: tensors, batch first.
        batch: "free" to leave the first axis of every input open where the module allows it; "fixed" to keep it.
        free: Axes of each input to leave open where the module allows them all; the first one of each where left out.
        decompose: Let torch take its operators apart into the fewer ones of core ATen.

    Returns:
        The program, with a note where the first axis could not be left open.

    Raises:
        UsageError: The module does not run on these inputs.
        Unsupported: torch.export cannot follow it.
    """
    inputs = tuple(example_inputs)
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        got = ", ".join(type(x).__name__ for x in inputs) or "nothing"
        raise UsageError("the example inputs of a module are tensors.", expected="one tensor for each argument of forward", got=got)
    if batch not in ("free", "fixed"):
        raise UsageError(f"batch is {batch!r}.", expected="'free' or 'fixed'")
    with _evaluating(module):
        if isinstance(module, torch.jit.ScriptModule):
            return _through_script(module, inputs, batch == "free")
        try:
            exported, notes = _exported(module, inputs, batch == "free" and (free is None or any(free)), free)
        except Unsupported as e:
            traced = _traced(module, inputs)
            if traced is None:
                raise
            program = _through_script(traced, inputs, batch == "free")
            note = f"it was traced with these inputs, because torch.export cannot follow it: {e.refusals[0].reason}"
            return replace(program, notes=(*program.notes, note))
        if decompose:
            exported = exported.run_decompositions()
        return fx.Reader(exported, notes).program()


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation and silence for the time of an export; every module's own mode is put back."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch logs the stack of what it then raises, and that is told
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged)
        for m, mode in modes:
            m.training = mode


def _exported(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], free: bool, axes: Sequence[Collection[int]] | None = None
) -> tuple[Any, list[str]]:
    """The exported program, its first axes open where that is possible, and what to say about it."""
    reason = ""
    if free and all(x.ndim for x in inputs):
        # a batch of one is not told from a size that is always one
        given = axes if axes is not None and len(axes) == len(inputs) else [{0} for _ in inputs]
        wanted = tuple(map(frozenset, given))
        several = tuple(  # copies, for export leaves marks on what it is given
            torch.cat([x, x]) if x.shape[0] == 1 and 0 in a else x.clone() for x, a in zip(inputs, wanted, strict=True)
        )
        for opened in dict.fromkeys((wanted, tuple(a & {0} for a in wanted))):
            shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in sorted(a)} for a in opened)
            try:
                made = torch.export.export(module, several, dynamic_shapes=_per_argument(module, shapes), strict=False)
            except Exception as e:  # torch.export raises whatever the module or the tracer does
                reason = reason_of(e)
            else:
                if _is_free(made):
                    return made, []
                reason = "the module computes with the number it was exported with"
    try:
        made = torch.export.export(module, inputs, strict=False)
    except Exception as e:  # as above
        _runs(module, inputs)
        raise Unsupported(
            "torch.export", [Refusal(type(module).__name__, "forward", reason_of(e))], next="trace it with torch.jit.trace"
        ) from e
    return made, [f"the batch is fixed to {inputs[0].shape[0]}: {reason}"] if reason else []


def _traced(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """The module as TorchScript; None where a trace would freeze what depends on the input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", torch.jit.TracerWarning)
        try:
            return torch.jit.trace(module, tuple(x.clone() for x in inputs), check_trace=False)
        except Exception:  # a stranger's forward raises what it likes; what torch.export said of it is told
            return None


def _through_script(module: Any, inputs: tuple[torch.Tensor, ...], free: bool) -> Program:
    """A module of TorchScript as a program, by the reader of its archives; the weights are the module's own."""
    from niudao.formats.pytorch.program.script import program_of as script_program

    names = [a.name for a in module.forward.schema.arguments[1 : len(inputs) + 1]]
    if len(names) != len(inputs):
        raise UsageError("the module takes fewer inputs.", expected=f"{len(names)}", got=f"{len(inputs)}")
    state = module.state_dict(keep_vars=True)
    with tempfile.TemporaryDirectory(prefix="niudao-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "module.pt"
        torch.jit.save(module, path)
        program = _walked(script_program, path, dict(zip(names, inputs, strict=True)), free)
        weights = {}
        for name, weight in program.weights.items():
            held = weight.tensor
            if weight.fqn in state:
                held = fx.stored(state[weight.fqn], weight.fqn)
            elif isinstance(held, StoredTensor):  # before its file is gone
                held = ir.tensor(np.array(held.array()), name=weight.fqn)
            weights[name] = replace(weight, tensor=held)
    return replace(program, weights=weights)


def _walked(read: Any, path: Path, inputs: dict[str, torch.Tensor], free: bool) -> Program:
    if free and all(x.ndim for x in inputs.values()):
        try:
            return cast(Program, read(path, shapes={n: (None, *x.shape[1:]) for n, x in inputs.items()}))
        except (Unsupported, UsageError):
            pass
    program: Program = read(path, shapes={n: tuple(x.shape) for n, x in inputs.items()})
    note = f"the batch is fixed to {next(iter(inputs.values())).shape[0]}: the module computes with it"
    return replace(program, notes=(*program.notes, note)) if free else program


def _per_argument(module: torch.nn.Module, shapes: tuple[Any, ...]) -> Any:
    """The shapes as torch.export wants them for `forward(*inputs)`: those of a variable argument in one tuple."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    for i, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return (*shapes[:i], tuple(shapes[i:]))
    return shapes


def _is_free(exported: Any) -> bool:
    """Whether some first axis is a symbol still."""
    names = set(exported.graph_signature.user_inputs)
    values = [n.meta["val"] for n in exported.graph.nodes if n.op == "placeholder" and n.name in names]
    return any(isinstance(v.shape[0], torch.SymInt) for v in values if isinstance(v, torch.Tensor) and v.ndim)


def _runs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    try:
        module(*inputs)
    except Exception as e:  # a stranger's forward raises what it likes
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise UsageError(f"the module does not run on these inputs: {reason_of(e)}", got=shapes) from e


def reason_of(e: Exception) -> str:
    """The first sentence of an exception, without paths and stacks."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip() and 'File "' not in line]
    return (lines[0] if lines else type(e).__name__).split("(/")[0][:200]
