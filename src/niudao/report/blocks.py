"""The vocabulary of a report: what a result may tell, free of how it is drawn.

A result dataclass derives from `Report`, names its JSON schema and returns its story as a list of blocks.
`niudao.report` turns blocks into terminal text, Markdown, JSON and HTML; it knows blocks and no room's types.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Verdict:
    """One sentence that answers the question. `ok` is None where nothing was claimed."""

    ok: bool | None
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph. `level` "note" is drawn dimmer, "warning" is drawn with a mark."""

    text: str
    level: Literal["plain", "note", "warning"] = "plain"
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair a line."""

    items: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Heading.
        align: "left" for words, "right" for numbers.
        bar: Draw each cell's share of the column's largest value as a bar; cells are then numbers.
        share: Write each cell's share of the column's sum behind it, in percent.
        unit: Shown in the heading; for `bar` columns numbers are drawn with SI prefixes.
    """

    name: str
    align: Literal["left", "right"] = "left"
    bar: bool = False
    unit: str = ""
    share: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells. A cell is text or a number; None is drawn as a dash.

    `top` is how many rows a terminal shows (None: all); HTML and JSON always hold every row.
    `marks` are row numbers drawn as bad, with a sign and not by colour alone.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    title: str = ""
    note: str = ""
    top: int | None = None
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Series:
    """One line or cloud of a plot; `labels` name points (drawn on hover, and for outliers)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    kind: Literal["dots", "line", "bars"] = "dots"


@dataclass(frozen=True)
class Plot:
    """A small chart.

    Attributes:
        limit: A dashed horizontal line, with its name.
        band: A shaded curve (x, upper y) such as the noise that float32 explains.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str
    y_label: str
    log_y: bool = False
    limit: tuple[float, str] | None = None
    band: tuple[Sequence[float], Sequence[float], str] | None = None


@dataclass(frozen=True)
class Picture:
    """An image: PNG bytes, or SVG text."""

    data: bytes | str
    caption: str
    width: int = 0


Block = Verdict | Text | Facts | Table | Plot | Picture


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every verb returns: facts as fields, and a story as blocks.

    Subclasses set `schema` and `title()` and `blocks()`. `ok` is False when the work ran to its end and the answer is no.
    """

    schema: ClassVar[str] = "niudao.report/1"
    ok: bool = True
    notes: tuple[str, ...] = field(default=())

    def title(self) -> str:
        return self.schema.split("/")[0].removeprefix("niudao.")

    def blocks(self) -> list[Block]:
        return [Verdict(self.ok, self.title())]

    def to_dict(self) -> dict[str, Any]:
        """Plain data of the whole report, `schema` first."""
        return {"schema": self.schema, "ok": self.ok} | dataclasses.asdict(self)

    def to_text(self, *, color: bool = False, width: int | None = None) -> str:
        """The terminal page. Without colour it holds no escape sequences."""
        from niudao.report.text import render

        return render(self, color=color, width=width)

    def to_json(self, *, indent: int | None = 2) -> str:
        """One JSON document that follows the committed schema of the same name."""
        from niudao.report.json import render

        return render(self, indent=indent)

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown, without raw HTML."""
        from niudao.report.markdown import render

        return render(self)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One self-contained page: no script from elsewhere, no request when opened. Written to `path` if given."""
        from niudao.report.html import render, save

        page = render(self)
        if path is not None:
            save(page, path)
        return page

    def _repr_html_(self) -> str:
        from niudao.report.html import fragment

        return fragment(self)
