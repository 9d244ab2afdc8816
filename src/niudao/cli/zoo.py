"""Published architectures: list them, show one's facts, or write one with seeded weights in any format.

Without a word it lists them. `build` writes an untrained network: for tests, for timing, as a start for training.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import ClassVar

from niudao.errors import UsageError
from niudao.report import Block, Column, Facts, Report, Table, Text, Verdict

EXAMPLES = (
    "niudao zoo",
    "niudao zoo show resnet50_v1.5",
    "niudao zoo build squeezenet1_1 squeezenet.onnx",
    "niudao zoo build resnet20_cifar net.keras --seed 7 --classes 100",
)


@dataclass(frozen=True)
class ArchitectureRow:
    """One architecture.

    Attributes:
        name: The word users type.
        title: What people call it.
        family: The module of `niudao.zoo` that builds it.
        parameters: Trainable numbers.
        macs: Multiply-adds of convolutions and fully connected layers for one picture, without biases.
        input: Channels, height, width.
        classes: Classes of the published network.
        year: Of the paper or the variant.
        paper: Where it was published.
        accuracy: Published accuracy with its origin; "" where none is known.
        note: What tells it from its neighbours, and what goes wrong.
    """

    name: str
    title: str
    family: str
    parameters: int
    macs: int
    input: tuple[int, ...]
    classes: int
    year: int
    paper: str
    accuracy: str
    note: str


@dataclass(frozen=True, kw_only=True)
class ZooReport(Report):
    """All architectures."""

    schema: ClassVar[str] = "niudao.zoo/1"
    architectures: tuple[ArchitectureRow, ...]

    def title(self) -> str:
        return "architectures"

    def blocks(self) -> list[Block]:
        numbers = ("parameters", "MACs", "input", "year")
        columns = tuple(Column(c, "right" if c in numbers else "left") for c in ("name", *numbers, "paper"))
        rows = tuple((a.name, f"{a.parameters:,}", f"{a.macs:,}", _size(a), a.year, _authors(a)) for a in self.architectures)
        return [Table(columns, rows), Text("More of one: niudao zoo show NAME", level="note")]


@dataclass(frozen=True, kw_only=True)
class ArchitectureReport(Report):
    """One architecture, and which others have its parameters."""

    schema: ClassVar[str] = "niudao.architecture/1"
    architecture: ArchitectureRow
    alike: tuple[str, ...] = ()

    def title(self) -> str:
        return self.architecture.title

    def blocks(self) -> list[Block]:
        a = self.architecture
        facts = (
            ("name", a.name),
            ("paper", f"{a.paper} ({a.year})"),
            ("input", f"{_size(a)}, channels first"),
            ("classes", str(a.classes)),
            ("parameters", f"{a.parameters:,}"),
            ("MACs", f"{a.macs:,} (convolutions and fully connected layers)"),
            ("published", a.accuracy),
            ("equal parameters", ", ".join(self.alike)),
            ("its weights", f"niudao convert weights.pth net.onnx --arch {a.name}"),
            ("untrained", f"niudao zoo build {a.name} net.onnx"),
        )
        blocks: list[Block] = [Verdict(None, a.title), Facts(tuple((k, v) for k, v in facts if v))]
        return [*blocks, Text(a.note, level="note")] if a.note else blocks


def _size(row: ArchitectureRow) -> str:
    return "x".join(map(str, row.input))


def _authors(row: ArchitectureRow) -> str:
    """`Howard et al., arXiv 1704.04861`: a table has no room for titles."""
    people, *rest = row.paper.split(", ")
    return f"{people}, {rest[-1]}" if rest else people


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "show", "build"), default="list", help="what to do (default list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one; - and _ are alike")
    parser.add_argument("target", nargs="?", metavar="TARGET", help="build: the file to write")
    parser.add_argument("--to", metavar="FORMAT", help="build: the target's format (default: by its ending)")
    parser.add_argument("--classes", type=int, metavar="N", help="build: number of classes (default: the published one)")


def run(options: argparse.Namespace) -> Report | None:
    from niudao import zoo

    target = options.target or options.output
    if options.action != "build" and (target or options.to or options.classes):
        raise UsageError("a target, --to and --classes go with build.", next="niudao zoo build NAME TARGET")
    if options.action == "list":
        rows = tuple(row(name) for name in zoo.names() if not options.name or zoo.plain(options.name) in name)
        if not rows:
            zoo.architecture(options.name)
        return ZooReport(architectures=rows)
    if options.name is None:
        raise UsageError(f"{options.action} which architecture?", next="niudao zoo")
    entry = zoo.architecture(options.name)
    if options.action == "show":
        return ArchitectureReport(architecture=row(entry.name), alike=alike(entry.name))
    if target is None:
        raise UsageError("where should the network be written?", next=f"niudao zoo build {entry.name} {entry.name}.onnx")
    if options.classes is not None and options.classes < 1:
        raise UsageError(f"--classes cannot be {options.classes}.", expected="1 or more")
    return _build(options, entry.name, entry.input, target)


def _build(options: argparse.Namespace, name: str, size: tuple[int, int, int], target: str) -> Report:
    from niudao import zoo
    from niudao.cli.progress import Progress
    from niudao.formats import target_for
    from niudao.formats.convert import convert

    target_for(target, options.to)  # before the work
    with Progress(options, total=7) as progress:
        progress("building")
        network = zoo.build(name, options.seed, classes=options.classes)
        import torch

        return convert(
            network,
            target,
            to=options.to,
            example_inputs=(torch.zeros(2, *size),),
            force=options.force,
            seed=options.seed,
            progress=progress,
        )


def row(name: str) -> ArchitectureRow:
    """The facts of one architecture."""
    from niudao import zoo

    a = zoo.architecture(name)
    facts = ("name", "title", "family", "parameters", "macs", "input", "classes", "year", "paper", "accuracy", "note")
    return ArchitectureRow(**{fact: getattr(a, fact) for fact in facts})


def alike(name: str) -> tuple[str, ...]:
    """The other architectures whose state dicts have the same names and shapes."""
    from niudao.zoo.signatures import equal

    return equal(name)
