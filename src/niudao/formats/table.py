"""The table of formats: what can be read, what can be written, whose real framework is here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from niudao.formats import FORMATS
from niudao.report import Block, Column, Report, Table


@dataclass(frozen=True)
class FormatRow:
    """One format. `oracle` names the real framework's module; `oracle_here` says whether it can be imported now."""

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
    return f"{row.oracle}, here" if row.oracle_here else f"{row.oracle} is not installed"


def table() -> FormatsReport:
    """What `niudao.formats()` returns."""
    rows = tuple(
        FormatRow(name, f.title, f.extensions, True, f.can_write, f.oracle, bool(f.oracle) and find_spec(f.oracle) is not None)
        for name, f in FORMATS.items()
    )
    return FormatsReport(formats=rows)
