"""A report as one HTML file that opens from a disk, asks the network for nothing, and runs no script but its own.

Every text goes through `svg.text_of`, which escapes HTML's signs and shows hidden characters; the page's policy names
its style sheet and its script by their hashes, so that nothing else could run even where an escape were forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from importlib.resources import files
from string import Template
from typing import assert_never

from niudao.report import escape, figures, svg
from niudao.report.blocks import Block, Column, Facts, Picture, Plot, Report, Table, Text, Verdict
from niudao.report.chart import chart
from niudao.report.story import story
from niudao.report.svg import text_of
from niudao.report.text import cell, heading, shares
from niudao.whole import whole

LONG = 12
"""Rows from which on a table may be broken between printed pages."""


def render(report: Report) -> str:
    """The whole page."""
    from niudao import __version__

    style, script = _style(), _asset("page.js")
    kind = report.schema.split("/")[0].removeprefix("niudao.")
    return Template(_asset("page.html")).substitute(
        title=text_of(f"{report.title()} - niudao {kind}"),
        heading=text_of(report.title()),
        kind=text_of(kind),
        body="\n".join(_block(b) for b in story(report, verdict_first=True)),
        schema=text_of(report.schema),
        version=text_of(__version__),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )


def fragment(report: Report) -> str:
    """The report for a notebook's cell: its style, no script, no page around it."""
    body = "\n".join(_block(b) for b in story(report, verdict_first=True))
    return f'<div class="niudao"><style>{_style()}</style>\n{body}\n</div>'


def save(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page whole or not at all.

    Raises:
        WriteError: The path cannot be written; what was there is untouched.
    """
    with whole(path) as draft, open(draft, "w", encoding="utf-8", newline="\n") as f:
        f.write(page)


@cache
def _asset(name: str) -> str:
    return files("niudao.report").joinpath(name).read_text("utf-8")


@cache
def _style() -> str:
    bars = "".join(f".niudao .b{n}{{width:{n}%}}" for n in range(1, 101))
    dark = svg.style(dark=True).replace(".f-", ".niudao .f-").replace(".l-", ".niudao .l-")
    return Template(_asset("page.css")).substitute(dark=dark) + bars


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _block(block: Block) -> str:
    match block:
        case Verdict():
            return _verdict(block)
        case Text():
            mark = "<b>&#9888; Warning:</b> " if block.level == "warning" else ""
            return f'<section class="{text_of(block.level)}">{_title(block.title)}<p>{mark}{_paragraph(block.text)}</p></section>'
        case Facts():
            items = "".join(f"<dt>{text_of(name)}</dt><dd>{text_of(value)}</dd>" for name, value in block.items)
            return f"<section>{_title(block.title)}<dl>{items}</dl></section>"
        case Table():
            return _table(block)
        case Plot():
            drawn = chart(block, kind="wide") + chart(block, width=380, height=270, kind="narrow")
            return f"<section>{_title(block.title)}{drawn}</section>"
        case Picture():
            return _picture(block)
        case _:
            assert_never(block)


def _title(text: str) -> str:
    return f"<h2>{text_of(text)}</h2>" if text else ""


def _paragraph(text: str) -> str:
    return "<br>".join(text_of(line) for line in str(text).split("\n"))


def _verdict(block: Verdict) -> str:
    kind, sign, word = {True: ("ok", "&#10003;", "yes"), False: ("bad", "&#10007;", "no"), None: ("none", "", "")}[block.ok]
    shown = f'<span class="sign" role="img" aria-label="{word}">{sign}</span>' if sign else ""
    detail = f"<p>{_paragraph(block.detail)}</p>" if block.detail else ""
    return f'<section class="verdict {kind}">{shown}<strong>{text_of(block.text)}</strong>{detail}</section>'


def _table(block: Table) -> str:
    numeric = [c.align == "right" or c.bar for c in block.columns]
    extra = {i: shares(block, i) for i, c in enumerate(block.columns) if c.bar or c.share}
    heads = "".join(
        f'<th scope="col"{" class=n" if n else ""}>{text_of(heading(c))}</th>' for c, n in zip(block.columns, numeric, strict=True)
    )
    marks = set(block.marks)
    rows = []
    for r, row in enumerate(block.rows):
        cells = []
        for i, column in enumerate(block.columns):
            value = row[i] if i < len(row) else None
            of_top, of_sum = extra[i][r] if i in extra else (0.0, 0.0)
            shown = _cell(column, value, of_top, of_sum)
            if i == 0 and r in marks:
                shown = f'<span class="x" role="img" aria-label="bad">&#10007;</span>{shown}'
            data = f' data-v="{figures.exact(value)}"' if column.bar and figures.number(value) is not None else ""
            cells.append(f"<td{' class=n' if numeric[i] else ''}{data}>{shown}</td>")
        rows.append(f"<tr{' class=bad' if r in marks else ''}>{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
    # a region that scrolls by itself can be reached by the keyboard and has a name
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="{text_of(block.title or "table")}">{table}</div>'
    note = f'<p class="note below">{text_of(block.note)}</p>' if block.note else ""
    return f"<section{' class=long' if len(rows) > LONG else ''}>{_title(block.title)}{region}{note}</section>"


def _cell(column: Column, value: object, of_top: float, of_sum: float) -> str:
    """A cell's words, its share of the sum and its bar. Widths are classes, because the page allows no inline style."""
    shown = text_of(cell(column, value))
    amount = figures.number(value)
    if amount is None:
        return shown
    if column.share:
        shown += f" <small>{100 * of_sum:.0f} %</small>"
    if column.bar:
        filled = min(100, max(round(100 * of_top), 1 if amount > 0 else 0))
        shown += f'<span class="meter">{f"<i class=b{filled}></i>" if filled else ""}</span>'
    return shown


_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def _picture(block: Picture) -> str:
    """Always an `<img>` with its data inside: scripts in an SVG do not run there, and it cannot load anything."""
    if isinstance(block.data, str):
        drawing = block.data if block.data.lstrip().startswith(("<svg", "<?xml")) else ""
        if drawing and "xmlns=" not in drawing:
            drawing = svg.document(drawing)
        kind, data = "svg+xml", escape.encodable(drawing).encode("utf-8")
    else:
        kind, data = next((k for magic, k in _MAGIC.items() if block.data.startswith(magic)), ""), bytes(block.data)
    caption = f"<figcaption>{text_of(block.caption)}</figcaption>"
    if not kind or not data:
        return f"<section><figure><p class=note>(no picture that a browser knows)</p>{caption}</figure></section>"
    wide = f' width="{int(block.width)}"' if block.width > 0 else ""
    if kind == "png" and 0 < 2 * int.from_bytes(data[16:20], "big") <= block.width:
        wide += ' class="pixels"'  # small images are shown as the network sees them
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<section><figure><img src="{source}" alt="{text_of(block.caption)}"{wide}>{caption}</figure></section>'
