"""What torch's files have no place for and we write into them: names of inputs and outputs, input card, class names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.formats import documents
from niudao.formats.pytorch.checkpoint.archive import open_archive
from niudao.ir import card
from niudao.ir.values import claim

NAME = "niudao.json"
"""The extra file's name; torch.export keeps it in the folder `extra` of the archive."""
KEY = "niudao"
"""The same text among the metadata of a .safetensors file."""
MAX_BYTES = 16 << 20


def text_of(model: ir.Model) -> str:
    """The extra file for a model."""
    graph = model.graph
    facts = {
        "inputs": [v.name for v in graph.inputs],
        "outputs": [v.name for v in graph.outputs],
        "shapes": [_sizes(v) for v in graph.inputs],
        "card": card.get_json(model.metadata_props, card.CARD) or {},
        "classes": card.get_classes(model),
        "source": card.get_source(model),
    }
    return json.dumps(facts, ensure_ascii=False)


def _sizes(value: ir.Value) -> list[int | str | None]:
    return [d if isinstance(d, int) else d.value for d in value.shape or ()]


def free_axes(facts: dict[str, Any]) -> list[set[int]] | None:
    """Which axes of each input may be of any size; None where the file does not say."""
    shapes = facts.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(s, list) for s in shapes):
        return None
    return [{i for i, d in enumerate(s) if not isinstance(d, int)} for s in shapes]


def names_of(path: Path) -> list[str]:
    """Names of the inputs in the order in which the network takes them; empty where the file does not say."""
    names = facts_of(path).get("inputs", [])
    return [str(n) for n in names] if isinstance(names, list) else []


def facts_of(path: Path) -> dict[str, Any]:
    """The extra file of a .pt2, empty where there is none.

    Raises:
        ReadError: It is no JSON of this form.
    """
    archive = open_archive(path)
    member = f"extra/{NAME}"
    return documents.parse(archive.read(member, MAX_BYTES), archive.where(member)) if member in archive else {}


def apply(model: ir.Model, facts: dict[str, Any]) -> None:
    """Give a model that was read back the names, card and classes that it had.

    Raises:
        InvalidModel: The card is none.
    """
    graph = model.graph
    taken = {v.name or "" for n in graph for v in n.outputs} | set(graph.initializers) | {v.name or "" for v in graph.inputs}
    for values, names in ((graph.inputs, facts.get("inputs")), (graph.outputs, facts.get("outputs"))):
        if isinstance(names, list) and len(names) == len(values) and len(set(map(str, names))) == len(names):
            for value, name in zip(values, map(str, names), strict=True):
                if name and name != value.name and not (values is graph.outputs and any(name == v.name for v in graph.inputs)):
                    _give_way(model, name, taken)
                    value.name = name
    names = {v.name for v in graph.inputs}
    stated = facts.get("card")
    if isinstance(stated, dict):
        card.set_cards(model, {n: card.InputCard.from_dict(c) for n, c in stated.items() if n in names and isinstance(c, dict)})
    classes = facts.get("classes")
    if isinstance(classes, list):
        card.set_classes(model, [str(c) for c in classes])


def _give_way(model: ir.Model, name: str, taken: set[str]) -> None:
    """An inner value, a weight or an input that holds the wanted name gets another one."""
    graph = model.graph
    if name not in taken:
        taken.add(name)
        return
    new = claim(f"{name}_inner", taken)
    if name in graph.initializers:
        value = graph.initializers.pop(name)
        value.name = new
        if value.const_value is not None:
            value.const_value.name = new
        graph.register_initializer(value)
        return
    for value in (*graph.inputs, *(v for n in graph for v in n.outputs)):
        if value.name == name:
            value.name = new
            return
