"""A report as terminal text: aligned columns, no box drawing, words before colours.

Two manners share one layout of lines. On a terminal tables are aligned, cut to their `top` rows and, if need be, to the
width. Piped (no colour, no width) nothing is cut or aligned and cells are separated by tabs, so that `cut -f2` works.
"""

from __future__ import annotations

import textwrap
from typing import assert_never

from niudao.errors import NiudaoError
from niudao.report import escape, figures
from niudao.report.blocks import Block, Column, Facts, Picture, Plot, Report, Table, Text, Verdict
from niudao.report.escape import visible
from niudao.report.story import story, summary

Line = list[tuple[str, str]]
"""Pieces of text, each with the name of its style."""

STYLES = {"": "", "ok": "bold cyan", "bad": "bold red", "warning": "yellow", "note": "dim", "head": "dim", "title": "bold", "bar": "blue"}
BAR = 10
NARROWEST = 12


def render(report: Report, *, color: bool = False, width: int | None = None) -> str:
    """The report as lines, the last one ended.

    Args:
        report: Any result.
        color: Paint with ANSI colours. Without, the text holds no escape sequence.
        width: Columns of the terminal. None without colour means piped; None with colour means a terminal without an edge.
    """
    piped = not color and width is None
    lines: list[Line] = []
    for block in story(report):
        if not piped and isinstance(block, Table) and block.top == 0:
            continue  # too long for any terminal; pages, documents and pipes have it
        drawn = _block(block, piped, width)
        if lines and lines[-1] and drawn and (isinstance(block, Table) if piped else _titled(block)):
            lines.append([])
        lines += drawn
        if piped and isinstance(block, Table):
            lines.append([])
    while lines and not lines[-1]:
        lines.pop()
    return _write(lines, color)


def error(fault: NiudaoError, *, color: bool = False) -> str:
    """One sentence, then at most four aligned lines: where, expected, got, next."""
    lines: list[Line] = [[("error:", "bad"), (" " + visible(fault.message), "")]]
    lines += [[("  ", ""), (f"{name:<8}", "head"), ("  " + visible(text), "")] for name, text in fault.facts()]
    return _write(lines, color)


def _write(lines: list[Line], color: bool) -> str:
    if color:
        return _paint([_trimmed(line) for line in lines])
    return "".join("".join(text for text, _ in _trimmed(line)) + "\n" for line in lines)


def _trimmed(line: Line) -> Line:
    """The line without blanks at its end."""
    end = len(line)
    while end and not line[end - 1][0].strip(" "):
        end -= 1
    return [*line[: end - 1], (line[end - 1][0].rstrip(" "), line[end - 1][1])] if end else []


def _paint(lines: list[Line]) -> str:
    """ANSI text. The sixteen colours of the terminal's own theme are used, so that they fit its background."""
    import io

    from rich.console import Console
    from rich.text import Text as Rich

    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", no_color=False, legacy_windows=False, highlight=False, _environ={}
    )
    for line in lines:
        console.print(Rich.assemble(*((text, STYLES[style]) for text, style in line)), soft_wrap=True)
    return out.getvalue()


def _block(block: Block, piped: bool, width: int | None) -> list[Line]:
    match block:
        case Verdict():
            return _verdict(block, width)
        case Text():
            return _text(block, width)
        case Facts():
            return _facts(block, piped, width)
        case Table():
            return _tsv(block) if piped else _table(block, width)
        case Plot():
            return _wrapped(f"{visible(block.title)}: {summary(block)}", "", "note", width)
        case Picture():
            return _wrapped(f"picture: {visible(block.caption)}", "", "note", width)
        case _:
            assert_never(block)


def _titled(block: Block) -> bool:
    return not isinstance(block, (Verdict, Picture)) and bool(block.title)


def _wrapped(text: str, indent: str, style: str, width: int | None) -> list[Line]:
    """A safe text broken at spaces; lines after its first are indented by two more."""
    if width is None:
        return [[(indent + text, style)]]
    options = {"initial_indent": indent, "subsequent_indent": indent + "  ", "break_long_words": False, "break_on_hyphens": False}
    return [[(piece, style)] for piece in textwrap.wrap(text, max(width, 20), **options) or [""]]  # type: ignore[arg-type]


def _verdict(block: Verdict, width: int | None) -> list[Line]:
    style = {True: "ok", False: "bad", None: "title"}[block.ok]
    mark = "[FAIL] " if block.ok is False else ""
    drawn = _wrapped(mark + visible(block.text), "", style, width)
    for line in escape.lines(block.detail) if block.detail else []:
        drawn += _wrapped(line, "  ", "", width)
    return drawn


def _text(block: Text, width: int | None) -> list[Line]:
    mark = {"plain": "", "note": "", "warning": "warning: "}[block.level]
    style = {"plain": "", "note": "note", "warning": "warning"}[block.level]
    drawn: list[Line] = [[(visible(block.title), "title")]] if block.title else []
    for i, line in enumerate(escape.lines(block.text)):
        # what follows a line feed is set in, so that no name can pass for a line of ours
        drawn += _wrapped(mark + line if i == 0 else line, "" if i == 0 else "  ", style, width)
    return drawn


