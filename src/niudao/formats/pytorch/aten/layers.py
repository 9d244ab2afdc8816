"""Names of layers: the path of the module that made a call, and its operator where that module is a container."""

from __future__ import annotations

from niudao.formats.pytorch.aten.table import in_place, split
from niudao.formats.pytorch.program.program import Program
from niudao.ir.values import claim


def layer_names(program: Program, live: set[int]) -> dict[int, str]:
    """Place of a call -> name of its layer: "layer1.0.conv1", or "layer1.0.relu" for a function that a block calls itself."""
    containers = {""}
    for call in program.calls:
        parts = call.layer.split(".")
        containers.update(".".join(parts[:k]) for k in range(1, len(parts)))
    paths = {call.layer for call in program.calls}
    taken: set[str] = set(paths)
    names: dict[int, str] = {}
    for i, call in enumerate(program.calls):
        if i not in live:
            continue
        if call.layer in containers:
            names[i] = claim(f"{call.layer}.{_short(call.target)}" if call.layer else _short(call.target), taken)
        else:
            names[i] = call.layer
    return names


def _short(target: str) -> str:
    name = split(target)[0].rpartition(".")[2]
    return (name[:-1] if in_place(target) else name).strip("_") or "call"
