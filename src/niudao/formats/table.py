"""The table of formats: what can be read, what can be written, whose real framework is here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar

from niudao.formats import FORMATS, Format
from niudao.report import Block, Column, Report, Table


@dataclass(frozen=True)
class FormatRow:
    """One format. `oracle` names the real framework; `oracle_here` says whether it can be run now, here or in its own environment."""

    name: str
    title: str
    extensions: tuple[str, ...]
    can_read: bool
    can_write: bool
    oracle: str
    oracle_here: bool


@dataclass(frozen=True, kw_only=True)
class FormatsReport(Report):
    """All formats, by name."""

    schema: ClassVar[str] = "niudao.formats/1"
    formats: tuple[FormatRow, ...]

    def title(self) -> str:
        return "formats"

    def blocks(self) -> list[Block]:
        columns = tuple(Column(name) for name in ("format", "endings", "read", "write", "run by its own framework"))
        rows = tuple(
            (r.title, " ".join(r.extensions), "yes" if r.can_read else "no", "yes" if r.can_write else "no", _oracle(r))
            for r in self.formats
        )
        return [Table(columns, rows)]


def _oracle(row: FormatRow) -> str:
    if not row.oracle:
        return "-"
    return f"{row.oracle}, here" if row.oracle_here else f"{row.oracle} is not set up (niudao oracle)"


def _here(entry: Format) -> bool:
    if find_spec(f"{entry.package}.native") is None:
        return find_spec(entry.oracle) is not None
    return import_module(f"{entry.package}.native").available() is not None


def table() -> FormatsReport:
    """What `niudao.formats()` returns."""
    rows = tuple(
        FormatRow(name, f.title, f.extensions, True, f.can_write, f.oracle, bool(f.oracle) and _here(f)) for name, f in FORMATS.items()
    )
    return FormatsReport(formats=rows)