def _facts(block: Facts, piped: bool, width: int | None) -> list[Line]:
    drawn: list[Line] = [[(visible(block.title), "title")]] if block.title else []
    names = [visible(name) for name, _ in block.items]
    if piped:
        return drawn + [[(f"{name}\t{visible(value)}", "")] for name, (_, value) in zip(names, block.items, strict=True)]
    room = max(map(escape.width, names), default=0)
    for name, (_, value) in zip(names, block.items, strict=True):
        pad = name + " " * (room - escape.width(name)) + "   "
        shown = [visible(value)]
        if width is not None and room + 3 + NARROWEST < width:
            shown = textwrap.wrap(shown[0], width - room - 3, break_on_hyphens=False) or [""]
        drawn.append([(pad, "head"), (shown[0], "")])
        drawn += [[(" " * (room + 3) + more, "")] for more in shown[1:]]
    return drawn


def heading(column: Column) -> str:
    """A column's name with its unit."""
    return visible(f"{column.name} ({column.unit})" if column.unit else column.name)


def cell(column: Column, value: object) -> str:
    """A table's cell as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or not hasattr(value, "__float__"):
        return visible(value)
    return figures.si(value) if column.bar else figures.short(value)  # type: ignore[arg-type]


def shares(table: Table, index: int) -> list[tuple[float, float]]:
    """Each cell of a column as fractions of the column's largest value and of its sum; (0, 0) where it is no number."""
    values = [max(figures.number(row[index]) or 0.0, 0.0) if index < len(row) else 0.0 for row in table.rows]
    top, total = max(values, default=0.0), sum(values)
    return [(v / top if top else 0.0, v / total if total and total != float("inf") else 0.0) for v in values]


def _tsv(block: Table) -> list[Line]:
    drawn: list[Line] = [[(visible(block.title), "")]] if block.title else []
    marks = set(block.marks)
    drawn.append([("\t".join([*map(heading, block.columns), *(["mark"] if marks else [])]), "")])
    for i, row in enumerate(block.rows):
        cells = ["-" if v is None else figures.exact(v) if not isinstance(v, str) else visible(v) for v in row]
        drawn.append([("\t".join([*map(visible, cells), *(["!" if i in marks else ""] if marks else [])]), "")])
    return [*drawn, [(visible(block.note), "note")]] if block.note else drawn


def _table(block: Table, width: int | None) -> list[Line]:
    count = len(block.rows) if block.top is None else max(block.top, 0)
    rows = block.rows[:count]
    texts: list[list[str]] = []
    for index, column in enumerate(block.columns):
        texts.append([cell(column, row[index] if index < len(row) else None) for row in rows])
    extra = {i: shares(block, i) for i, c in enumerate(block.columns) if c.bar or c.share}
    for i, share in extra.items():
        if block.columns[i].share:
            room = max(map(len, texts[i]), default=0)
            texts[i] = [f"{t:>{room}}  {100 * s:3.0f} %" for t, (_, s) in zip(texts[i], share, strict=False)]
    rooms = [max(escape.width(heading(c)), *map(escape.width, t), 0) for c, t in zip(block.columns, texts, strict=True)]
    bars = {i: BAR for i, c in enumerate(block.columns) if c.bar}
    if width is not None:
        _squeeze(rooms, [c.align == "left" and i not in extra for i, c in enumerate(block.columns)], width, bars)
    drawn: list[Line] = [[(visible(block.title), "title")]] if block.title else []
    heads = [
        _pad(escape.shorten(heading(c), rooms[i]), rooms[i], c.align) + " " * (bars[i] + 1 if i in bars else 0)
        for i, c in enumerate(block.columns)
    ]
    drawn.append([("  " + "   ".join(heads), "head")])
    marks = set(block.marks)
    for r in range(len(rows)):
        bad = "bad" if r in marks else ""
        line: Line = [("! " if bad else "  ", bad)]
        for i, column in enumerate(block.columns):
            line.append(("   " if i else "", ""))
            line.append((_pad(escape.shorten(texts[i][r], rooms[i]), rooms[i], column.align), bad))
            if i in bars:
                line.append((" " + ("#" * round(bars[i] * extra[i][r][0])).ljust(bars[i]), "bar"))
        drawn.append(line)
    hidden = len(block.rows) - len(rows)
    if hidden > 0:
        lost = sum(1 for m in marks if m >= count)
        drawn.append([(f"  ({hidden} more{f', {lost} of them marked' if lost else ''}: --all, or --report page.html)", "note")])
    if block.note:
        drawn += _wrapped(visible(block.note), "  ", "note", width)
    return drawn


def _squeeze(rooms: list[int], may: list[bool], width: int, bars: dict[int, int]) -> None:
    """Take columns from bars and from the widest names in turn, until the table fits or nothing more can be taken."""

    def over() -> int:
        return 2 + sum(rooms) + 3 * (len(rooms) - 1) + sum(b + 1 for b in bars.values()) - width

    for bar_least, name_least in ((4, 24), (0, NARROWEST)):
        while over() > 0 and any(b > bar_least for b in bars.values()):
            for i in bars:
                bars[i] = max(bars[i] - 1, bar_least)
        while over() > 0:
            widest = max((i for i in range(len(rooms)) if may[i]), key=lambda i: rooms[i], default=None)
            if widest is None or rooms[widest] <= name_least:
                break
            rooms[widest] -= 1


def _pad(text: str, room: int, align: str) -> str:
    space = " " * (room - escape.width(text))
    return space + text if align == "right" else text + space
