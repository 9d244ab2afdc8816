"""The process in which torch loads a TorchScript archive: it walks the network and hands back a program as JSON, and constants.

Started by `formats/oracles/workers/launch.py`, under its limits, after the archive was vetted.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

_ROOM = "niudao.formats.pytorch.program"
_PROBES = {"batch": (3, 7), "height": (192, 256), "width": (224, 320)}
_OTHER = (48, 80)
_SIDES = (224, 32, 28, 64, 96, 112, 128, 256, 227, 299, 299, 192, 160, 384, 448, 512, 16, 48, 331, 40, 80, 24, 20)
"""Sizes of pictures to try where a file says nothing."""


def version() -> str:
    """torch's version."""
    return f"torch {torch.__version__.partition('+')[0]}"


def _import(name: str) -> Any:
    """A module of this room, without the packages around it, which would bring all of niudao into this process."""
    folder = Path(__file__).parent
    parts = _ROOM.split(".")
    for i in range(len(parts), 0, -1):
        package = types.ModuleType(".".join(parts[:i]))
        package.__path__ = [str(folder)]
        sys.modules.setdefault(package.__name__, package)
        folder = folder.parent
    from importlib import import_module

    return import_module(f"{_ROOM}.{name}")


Spec = list[tuple[str, list[int | str], str]]
"""(name, shape, type) of each input."""


