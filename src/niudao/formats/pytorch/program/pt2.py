"""A .pt2 file as a Program: the graph that torch.export wrote as JSON, read without torch.

Reference: `torch/_export/serde/schema.py`; layouts of torch 2.1 to 2.6 (`serialized_exported_program.json` and a state dict beside
it) and of 2.7 and later (`models/<name>.json`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niudao.errors import ReadError, Refusal, Unsupported, Where
from niudao.formats.pytorch.checkpoint import exported
from niudao.formats.pytorch.checkpoint.archive import Archive, open_archive
from niudao.formats.pytorch.program.graphs import Calls
from niudao.formats.pytorch.program.program import Arg, Input, Program, Weight
from niudao.formats.pytorch.program.treespec import output_names

GARBAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError)

_SYMBOL = re.compile(r"Symbol\('(\w+)'[^)]*\)|(\w+)")


def read_program(path: Path, model: str = "") -> Program:
    """Read a .pt2 file.

    Args:
        path: The file.
        model: Which network, where the file holds several; "" for the only one.

    Raises:
        ReadError: It is damaged, or no such file.
        Unsupported: The graph holds what no Program can.
    """
    archive = open_archive(Path(path))
    name, member = _model(archive, model)
    document = archive.json(member)
    try:
        return _program(archive, document, name, str(path))
    except GARBAGE as e:
        reason = f"{type(e).__name__}: {e}"[:160]
        raise ReadError(
            f"{member} in the archive holds another graph than torch.export writes: {reason}.", where=archive.where(member)
        ) from e


def _model(archive: Archive, wanted: str) -> tuple[str, str]:
    """Name of the network, and the member that holds its graph."""
    held = exported.models(archive)
    if wanted and wanted not in held:
        raise ReadError(f"the file holds no network {wanted!r}.", where=archive.where(), got=", ".join(held))
    if not held:
        inside = "compiled code only" if any(n.startswith("data/aotinductor/") for n in archive.names) else ", ".join(archive.names[:4])
        raise ReadError("the file holds no graph of torch.export.", where=archive.where(), expected="models/<name>.json", got=inside)
    if not wanted and len(held) > 1:
        raise ReadError("the file holds several networks.", where=archive.where(), got=", ".join(held), next="save the one you want alone")
    name = wanted or held[0]
    return name, f"models/{name}.json" if name else "serialized_exported_program.json"


def _program(archive: Archive, document: Mapping[str, Any], name: str, file: str) -> Program:
    module = document["graph_module"]
    graph, signature = module["graph"], module["signature"]
    calls = Calls(exported.TYPES)
    calls.graph(graph)
    if calls.refusals:
        raise Unsupported("niudao's reader of .pt2", calls.refusals, where=Where(file=file))
    stored = exported.weights(archive, name)
    inputs: list[Input] = []
    weights: dict[str, Weight] = {}
    for spec in signature["input_specs"]:
        ((kind, held),) = spec.items()
        if kind == "user_input":
            entry = _input(held["arg"], graph)
            if entry is not None:
                inputs.append(entry)
            continue
        keys = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind in keys:
            fqn = held[keys[kind]]
            if fqn not in stored:
                raise ReadError(f"the file does not hold the weight {fqn[:80]!r}.", where=archive.where())
            weights[held["arg"]["name"]] = Weight(fqn, stored[fqn], kind == "parameter")
        elif kind != "constant_input":
            refusal = Refusal(str(held)[:60], kind, "objects of other libraries have no place here")
            raise Unsupported("niudao's reader of .pt2", [refusal], where=Where(file=file))
    entry = next((e for e in module.get("module_call_graph") or () if e["fqn"] == "" and e["signature"]), None)
    values = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    args = [calls.arg(v) for v in values]
    fields = {k: v["field_names"] for k, v in (module.get("treespec_namedtuple_fields") or {}).items()}
    names = output_names(entry["signature"]["out_spec"] if entry else None, len(args), fields)
    outputs: list[tuple[str, Arg]] = [(n, a) for n, a in zip(names, args, strict=True) if a is not None]
    version = str(document.get("torch_version") or "").split("+")[0].lstrip("<=")
    return Program(tuple(inputs), weights, tuple(calls.made), tuple(outputs), version=version, kind="export")


def _input(arg: Mapping[str, Any], graph: Mapping[str, Any]) -> Input | None:
    if "as_tensor" not in arg:
        if any(k in arg for k in ("as_sym_int", "as_sym_float", "as_sym_bool")):
            refusal = Refusal(str(next(iter(arg.values())))[:60], "input", "an input that is a number has no place here")
            raise Unsupported("niudao's reader of .pt2", [refusal])
        return None
    name = arg["as_tensor"]["name"]
    meta = graph["tensor_values"][name]
    shape = tuple(_dim(d, f"{name}_{i}") for i, d in enumerate(meta["sizes"]))
    return Input(name, shape, exported.TYPES[meta["dtype"]])


def _dim(size: Mapping[str, Any], otherwise: str) -> int | str:
    if "as_int" in size:
        return int(size["as_int"])
    found = _SYMBOL.fullmatch(str(size["as_expr"]["expr_str"]))
    return (found.group(1) or found.group(2)) if found else otherwise
