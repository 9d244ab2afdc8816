"""TorchScript archives as programs: vetted here, walked by torch in a process of its own, weights mapped from the archive.

A scripted network says nothing of the shapes of its inputs; a traced one of torch 2 says what it was traced with.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from niudao.errors import MissingExtra, ReadError, Refusal, RunError, Unsupported, UsageError, Where
from niudao.formats import oracles
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.checkpoint import zipped
from niudao.formats.pytorch.checkpoint.archive import open_archive
from niudao.formats.pytorch.checkpoint.described import Tensor as Described
from niudao.formats.pytorch.checkpoint.script import script_state
from niudao.formats.pytorch.checkpoint.vet import vet
from niudao.formats.pytorch.program import script_old
from niudao.formats.pytorch.program.program import Arg, Call, Input, Program, Ref, Weight

MEMORY = 16 << 30
"""Address space of the process: torch maps its libraries whole."""
_WORKER = Path(__file__).with_name("script_worker.py")


def program_of(path: Path, *, shapes: Mapping[str, Sequence[int | None]] | None = None, seconds: float = 300) -> Program:
    """The calls of a TorchScript network.

    Args:
        path: The archive.
        shapes: Input name -> shape, None for a free size; needed where the archive does not say it and it cannot be guessed.
        seconds: Wall-clock limit of the process that reads it.

    Returns:
        The program; the first axis of its inputs is free where the network allows it.

    Raises:
        ReadError: The archive is damaged or hostile, or so old that no torch of today reads its graph.
        UsageError: Shapes are needed, or do not fit.
        Unsupported: It does what a program cannot say; named.
        MissingExtra: torch is not installed.
    """
    path = Path(path)
    if vet(path) == "torchscript-old":
        raise script_old.refusal(path)
    given = {name: list(shape) for name, shape in (shapes or {}).items()}
    settings: dict[str, Any] = {"shapes": given, "traced": traced_inputs(path), "state": sorted(script_state(path)), "free": True}
    program = _walked(path, settings, seconds)
    if any(d == "height" for i in program.inputs for d in i.shape or ()):  # our guess, not the file's word
        try:
            build(program)
        except Unsupported:
            return _walked(path, settings | {"free": False}, seconds)
    return program


def _walked(path: Path, settings: Mapping[str, Any], seconds: float) -> Program:
    given = settings["shapes"]
    try:
        found = oracles.run(_torch(), str(_WORKER), path, {}, seconds=seconds, memory=MEMORY, **settings)
    except RunError as e:
        if isinstance(e, oracles.OverBudget):
            raise
        raise ReadError(f"torch cannot load this archive: {e.message}", where=path, got=e.got) from e
    document = _document(found, path)
    unknown = [n for n in given if n not in document.get("names", given)]
    if unknown:
        raise UsageError(f"no input is called {unknown[0]!r}.", expected=", ".join(document["names"]), got=unknown[0])
    if "failure" in document:
        raise _failure(document, given, path)
    try:
        return _program(document, found, script_state(path), path)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as e:  # a process that held a stranger's archive is not trusted
        raise ReadError("torch gave no program of this archive.", where=path) from e


def traced_inputs(path: Path) -> list[tuple[list[int], str]] | None:
    """Shape and type of each input that a network was traced with, if the archive tells."""
    archive = open_archive(path)
    if "traced_inputs.pkl" not in archive:
        return None
    held = zipped.load(archive, "traced_inputs.pkl")
    values = held.get("forward") if isinstance(held, dict) else None
    if not isinstance(values, (list, tuple)) or not values or not all(isinstance(v, Described) for v in values):
        return None
    return [([int(d) for d in v.shape], v.dtype or v.storage.dtype or "float32") for v in values]


def _torch() -> oracles.Oracle:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("reading TorchScript", "torch", "torch")
    try:
        installed = installed_version("torch")
    except PackageNotFoundError:
        installed = ""
    return oracles.Oracle("torch", "PyTorch", f"torch {installed}", Path(sys.executable), paths=tuple(p for p in sys.path if p))


def _document(found: Mapping[str, np.ndarray[Any, Any]], path: Path) -> dict[str, Any]:
    try:
        document = json.loads(found["program"].tobytes())
    except (KeyError, ValueError, RecursionError) as e:
        raise ReadError("torch gave no program of this archive.", where=path) from e
    if not isinstance(document, dict):
        raise ReadError("torch gave no program of this archive.", where=path)
    return document


def _failure(document: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> Exception:
    failure = document["failure"]
    reason, layer, op = str(failure["reason"]), str(failure.get("layer") or "forward"), str(failure.get("op") or "")
    if failure.get("kind") != "unfit" or failure.get("known"):
        return Unsupported("niudao's reader of PyTorch", [Refusal(layer, op, reason)], where=path)
    names = document.get("names", [])
    hint = " ".join(f"--shape {n}=1x3x224x224" for n in names) + " with the numbers of this network"
    where = Where(file=str(path), node=layer)
    if all(n in given for n in names):
        shown = ", ".join(f"{n}: {'x'.join('?' if d is None else str(d) for d in s)}" for n, s in given.items())
        return UsageError(f"the network does not take inputs of these shapes: {reason}", where=where, got=shown)
    return UsageError(f"the file does not say what shape its inputs have, and none that was tried fits: {reason}", where=where, next=hint)


def _program(document: Mapping[str, Any], found: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> Program:
    parameters = set(document["parameters"])
    weights: dict[str, Weight] = {}
    for name in document["weights"]:
        if name in found:
            weights[name] = Weight(name, _constant(found[name], document["types"].get(name)), name in parameters)
        elif name in state:
            weights[name] = Weight(name, state[name], name in parameters)
        else:
            raise ReadError(f"the network uses {name[:80]!r}, which is not among its weights.", where=path)
    notes = list(document["notes"])
    if document["training"]:
        notes.append("it was saved in training mode and is read for inference")
    return Program(
        inputs=tuple(Input(name, tuple(dims), dtype) for name, dims, dtype in document["inputs"]),
        weights=weights,
        calls=tuple(_call(c) for c in document["calls"]),
        outputs=tuple((name, _arg(value)) for name, value in document["outputs"]),
        version=str(document["version"]).removeprefix("torch "),
        kind="torchscript",
        notes=tuple(notes),
    )


def _constant(array: np.ndarray[Any, Any], dtype: str | None) -> ir.TensorProtocol:
    return ir.tensor(array.view(getattr(ml_dtypes, dtype)) if dtype else array)


def _call(held: Mapping[str, Any]) -> Call:
    layer, kind = held["layer"]
    named = {k: _arg(v) for k, v in held["kwargs"].items()}
    return Call(held["target"], tuple(_arg(a) for a in held["args"]), named, tuple(held["outputs"]), layer, kind)


def _arg(value: Any) -> Arg:
    if isinstance(value, dict):
        return Ref(value["ref"])
    return [_arg(v) for v in value] if isinstance(value, list) else value
