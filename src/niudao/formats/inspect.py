"""`inspect`: what is in a file, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from niudao.errors import ReadError
from niudao.formats import detect, in_folder, read
from niudao.formats.conversion import cards_of, cost_table, describe_card
from niudao.ir import card
from niudao.ir.cost import Cost, cost
from niudao.ir.fingerprint import fingerprint
from niudao.report import Block, Column, Facts, Report, Table, Text, Verdict


@dataclass(frozen=True)
class Tensor:
    """A weight, or an input or output: name, shape (numbers or symbols) and type."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class InspectReport(Report):
    """What is in a model file.

    Attributes:
        format: What the file is, with `version`.
        inputs: Graph inputs in our layout; `outputs` likewise.
        card: Input name -> shape and input card.
        classes: Class names.
        cost: Per-layer and total cost, or None for bare weights.
        tensors: For bare weights without a topology: what is stored.
        fingerprint: Of topology and weights.
    """

    schema: ClassVar[str] = "niudao.inspect/1"
    path: str
    format: str
    version: str
    bytes: int
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    card: dict[str, dict[str, Any]]
    classes: tuple[str, ...] = ()
    cost: Cost | None = None
    tensors: tuple[Tensor, ...] = ()
    topology: str = ""
    weights: str = ""
    operators: dict[str, int]
    top: int | None = 20

    def title(self) -> str:
        return Path(self.path).name

    def blocks(self) -> list[Block]:
        head = f"{self.title()}   {self.format} {self.version}".rstrip()
        if self.cost is None:
            rows = tuple((t.name, "x".join(map(str, t.shape)) or "scalar", t.dtype) for t in self.tensors)
            note = "weights without a topology: a network cannot be built from them alone"
            numbers = sum(prod(d for d in t.shape if isinstance(d, int)) for t in self.tensors)
            title = f"{len(self.tensors)} tensors, {numbers:,} numbers, {self.bytes:,} bytes"
            columns = (Column("tensor"), Column("shape"), Column("type"))
            said = [Text(n, level="note") for n in self.notes]
            return [Verdict(None, head, note), *said, Table(columns, rows, title=title, top=self.top)]
        c = self.cost
        blocks: list[Block] = [Verdict(None, f"{head}   {c.params:,} parameters, {self.bytes:,} bytes")]
        facts = [(f"input {n}", describe_card(f)) for n, f in self.card.items()]
        facts += [(f"output {t.name}", f"{'x'.join(map(str, t.shape))}  {t.dtype}") for t in self.outputs]
        facts += [
            ("parameters", f"{c.params:,}"),
            ("MACs", f"{c.macs_text()} per sample (FLOPs = 2 x MACs)"),
            ("peak activations", f"{c.peak_bytes:,} bytes"),
            ("fingerprint", f"{self.topology[:16]} topology, {self.weights[:16]} weights"),
        ]
        if self.classes:
            facts.append(("classes", f"{len(self.classes)}: {', '.join(self.classes[:5])}{', ...' if len(self.classes) > 5 else ''}"))
        blocks.append(Facts(tuple(facts)))
        blocks.append(cost_table(c, self.top))
        if c.uncounted:
            blocks.append(Text("No counting rule for: " + ", ".join(c.uncounted), level="warning"))
        blocks += [Text(n, level="note") for n in self.notes]
        return blocks


def inspect(
    path: str | os.PathLike[str] | ir.Model,
    *,
    weights: str | os.PathLike[str] | None = None,
    format: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    arch: str | None = None,
    trust: bool = False,
    top: int | None = 20,
) -> InspectReport:
    """What is in a model, and what it costs.

    Args:
        path: A file of any known format, or a model. Bare weights without a topology give the list of their tensors.
        weights: Second file of a format that has two.
        format: The format, where the content does not say.
        shapes: Input name -> shape, for what the file leaves open.
        arch: What a state dict belongs to, as in `read`; without it its tensors are listed.
        trust: As in `read`.
        top: How many layers a terminal shows; None for all.

    Raises:
        ReadError, Unsupported: As `read`.
    """
    if isinstance(path, ir.Model):
        return _of_model(path, "a model in memory", 0, top)
    path = in_folder(Path(path))
    name = format or detect(path)
    size = path.stat().st_size
    try:
        model = read(path, weights=weights, format=name, shapes=shapes, arch=arch, trust=trust)
    except ReadError:
        found = _bare_weights(path, name) if arch is None else None
        if found is None:
            raise
        version, tensors, notes = found
        facts: dict[str, Any] = {"format": name, "version": version, "bytes": size, "tensors": tensors, "notes": notes}
        return InspectReport(path=str(path), card={}, operators={}, top=top, **facts)
    stated = card.get_source(model).get("weights") if name == "caffe" else None  # the reader's own word, of no other format's files
    partner = Path(weights) if weights is not None else path.with_name(str(stated)) if stated else None
    if partner is not None and partner.name != path.name and partner.is_file():
        size += partner.stat().st_size
    return _of_model(model, str(path), size, top)


def _bare_weights(path: Path, name: str) -> tuple[str, tuple[Tensor, ...], tuple[str, ...]] | None:
    """Container, tensors and notes of a file that holds weights without a network; None if it is none."""
    version = ""
    notes: tuple[str, ...] = ()
    found: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    try:
        if name == "keras":
            from niudao.formats.keras.opening import tensors

            found = tuple(tensors(path))
        elif name == "pytorch":
            from niudao.formats.pytorch.bare import bare

            facts = bare(path)
            version, found, notes = facts.version, facts.tensors, facts.notes
    except ReadError:
        return None
    return (version, tuple(Tensor(n, tuple(shape), dtype) for n, shape, dtype in found), notes) if found else None


def _of_model(model: ir.Model, path: str, size: int, top: int | None) -> InspectReport:
    source = card.get_source(model)
    mark = fingerprint(model)
    operators: dict[str, int] = {}
    for node in model.graph:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return InspectReport(
        path=path,
        format=str(source.get("format", "onnx")),
        version=str(source.get("version", "")),
        bytes=size,
        inputs=tuple(map(_tensor, model.graph.inputs)),
        outputs=tuple(map(_tensor, model.graph.outputs)),
        card=cards_of(model),
        classes=tuple(card.get_classes(model)),
        cost=cost(model),
        topology=mark.topology,
        weights=mark.weights,
        operators=dict(sorted(operators.items(), key=lambda item: -item[1])),
        notes=card.get_notes(model),
        top=top,
    )


def _tensor(value: ir.Value) -> Tensor:
    dims = tuple(d if isinstance(d, int) else (d.value or "?") for d in value.shape) if value.shape is not None else ()
    return Tensor(value.name or "", dims, str(value.dtype))