def run(path: str, feeds: Any, settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """The program of an archive.

    Args:
        path: The archive.
        feeds: Nothing.
        settings: shapes (input name -> sizes, null for free ones), traced (shape and type of each input as it was traced, or null),
            state (names of the weights that the caller can find), free (whether to guess pictures of any height and width).

    Returns:
        ("program", bytes of JSON), then the constants under their names.
    """
    graph = _import("script_graph")
    unit = torch._C.CompilationUnit()
    module = torch._C.import_ir_module(unit, path, torch.device("cpu"), {}, False)
    wrapped = torch.jit._recursive.wrap_cpp_module(module)
    parameters = {name for name, _ in wrapped.named_parameters(remove_duplicate=False)}
    names = {graph.place(t): name for name, t in reversed(list(wrapped.state_dict(keep_vars=True).items()))}
    try:
        arguments = graph.argument_names(module)
    except graph.Refuse as e:
        return _packed({"failure": {"reason": e.reason, "op": e.op, "layer": ""}}, {})
    inputs = [a for a in arguments if a[1] in ("Tensor", "Optional[Tensor]") and (a[1] == "Tensor" or a[0] in settings["shapes"])]
    document: dict[str, Any] = {
        "names": [a[0] for a in inputs],
        "training": bool(getattr(wrapped, "training", False)),
        "version": version(),
    }
    failure: dict[str, Any] | None = None
    for a in arguments:
        if a not in inputs and a[2] is ... and not a[1].startswith("Optional"):
            return _packed({"failure": {"reason": f"its argument {a[0]!r} is a {a[1]}, not a tensor", "op": "forward", "layer": ""}}, {})
    for spec, note in _attempts(inputs, settings, wrapped.state_dict() or _constants(module, graph.forward_of(module))):
        walk = graph.Walk(unit, module, names)
        try:
            found = _walked(walk, arguments, spec)
        except graph.Refuse as e:
            said = {"reason": e.reason, "op": e.op, "layer": e.layer, "known": bool(settings["traced"]) and not settings["shapes"]}
            if isinstance(e, graph.Unfit):
                failure = failure or said | {"kind": "unfit"}
                continue
            failure = said | {"kind": "refused"}
            break
        document |= found
        document["parameters"] = sorted(parameters & set(found["weights"]))
        document["notes"] = ([note] if note else []) + document["notes"]
        missing = {n: walk.state[n] for n in found["weights"] if n in walk.state and n not in settings["state"]}
        used = {n: t for n, t in {**walk.tape.constants, **missing}.items() if n in found["weights"]}
        return _packed(document, used)
    return _packed(document | {"failure": failure or {"reason": "it takes no tensor", "op": "forward", "layer": "", "kind": "refused"}}, {})


def _constants(module: Any, forward: str) -> dict[str, Any]:
    """The weights of a frozen network, which has none but constants, in the order in which it uses them."""
    found: dict[str, Any] = {}
    for node in module._get_method(forward).graph.nodes():
        for value in node.inputs():
            held = value.toIValue() if value.node().kind() == "prim::Constant" else None
            if isinstance(held, torch.Tensor):
                found.setdefault(value.debugName(), held)
    return found


def _packed(document: dict[str, Any], constants: dict[str, Any]) -> list[tuple[str, Any]]:
    arrays = []
    types_of: dict[str, str] = {}
    for name, tensor in constants.items():
        plain = tensor.detach().contiguous()
        kind = str(plain.dtype).removeprefix("torch.")
        if kind in ("bfloat16", "float8_e5m2", "float8_e4m3fn"):
            types_of[name] = kind
            plain = plain.view(torch.int16 if kind == "bfloat16" else torch.uint8)
        arrays.append((name, plain.numpy()))
    text = json.dumps(document | {"types": types_of}).encode()
    return [("program", np.frombuffer(text, np.uint8)), *arrays]


def _walked(walk: Any, arguments: Sequence[tuple[str, str, Any]], spec: Spec) -> dict[str, Any]:
    values_of = _import("script_values")
    tensors = {}
    for name, dims, dtype in spec:
        probes = []
        for i in range(2):
            shape = [d if isinstance(d, int) else _PROBES.get(d, _OTHER)[i] for d in dims]
            probes.append(torch.empty(shape, dtype=getattr(torch, dtype), device="meta"))
        tensors[name] = values_of.Tensor(name, tuple(probes))
    given = [tensors.get(name, None if default is ... else default) for name, _, default in arguments]
    result = walk.run(given)
    outputs = [(name, walk.tape.plain(value)) for name, value in _named(result)]
    calls = _living(walk.tape.calls, outputs)
    used = {n for call in calls for n in _refs([call["args"], call["kwargs"]])} | set(_refs([v for _, v in outputs]))
    changed = walk.tape.written & used
    if changed:
        raise values_of.Refuse(f"it writes into its own weight {sorted(changed)[0]!r} as it runs")
    weights = sorted(n for n in used if n in walk.state or n in walk.tape.constants)
    notes = []
    if walk.tape.decided and any(isinstance(d, str) for _, dims, _ in spec for d in dims):
        notes.append("a branch of the network was chosen by a size that is free; sizes of 1 may take the other one")
    inputs = [[name, dims, dtype] for name, dims, dtype in spec]
    return {"inputs": inputs, "calls": calls, "outputs": outputs, "weights": weights, "notes": notes}


def _named(result: Any) -> Iterator[tuple[str, Any]]:
    """Outputs in their order: under a dictionary's keys, else output, output_1, ..."""
    number = 0

    def visit(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        nonlocal number
        if isinstance(value, dict):
            for key, item in value.items():
                yield from visit(item, f"{name}.{key}" if name else str(key))
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from visit(item, name)
        elif value is not None:
            if name:
                yield name, value
            else:
                yield f"output_{number}" if number else "output", value
            number += 1

    yield from visit(result, "")


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["ref"]] if set(value) == {"ref"} else [n for v in value.values() for n in _refs(v)]
    return [n for v in value for n in _refs(v)] if isinstance(value, (list, tuple)) else []


def _living(calls: list[dict[str, Any]], outputs: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The calls that the outputs need; no call writes into its arguments any more."""
    wanted = set(_refs([v for _, v in outputs]))
    kept = []
    for call in reversed(calls):
        if wanted & set(call["outputs"]):
            kept.append(call)
            wanted.update(_refs([call["args"], call["kwargs"]]))
    return kept[::-1]


def _attempts(inputs: Sequence[tuple[str, str, Any]], settings: dict[str, Any], state: dict[str, Any]) -> Iterator[tuple[Spec, str]]:
    """Shapes to try, the likeliest first."""
    names = [name for name, _, _ in inputs]
    shapes, traced = settings["shapes"], settings["traced"]
    if traced and len(traced) == len(names) and not any(n in shapes for n in names):
        first = traced[0][0]
        lead = first[0] if first else None
        free = [(n, ["batch", *s[1:]] if s and s[0] == lead else list(s), t) for n, (s, t) in zip(names, traced, strict=True)]
        yield free, ""
        yield [(n, list(s), t) for n, (s, t) in zip(names, traced, strict=True)], f"the batch is fixed to {lead}, as it was traced"
        return
    types_of = {n: t for n, (_, t) in zip(names, traced, strict=True)} if traced and len(traced) == len(names) else {}
    if all(n in shapes for n in names):
        dims = {n: [d if d is not None else "batch" if i == 0 else f"{n}_{i}" for i, d in enumerate(shapes[n])] for n in names}
        for kind in dict.fromkeys((_floating(state), "float32", "int64")):
            yield [(n, dims[n], types_of.get(n, kind)) for n in names], ""
        return
    for shape, kind in _guesses(state):
        kind = _floating(state) if kind == "float32" else kind
        if "height" in shape and not settings["free"]:
            continue
        spec = [(n, list(shapes[n]) if n in shapes else list(shape), kind) for n in names]
        shown = "x".join(str(d) for d in shape)
        yield spec, f"the file does not say what shape its input has; {shown} fits, --shape {names[0]}=... says another"


def _floating(state: dict[str, Any]) -> str:
    """The type of numbers that the network computes in, which is that of its first weight."""
    dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
    return str(dtype).removeprefix("torch.")


def _guesses(state: dict[str, Any]) -> Iterator[tuple[list[int | str], str]]:
    """Shapes that the first weights speak for."""
    first = next(((n, t) for n, t in state.items() if t.dim() >= 2), None)
    name, weight = first if first is not None else ("", None)
    rank = weight.dim() if weight is not None else 4
    if rank == 2 and weight is not None:
        width = weight.shape[1]
        if "weight_ih" in name:
            yield ["batch", "length", width], "float32"
        elif "emb" in name:
            yield ["batch", "length"], "int64"
        yield ["batch", width], "float32"
        yield ["batch", "length", width], "float32"
        yield ["batch", "length"], "int64"
    channels = list(dict.fromkeys([*([int(weight.shape[1]), int(weight.shape[0])] if weight is not None and rank > 2 else []), 3, 1]))
    if rank == 3:
        for c in channels:
            yield ["batch", c, "length"], "float32"
    if rank == 5:
        for c in channels:
            yield ["batch", c, 16, 112, 112], "float32"
    for c in channels:
        yield ["batch", c, "height", "width"], "float32"
    for c in channels:
        for side in _SIDES:
            yield ["batch", c, side, side], "float32"
