"""A report as GitHub-flavoured Markdown, without raw HTML, for an issue or a pull request."""

from __future__ import annotations

import re
from typing import assert_never

from niudao.report.blocks import Block, Facts, Picture, Plot, Report, Table, Text, Verdict
from niudao.report.escape import visible
from niudao.report.story import story, summary
from niudao.report.text import cell, heading, shares

_SIGNS = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:-])")
_LEADING = re.compile(r"^(\d+)([.)])(?=\s|$)")


def render(report: Report) -> str:
    """A heading, then one paragraph, list or table a block."""
    parts = [f"## {mark(report.title())}"]
    parts += [_block(b) for b in story(report, verdict_first=True)]
    return "\n\n".join(p for p in parts if p) + "\n"


def mark(text: object) -> str:
    """A text in which no sign is Markdown's, nor a link, a mention or an entity."""
    shown = visible(text)
    # signs inside a word do nothing but a few do everywhere; a hyphen or colon matters only at certain places
    escaped = _SIGNS.sub(lambda m: m.group(1) if m.group(1) in "-:()+" and m.start() > 0 else "\\" + m.group(1), shown)
    escaped = re.sub(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)", lambda m: (m[1] or m[3]) + "\\" + (m[2] or m[4]), escaped)
    return _LEADING.sub(r"\1\\\2", escaped)


def _block(block: Block) -> str:
    match block:
        case Verdict():
            sign = {True: "✓ ", False: "✗ ", None: ""}[block.ok]
            return f"**{sign}{mark(block.text)}**" + (f"\n\n{_paragraph(block.detail)}" if block.detail else "")
        case Text():
            body = _paragraph(block.text)
            if block.level == "warning":
                body = f"**Warning:** {body}"
            return _title(block.title) + body
        case Facts():
            return _title(block.title) + "\n".join(f"- {mark(name)}: {mark(value)}" for name, value in block.items)
        case Table():
            return _table(block)
        case Plot():
            return f"*{mark(block.title)}*: {mark(summary(block))}"
        case Picture():
            return f"*Picture: {mark(block.caption)}*"
        case _:
            assert_never(block)


def _title(text: str) -> str:
    return f"### {mark(text)}\n\n" if text else ""


def _paragraph(text: str) -> str:
    return "\\\n".join(mark(line) for line in str(text).rstrip("\n").split("\n"))


def _table(block: Table) -> str:
    marks = set(block.marks)
    heads = " | ".join(mark(heading(c)) for c in block.columns)
    rule = " | ".join("---:" if c.align == "right" or c.bar else "---" for c in block.columns)
    extra = {i: shares(block, i) for i, c in enumerate(block.columns) if c.share}
    rows = [f"| {heads} |", f"| {rule} |"]
    for r, row in enumerate(block.rows):
        cells = [mark(cell(c, row[i] if i < len(row) else None)) for i, c in enumerate(block.columns)]
        for i, share in extra.items():
            cells[i] += f" ({100 * share[r][1]:.0f} %)"
        if r in marks and cells:
            cells = ["✗ " + cells[0], *cells[1:]]
        rows.append(f"| {' | '.join(cells)} |")
    note = f"\n\n{mark(block.note)}" if block.note else ""
    return _title(block.title) + "\n".join(rows) + note
