"""What a conversion did, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from niudao.errors import Refusal
from niudao.ir import card
from niudao.ir.comparison import CompareReport
from niudao.ir.cost import Cost
from niudao.report import Block, Column, Facts, Report, Table, Text, Verdict, figures


@dataclass(frozen=True, kw_only=True)
class ConvertReport(Report):
    """What a conversion did, and the proof.

    Attributes:
        source: Path that was read, `source_format` and `source_version` what it was.
        target: Path that was asked for; `files` what now exists, empty where nothing was kept.
        parameters: Number of trained numbers in the network.
        size: Bytes of the files written.
        proof: The comparison, or None where it was not asked for.
        raised: What the source spelt out and is one operator again, each proven by itself.
        rewrites: Exact rewrites that the target needed.
        refused: Nodes that the target cannot express (a dry run lists them; otherwise they are an error).
        card: Input name -> input card; classes: how many class names travel.
        cost: Layer by layer, where it was asked for.
    """

    schema: ClassVar[str] = "niudao.convert/1"
    source: str
    target: str
    source_format: str
    source_version: str
    target_format: str
    layers: int
    parameters: int
    files: tuple[str, ...] = ()
    size: int = 0
    proof: CompareReport | None = None
    raised: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    card: dict[str, dict[str, Any]]
    classes: int = 0
    cost: Cost | None = None
    dry_run: bool = False

    def title(self) -> str:
        return f"{Path(self.source).name} -> {Path(self.target).name}"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = [self._verdict()]
        origin = f"{self.source_format} {self.source_version}".rstrip()
        facts = [
            (
                "source",
                f"{self.source}   {origin}, {self.layers} layers, {self.parameters:,} parameters",
            ),
            ("target", f"{self.target}   {self.target_format}" + (f", {self.size:,} bytes" if self.size else "")),
            *((f"input {name}", describe_card(fields)) for name, fields in self.card.items()),
        ]
        if self.classes:
            facts.append(("classes", f"{self.classes} names travel with the network"))
        blocks.append(Facts(tuple(facts)))
        if self.refused:
            columns = (
                Column("layer"),
                Column("operator"),
                Column("attribute"),
                Column("why"),
                Column("who can"),
                Column("what would help"),
            )
            rows = tuple((r.node, r.op, r.attribute, r.reason, ", ".join(r.targets) or None, r.rewrite) for r in self.refused)
            blocks.append(Table(columns, rows, title=f"What {self.target_format} cannot express"))
        if self.raised:
            blocks.append(Text(f"As one operator again: {'; '.join(self.raised)}", level="note"))
        if self.rewrites:
            blocks.append(Table((Column("exact rewrite"), Column("layers")), _grouped(self.rewrites), title="What was rewritten", top=5))
        if self.proof is not None:
            blocks += self.proof.blocks()[1 if self.ok else 0 :]
        elif not self.dry_run and self.files:
            blocks.append(Text("No proof was asked for: nobody has compared these two files.", level="warning"))
        if self.cost is not None:
            blocks.append(cost_table(self.cost, top=0))
        blocks += [Text(n, level="note") for n in self.notes]
        if self.files:
            blocks.append(Text(f"wrote {', '.join(self.files)} ({figures.size(self.size)})"))
        return blocks

    def _verdict(self) -> Verdict:
        if self.dry_run:
            text = (
                "everything can be expressed; nothing was written (--dry-run)"
                if self.ok
                else f"{len(self.refused)} nodes cannot be expressed; nothing was written"
            )
            return Verdict(self.ok, text)
        if self.proof is None:
            return Verdict(None, f"converted to {self.target_format}, not proven")
        if self.ok:
            return Verdict(True, f"the same network, in {self.target_format}", self.proof.oracle)
        kept = "the file was kept because of --force" if self.files else "nothing written (--force keeps the file anyway)"
        return Verdict(False, f"the networks differ; {kept}", self.proof.oracle)


def describe_card(fields: Mapping[str, Any]) -> str:
    """An input card on one line."""
    words = [str(fields[k]) for k in ("shape", "layout", "order") if fields.get(k)]
    if fields.get("range"):
        low, high = fields["range"]
        words.append(f"{low:g}..{high:g}")
    words += [f"{k} {_short(fields[k])}" for k in ("scale", "mean", "std", "resize") if fields.get(k) is not None]
    missing = [k for k in ("order", "range", "scale") if fields.get(k) is None]
    if missing and fields.get("layout"):
        words.append("(not in the file: " + ", ".join(missing) + ")")
    return "  ".join(words) or "no card"


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def cost_table(expense: Cost, top: int | None) -> Table:
    """Layers with what they cost, as bars; a terminal shows `top` of them."""
    columns = (
        Column("layer"),
        Column("operator"),
        Column("output"),
        Column("parameters", "right", bar=True, share=True),
        Column("MACs", "right", bar=True, share=True),
        Column("bytes moved", "right", bar=True),
        Column("receptive field", "right"),
    )
    rows = tuple(
        (
            r.name,
            r.op,
            "x".join("?" if d is None else str(d) for d in r.output_shape),
            r.params,
            r.macs,
            r.bytes_moved,
            "x".join(str(f.size) for f in r.receptive_field) or None,
        )
        for r in expense.layers
    )
    return Table(columns, rows, title="Layers", top=top)


def cards_of(model: ir.Model) -> dict[str, dict[str, Any]]:
    """Input name -> shape and card, as plain data."""
    cards = card.get_cards(model)
    result: dict[str, dict[str, Any]] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        shape = "x".join(str(d) if isinstance(d, int) else (d.value or "?") for d in value.shape) if value.shape is not None else "?"
        fields = asdict(cards[name]) if name in cards else {}
        result[name] = {"shape": shape, "dtype": str(value.dtype)} | {k: v for k, v in fields.items() if v not in (None, ())}
    return result


def _grouped(rewrites: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Each kind of rewrite once, with the layers it happened in."""
    layers: dict[str, list[str]] = {}
    for line in rewrites:
        name, found, text = line.partition(": ")
        layers.setdefault(text if found else line, []).append(name if found else "")
    return tuple((t, f"{len(n)}: {n[0]}, {n[1]}, ..., {n[-1]}" if len(n) > 3 else ", ".join(n)) for t, n in layers.items())
