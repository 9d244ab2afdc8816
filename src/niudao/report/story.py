"""What every renderer tells, in the order in which it tells it."""

from __future__ import annotations

from niudao.report.blocks import Block, Plot, Report, Text, Verdict
from niudao.report.escape import visible
from niudao.report.figures import number, short


def story(report: Report, *, verdict_first: bool = False) -> list[Block]:
    """The report's blocks, and below them those of its notes that no block has told.

    Args:
        report: Any result.
        verdict_first: Move the first verdict to the top, where a page wants it.
    """
    blocks = list(report.blocks())
    told = {text for b in blocks if isinstance(b, (Text, Verdict)) for text in (b.text, getattr(b, "detail", ""))}
    blocks += [Text(note, level="note") for note in dict.fromkeys(report.notes) if note not in told]
    if verdict_first:
        first = next((b for b in blocks if isinstance(b, Verdict)), None)
        if first is not None:
            blocks.remove(first)
            blocks.insert(0, first)
    return blocks


def summary(plot: Plot) -> str:
    """One sentence with a plot's largest value and what exceeds its limit, for readers who see no picture."""
    points = [(number(y), i, s) for s in plot.series for i, y in enumerate(s.y)]
    finite = [p for p in points if p[0] is not None]
    if not finite:
        return f"no finite {visible(plot.y_label)} to draw" if points else "nothing to draw"
    largest, index, series = max(finite, key=lambda p: (p[0] or 0.0, -p[1]))
    text = f"largest {visible(plot.y_label)} {short(largest or 0.0)}"
    if index < len(series.labels):
        text += f" at {visible(series.labels[index])}"
    if plot.limit is not None:
        above = sum(1 for value, _, _ in points if value is None or not value <= plot.limit[0])
        text += f"; {above} of {len(points)} above {visible(plot.limit[1])} {short(plot.limit[0])}"
    elif len(points) > len(finite):
        text += f"; {len(points) - len(finite)} of {len(points)} not finite"
    return text
