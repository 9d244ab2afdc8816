"""Control flow: both branches, where they give the same shapes; loops of a known number of turns, turn after turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.numbers import Numbers
from niudao.formats.pytorch.modules.table import converts

_MOST = 4096
"""Nodes that a loop may become."""


def _outputs(c: Call, graph: ir.Graph, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a graph built in place, as tensors."""
    c.subgraph(graph, inputs)
    return [c.building.tensor(v) for v in graph.outputs]


@converts("If")
def branch(c: Call) -> Any:
    graphs = [c.node.attributes[n].as_graph() for n in ("then_branch", "else_branch")]
    known = c.known(0)
    if known is not None:
        return tuple(_outputs(c, graphs[0 if bool(known.reshape(-1)[0]) else 1], ()))
    for left, right in zip(graphs[0].outputs, graphs[1].outputs, strict=True):
        if left.shape is None or right.shape is None or left.shape != right.shape or left.dtype != right.dtype:
            c.refuse("its branches give results of different or unknown shapes, and which one counts is known only while the network runs")
    condition = c.call(torch.reshape, c.x(0), [])
    yes, no = (_outputs(c, g, ()) for g in graphs)
    return tuple(c.call(torch.where, condition, a, b) for a, b in zip(yes, no, strict=True))


def _room(c: Call, body: ir.Graph, turns: int) -> None:
    if turns * max(len(body), 1) > _MOST:
        c.refuse(f"its {turns} turns of {len(body)} nodes would be too much code")


@converts("Loop")
def loop(c: Call) -> Any:
    body, most, going = c.node.attributes["body"].as_graph(), c.known(0), c.known(1)
    if most is None or (c.has(1) and going is None):
        c.refuse("how often it turns is known only while the network runs")
    turns = int(most.reshape(-1)[0]) if going is None or bool(going.reshape(-1)[0]) else 0
    _room(c, body, turns)
    carried: list[Any] = [c.x(i) for i in range(2, len(c.node.inputs))]
    scanned: list[list[Any]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    for turn in range(turns):
        c.subgraph(body, [Numbers((turn,), True), Numbers((True,), True), *carried])
        again = c.building.known(body.outputs[0])
        if again is None:
            c.refuse("whether it goes on is known only while the network runs")
        made = [c.building.tensor(v) for v in body.outputs[1:]]
        carried = made[: len(carried)]
        for rows, row in zip(scanned, made[len(carried) :], strict=True):
            rows.append(row)
        if not bool(again.reshape(-1)[0]):
            break
    return (*carried, *(_stack(c, rows, 0) for rows in scanned))


def _stack(c: Call, rows: list[Any], axis: int) -> Any:
    return c.call(torch.stack, rows, axis) if rows else c.refuse("it never turns, and its results have no shape")


@converts("Scan")
def scan(c: Call) -> Any:
    body, count = c.node.attributes["body"].as_graph(), c.attr("num_scan_inputs")
    states: list[Any] = [c.x(i) for i in range(len(c.node.inputs) - count)]
    scanned = range(len(states), len(c.node.inputs))
    axes, backwards = c.attr("scan_input_axes") or [0] * count, c.attr("scan_input_directions") or [0] * count
    lengths = {(c.dims(i) or [None] * 9)[a] for i, a in zip(scanned, axes, strict=True)}
    length = lengths.pop()
    if lengths or length is None:
        c.refuse("how often it turns is known only while the network runs")
    _room(c, body, length)
    rows: list[list[Any]] = [[] for _ in range(len(body.outputs) - len(states))]
    for turn in range(length):
        steps = [
            c.call(torch.select, c.x(i), a, length - 1 - turn if back else turn)
            for i, a, back in zip(scanned, axes, backwards, strict=True)
        ]
        made = _outputs(c, body, [*states, *steps])
        states = made[: len(states)]
        for row, value in zip(rows, made[len(states) :], strict=True):
            row.append(value)
    ends = c.attr("scan_output_directions") or [0] * len(rows)
    places = c.attr("scan_output_axes") or [0] * len(rows)
    return (*states, *(_stack(c, r[::-1] if back else r, a) for r, back, a in zip(rows, ends, places, strict=True)))


@converts("OptionalGetElement")
def optional(c: Call) -> Any:
    """A tensor that is there is itself."""
    return c.x(0)
