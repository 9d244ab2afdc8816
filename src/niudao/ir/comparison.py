"""The answer of compare, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from niudao.ir.diverge import Divergence, LayerError, noise_band
from niudao.report import Block, Column, Facts, Plot, Report, Series, Table, Text, Verdict

RTOL = 1e-4
"""Largest difference of an output, relative to its largest magnitude. A right reader reaches 1e-6 on most networks."""


@dataclass(frozen=True)
class OutputDifference:
    """One output of the source beside its partner.

    Attributes:
        name: The source's name; `target_name` the target's, "" where it has none.
        shape: Of the largest batch.
        max_abs: Largest |a - b| over all batches.
        max_rel: Largest |a - b| over the largest |b|.
        cosine: Smallest cosine over the batches.
        top1_agreement: Share of places whose best class is the same; None where there are no classes.
        limit: What `max_abs` had to stay within.
        same: Whether it did.
        reason: Why not, where it is no matter of size ("shape 1x10 against 1x1000", "NaN at 3 places against 0").
        batch: The batch size that these figures come from.
    """

    name: str
    target_name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    cosine: float
    top1_agreement: float | None
    limit: float
    same: bool
    reason: str = ""
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class CompareReport(Report):
    """Whether two networks are the same, and where they part.

    Attributes:
        same: Every output agrees within the limit.
        source: What ran the first network; `target` the second.
        oracle: Both in one sentence.
        outputs: One entry per output, and one for the logarithms of each softmax.
        batches: Batch sizes that were run.
        seed: Seed of the inputs; None where they were given.
        rtol: Limit relative to the largest magnitude of an output.
        reason: Why nothing could be compared ("the networks take different inputs").
        first_divergence: The first layer that diverges, where the networks differ and both are models.
        noise: A sentence where the difference is nothing but rounding.
        layers: What was measured inside, in topological order: (depth, layer, operator, relative difference, noise eps*sqrt(depth)).
        evidence: A failing comparison as the bytes of an .npz; not part of the JSON document.
    """

    schema: ClassVar[str] = "niudao.compare/1"
    same: bool
    source: str
    target: str
    oracle: str
    outputs: tuple[OutputDifference, ...] = ()
    batches: tuple[int, ...] = ()
    seed: int | None = 0
    rtol: float = RTOL
    reason: str = ""
    first_divergence: Divergence | None = None
    noise: str | None = None
    layers: tuple[LayerError, ...] = ()
    evidence: bytes = field(default=b"", repr=False)

    def title(self) -> str:
        return f"{self.source} and {self.target}"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = [self._verdict()]
        drawn = "inputs given" if self.seed is None else f"seed {self.seed}"
        if self.outputs:
            blocks.append(
                Facts(
                    (
                        ("source", self.source),
                        ("target", self.target),
                        ("inputs", f"{drawn}, batches of {' and '.join(map(str, self.batches))}"),
                    )
                )
            )
            names = ("output", "shape", "max |diff|", "max rel", "cosine", "top-1", "limit", "verdict")
            columns = tuple(Column(n, "left" if n in ("output", "shape", "verdict") else "right") for n in names)
            rows = tuple(
                (
                    o.name,
                    "x".join(map(str, o.shape)) or "scalar",
                    o.max_abs,
                    o.max_rel,
                    o.cosine,
                    o.top1_agreement,
                    o.limit,
                    "same" if o.same else f"DIFFERENT{': ' + o.reason if o.reason else ''}",
                )
                for o in self.outputs
            )
            marks = tuple(i for i, o in enumerate(self.outputs) if not o.same)
            blocks.append(Table(columns, rows, title="Outputs", marks=marks))
        if self.noise:
            blocks.append(Text(self.noise))
        if self.first_divergence is not None:
            blocks += _tell(self.first_divergence)
        if len(self.layers) > 1:
            blocks += self._inside()
        blocks += [Text(n, level="note") for n in self.notes]
        return blocks

    def _verdict(self) -> Verdict:
        if self.reason:
            return Verdict(False, self.reason, self.oracle)
        if self.same:
            worst = max((o.max_rel for o in self.outputs), default=0.0)
            return Verdict(True, f"the same network: {_count(len(self.outputs), 'output')} within {self.rtol:.0e}, the worst {worst:.1e}")
        wrong = sum(not o.same for o in self.outputs)
        text = f"the networks differ in {wrong} of {_count(len(self.outputs), 'output')}"
        if self.noise:
            return Verdict(False, f"{text}, by rounding only", "in float64 they agree")
        detail = f"first layer that diverges: {self.first_divergence.source_layer}" if self.first_divergence is not None else ""
        return Verdict(False, text, detail)

    def _inside(self) -> list[Block]:
        limit = self.first_divergence.limit if self.first_divergence is not None else self.rtol
        columns = (Column("depth", "right"), Column("layer"), Column("operator"), Column("max rel", "right"), Column("verdict"))
        rows = tuple((e.depth, e.layer, e.op, e.error, "agrees" if e.error <= limit else "differs") for e in self.layers)
        marks = tuple(i for i, e in enumerate(self.layers) if not e.error <= limit)
        x = [float(e.depth) for e in self.layers]
        deepest = int(max(x))
        depths = sorted({1, *(int(deepest * k / 16) or 1 for k in range(1, 17))})
        line = Series("relative difference", x, [e.error for e in self.layers], [e.layer for e in self.layers])
        band = ([float(d) for d in depths], [noise_band(d) for d in depths], "rounding, eps*sqrt(depth)")
        return [
            Table(columns, rows, title="Layers that were looked at", top=16, marks=marks),
            Plot("Difference by depth", (line,), "layer", "relative difference", log_y=True, limit=(limit, "limit inside"), band=band),
        ]


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n != 1 else ''}"


def _tell(d: Divergence) -> list[Block]:
    where = f"{d.source_layer!r} ({d.source_op})"
    if (d.source_layer, d.source_op) != (d.target_layer, d.target_op):
        where += f", in the target {d.target_layer!r} ({d.target_op})"
    how = (
        f"by {d.difference:.1e}"
        if d.difference < float("inf")
        else "in shape or type"
        if d.source_shape != d.target_shape
        else "beyond all measure"
    )
    text = f"First layer that diverges: {where}, {how}, found in {_count(d.runs, 'run')}; "
    text += f"everything that feeds it agrees to {d.agreed_before:.0e}." if d.verified else "not everything that feeds it could be matched."
    if not d.sudden:
        text += " The difference has been growing from layer to layer and does not arise here."
    rows = [(a.name, a.source, a.target, "" if a.same else "differs") for a in d.attributes]
    if d.source_shape != d.target_shape:
        shapes = ["x".join(map(str, s)) or "scalar" for s in (d.source_shape, d.target_shape)]
        rows.insert(0, ("shape", shapes[0], shapes[1], "differs"))
    marks = tuple(i for i, r in enumerate(rows) if r[3])
    columns = (Column("attribute"), Column("source"), Column("target"), Column(""))
    return [Text(text), Table(columns, tuple(rows), title="The two layers side by side", marks=marks)] if rows else [Text(text)]
