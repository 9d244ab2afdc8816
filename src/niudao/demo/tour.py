"""The main job on the two networks that niudao ships: convert each, prove each, and read the same digits with all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from niudao.demo import data
from niudao.formats import read
from niudao.formats.conversion import ConvertReport
from niudao.formats.convert import convert
from niudao.ir import card
from niudao.ir.session import run
from niudao.report import Block, Column, Report, Table, Text, Verdict

ROUTES = {
    "lenet.h5": ("lenet.onnx", "lenet.keras", "lenet.prototxt"),
    "resnet.keras": ("resnet.onnx", "resnet.h5", "resnet.prototxt"),
}
"""Shipped network -> what the tour makes of it. Each step starts from the file before it, so that the way back is proven too."""


@dataclass(frozen=True)
class Reading:
    """How one file reads the test digits.

    Attributes:
        file: The file; `format` what it is.
        correct: How many of `total` digits it reads right.
        difference: Largest difference to the probabilities that the framework itself gave after training.
    """

    file: str
    format: str
    correct: int
    total: int
    difference: float


@dataclass(frozen=True, kw_only=True)
class DemoReport(Report):
    """Conversions with their proofs, and every file's reading of the same digits."""

    schema: ClassVar[str] = "niudao.demo/1"
    folder: str
    conversions: tuple[ConvertReport, ...]
    readings: tuple[Reading, ...]

    def title(self) -> str:
        return "two networks, proven"

    def blocks(self) -> list[Block]:
        columns = (Column("file"), Column("format"), Column("digits read", "right"), Column("largest difference to its framework", "right"))
        rows = tuple((r.file, r.format, f"{r.correct} of {r.total}", r.difference) for r in self.readings)
        text = f"{len(self.conversions)} conversions, {sum(c.ok for c in self.conversions)} proven the same"
        blocks: list[Block] = [Verdict(self.ok, text), Table(columns, rows, title="The same handwritten digits, read by every file")]
        steps = (Column("from"), Column("to"), Column("max relative difference", "right"), Column("verdict"))
        lines = tuple(
            (
                Path(c.source).name,
                Path(c.target).name,
                max((o.max_rel for o in c.proof.outputs), default=None) if c.proof else None,
                "same" if c.ok else "DIFFERENT",
            )
            for c in self.conversions
        )
        blocks.append(Table(steps, lines, title="Conversions"))
        for c in self.conversions:
            if c.proof is not None:
                blocks.append(Text(c.proof.oracle, title=c.title(), level="note"))
        blocks.append(Text(f"wrote {self.folder}/report.html and {len(self.conversions)} networks beside it"))
        return blocks


def tour(folder: Path, *, seed: int = 0, progress: Callable[[str], None] = lambda stage: None) -> DemoReport:
    """Convert, prove and read.

    Args:
        folder: Where the converted networks go; made if missing.
        seed: Seed of the proofs' inputs.
        progress: Called with a word at each stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = data.inputs(), data.digits()[1]
    conversions, readings = [], []
    for shipped, targets in ROUTES.items():
        source = data.path(shipped)
        expected = data.expected(shipped)
        progress(f"reading digits with {shipped}")
        readings.append(_reading(source, images, labels, expected))
        for target in targets:
            progress(f"converting to {target}")
            report = convert(source, folder / target, seed=seed)
            conversions.append(report)
            source = folder / target
            if report.files:
                readings.append(_reading(source, images, labels, expected))
    ok = all(c.ok for c in conversions) and all(r.difference <= 1e-4 for r in readings)
    return DemoReport(ok=ok, folder=str(folder), conversions=tuple(conversions), readings=tuple(readings))


def _reading(path: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> Reading:
    model = read(path)
    (name,) = [v.name or "" for v in model.graph.inputs]
    (scores,) = run(model, {name: images.transpose(0, 3, 1, 2)}).values()
    correct = int((scores.argmax(1) == labels).sum())
    return Reading(path.name, str(card.get_source(model).get("format", "")), correct, len(labels), float(np.abs(scores - expected).max()))
