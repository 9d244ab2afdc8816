"""A `Plot` drawn: scales, ticks, points, the limit, the band, and names for the few points that stick out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from niudao.report import figures, svg
from niudao.report.blocks import Plot, Series
from niudao.report.escape import shorten, visible, width
from niudao.report.scale import Axis, as_float, linear_axis, log_axis
from niudao.report.story import summary

HOVER = 600
"""Points of one plot that may carry words; beyond, only those that stick out do, and the rest are one path."""


class _Box(NamedTuple):
    """The pixels inside the axes."""

    left: int
    right: int
    top: int
    bottom: int


_Area = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    value: float
    series: int
    name: str
    above: bool
    place: str  # "in", or "zero" or "off" where the axis cannot hold it


def chart(plot: Plot, *, width: int = 880, height: int = 320, kind: str = "") -> str:
    """The plot as one `<svg>`.

    Args:
        plot: What to draw. Series of unequal lengths are cut to the shorter one.
        width: Pixels of the drawing's own coordinates; text is 12 pixels high. `height` likewise.
        kind: A further class for the page's style sheet.
    """
    points = [_curve(s.x, s.y) for s in plot.series]
    band = [p for p in _curve(plot.band[0], plot.band[1]) if math.isfinite(p[0]) and math.isfinite(p[1])] if plot.band else []
    limit = as_float(plot.limit[0]) if plot.limit else math.nan
    narrow = kind == "narrow"
    legend = _legend(plot, width)
    box = _Box(64, width - 14, 16 + 18 * len(legend), height - 46)
    x_axis, y_axis = _axes(plot, points, band, limit, box)
    body = _frame(plot, x_axis, y_axis, box, width, height)
    for row, items in enumerate(legend):
        body.append(_legend_row(items, box.left, 14 + 18 * row))
    if len(band) > 1:
        body.append(svg.area([(x_axis(x), y_axis(y)) for x, y in sorted(band)], box.bottom, "band", svg.BAND))
    groups = [_place(i, s, p, x_axis, y_axis, limit, box) for i, (s, p) in enumerate(zip(plot.series, points, strict=True))]
    placed = [p for group in groups for p in group]
    many = len(placed) > (HOVER // 6 if narrow else HOVER)  # the narrow drawing is for phones, where nothing hovers
    outliers = _outliers(placed)
    for i, group in enumerate(groups):
        body += _draw(plot, i, group, y_axis, box, {id(p) for p in outliers}, many)
    taken = [(p.x - 5, p.x + 5, p.y - 5, p.y + 5) for p in placed[-5000:]]
    if plot.limit and math.isfinite(limit):
        body += _limit(plot.limit[1], limit, y_axis(limit), box, taken)
    if not _point_names(plot, box.right - box.left):
        body += _names(outliers, taken, box, 2 if narrow else 6, 18 if narrow else 28)
    return svg.frame(width, height, plot.title, summary(plot), "".join(body), kind=kind)


def _curve(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(map(as_float, x), map(as_float, y), strict=False))


def _axes(
    plot: Plot, points: list[list[tuple[float, float]]], band: list[tuple[float, float]], limit: float, box: _Box
) -> tuple[Axis, Axis]:
    xs = [x for p in points for x, _ in p if math.isfinite(x)]
    ys = [y for p in [*points, band, [(0.0, limit)]] for _, y in p if math.isfinite(y)]
    bars = any(s.kind == "bars" for s in plot.series)
    margin = 8.0
    if bars or _point_names(plot, box.right - box.left):  # room for half a bar, or half a name, at either end
        margin = (box.right - box.left) / max(len(set(xs)), 2) / 2
    if bars:
        ys.append(0.0)
    x_axis = linear_axis(xs, box.left + margin, box.right - margin, max(3, (box.right - box.left) // 100), pad=False)
    if plot.log_y and any(y > 0 for y in ys):
        return x_axis, log_axis(ys, box.bottom, box.top, 7 if box.bottom - box.top > 220 else 5)
    return x_axis, linear_axis(ys, box.bottom, box.top, 5)


def _limit(name: str, limit: float, y: float, box: _Box, taken: list[_Area]) -> list[str]:
    words = f"{shorten(visible(name), 40)} {figures.short(limit)}"
    base = y - 5 if y - 18 > box.top else y + 15
    taken.append((box.right - 6.9 * width(words), box.right, base - 11, base + 3))
    return [
        svg.line(box.left, y, box.right, y, "bad", svg.VERMILLION, dash="6 4", stroke=1.5),
        svg.label(box.right - 2, base, words, anchor="end", kind="bad", color=svg.BAD_TEXT),
    ]


def _frame(plot: Plot, x_axis: Axis, y_axis: Axis, box: _Box, wide: int, high: int) -> list[str]:
    left, right, top, bottom = box
    body = []
    for value, words in y_axis.ticks:
        y = y_axis(value)
        body += [svg.line(left, y, right, y, "grid", svg.GRID), svg.label(left - 7, y + 4, words, anchor="end")]
    if y_axis.zero is not None:
        body.append(svg.label(left - 7, y_axis.zero + 4, "0", anchor="end"))
    body.append(svg.line(left, bottom, right, bottom, "faint", svg.FAINT))
    names = _point_names(plot, right - left)
    for value, words in names or x_axis.ticks:
        x = x_axis(value)
        body += [
            svg.line(x, bottom, x, bottom + 4, "faint", svg.FAINT),
            svg.label(x, bottom + 18, words, anchor="middle"),
        ]
    below, beside = shorten(visible(plot.x_label), wide // 8), shorten(visible(plot.y_label), high // 8)
    body.append(svg.label((left + right) / 2, high - 8, below, anchor="middle", kind="ink", color=svg.INK))
    body.append(svg.label(14, (top + bottom) / 2, beside, anchor="middle", kind="ink", color=svg.INK, turn=True))
    return body


def _point_names(plot: Plot, room: int) -> list[tuple[float, str]]:
    """A few named bars bear their names on the axis instead of numbers; so do other points where the names fit."""
    for s in plot.series:
        if not 0 < len(s.labels) <= 12 or len(s.labels) != len(s.x) or len(set(s.x)) != len(s.x):
            continue
        each = int(room / len(s.labels) / 7)
        names = [visible(name) for name in s.labels]
        if s.kind == "bars" or (
            len(plot.series) == 1 and all(width(name) <= each for name in names) and set(s.x) == set(range(len(names)))
        ):
            return [(as_float(x), shorten(name, each)) for x, name in zip(s.x, names, strict=True) if math.isfinite(as_float(x))]
    return []


Item = tuple[str, int, str]


def _legend(plot: Plot, wide: int) -> list[list[Item]]:
    """Rows of (kind of mark, series, words); none where a single series has no band to be told from."""
    items: list[Item] = [(s.kind, i, s.name) for i, s in enumerate(plot.series)] if len(plot.series) > 1 or plot.band else []
    if plot.band:
        items.append(("band", 0, plot.band[2]))
    rows: list[list[Item]] = [[]]
    used = 64.0
    for what, i, words in items:
        words = shorten(visible(words), max(8, (wide - 110) // 7))
        need = 30 + 6.8 * width(words)
        if rows[-1] and used + need > wide:
            rows.append([])
            used = 64.0
        rows[-1].append((what, i, words))
        used += need
    return [r for r in rows if r]


def _legend_row(items: list[Item], left: float, y: float) -> str:
    x, parts = float(left), []
    for what, i, words in items:
        kind, color = f"s{i % 4}", svg.SERIES[i % 4]
        if what == "band":
            parts.append(svg.rect(x, y - 9, 14, 10, "band", svg.BAND))
        elif what == "line":
            parts.append(svg.line(x, y - 4, x + 14, y - 4, kind, color, stroke=2))
        else:
            parts.append(svg.mark(svg.SHAPES[i % 4] if what == "dots" else "square", x + 7, y - 4, kind, color, r=4))
        parts.append(svg.label(x + 20, y, words))
        x += 30 + 6.8 * width(words)
    return "".join(parts)


def _place(
    index: int, series: Series, points: list[tuple[float, float]], x_axis: Axis, y_axis: Axis, limit: float, box: _Box
) -> list[_Point]:
    placed = []
    for i, (x, y) in enumerate(points):
        if not math.isfinite(x):
            continue
        place = "off" if not math.isfinite(y) else "zero" if y_axis.log and y <= 0 else "in"
        above = place == "off" or (math.isfinite(limit) and not y <= limit)
        name = series.labels[i] if i < len(series.labels) else ""
        placed.append(_Point(x_axis(x), box.top if place == "off" else y_axis(y), y, index, name, above, place))
    return placed


def _outliers(points: list[_Point]) -> list[_Point]:
    """The points above the limit or off the axis, the leftmost first and then the worst; without such, those far above the middle."""
    bad = [p for p in points if p.above]
    if not bad and len(points) >= 5:
        values = sorted(p.value for p in points)
        middle, top = values[len(values) // 2], values[-1]
        bad = [p for p in points if p.value > 0 and p.value > 5 * middle and p.value >= top / 3][:3]
    if not bad:
        return []
    first = min(bad, key=lambda p: p.x)
    rest = sorted((p for p in bad if p is not first), key=lambda p: (p.place != "off", -p.value if p.place != "off" else 0.0))
    return [first, *rest[:60]]


def _draw(plot: Plot, index: int, points: list[_Point], y_axis: Axis, box: _Box, special: set[int], many: bool) -> Iterator[str]:
    """One series. `special` holds the ids of the points that keep their words where there are `many`."""
    series = plot.series[index]
    kind, color, shape = f"s{index % 4}", svg.SERIES[index % 4], svg.SHAPES[index % 4]
    hover = _hover(plot)
    if series.kind == "bars":
        floor = float(box.bottom) if y_axis.log else y_axis(0.0)
        yield from _bars(plot, index, points, floor, lambda p: "" if many and id(p) not in special else hover(p))
        return
    plain: list[_Point] = []
    if series.kind == "line":
        yield from (svg.polyline([(p.x, p.y) for p in run], kind, color) for run in _runs(points))
    else:
        plain = [p for p in points if not p.above and p.place == "in" and id(p) not in special]
    zeros = [p for p in points if p.place == "zero" and series.kind == "dots"]
    loud = [p for p in points if (p.above or id(p) in special) and p.place != "zero"]
    if many:
        yield svg.cloud([(p.x, p.y) for p in plain], kind, color) if plain else ""
        yield svg.cloud([(p.x, p.y) for p in zeros], kind, color, size=3) if zeros else ""
        yield svg.cloud([(p.x, p.y) for p in loud if p.above], "bad", svg.VERMILLION, size=6) if len(loud) > len(special) else ""
        loud = [p for p in loud if id(p) in special]
    else:
        yield from (svg.mark(shape, p.x, p.y, kind, color, hover=hover(p)) for p in plain)
        yield from (svg.mark("dot", p.x, p.y, kind, color, r=2.5, hollow=True, hover=hover(p)) for p in zeros)
    for p in loud:
        paint = ("bad", svg.VERMILLION) if p.above else (kind, color)
        form = "cross" if p.place == "off" else "square" if p.above and len(plot.series) == 1 else shape
        yield svg.mark(form, p.x, p.y, *paint, r=4, hover=hover(p))


def _bars(plot: Plot, index: int, points: list[_Point], floor: float, hover: Callable[[_Point], str]) -> Iterator[str]:
    step = min((abs(b.x - a.x) for a, b in pairwise(points) if b.x != a.x), default=90.0)
    group = [i for i, s in enumerate(plot.series) if s.kind == "bars"]
    one = max(min(step * 0.8, 72) / len(group), 0.8)
    for p in points:
        x = p.x + (group.index(index) - len(group) / 2) * one
        paint = ("bad", svg.VERMILLION) if p.above and len(group) == 1 else (f"s{index % 4}", svg.SERIES[index % 4])
        yield svg.rect(x, min(p.y, floor), one, abs(floor - p.y), *paint, hover(p))
        if one >= 30 and p.place == "in":
            yield svg.label(x + one / 2, min(p.y, floor) - 5, figures.si(p.value), anchor="middle", kind="ink", color=svg.INK)


def _runs(points: list[_Point]) -> Iterator[list[_Point]]:
    run: list[_Point] = []
    for p in points:
        if p.place == "off":
            if len(run) > 1:
                yield run
            run = []
        else:
            run.append(p)
    if len(run) > 1:
        yield run


def _hover(plot: Plot) -> Callable[[_Point], str]:
    several = len(plot.series) > 1

    def words(p: _Point) -> str:
        name = ", ".join(n for n in (p.name, plot.series[p.series].name if several else "") if n)
        return f"{name}: {figures.short(p.value)}" if name else figures.short(p.value)

    return words


def _names(outliers: list[_Point], taken: list[_Area], box: _Box, count: int, room: int) -> list[str]:
    """Names beside the points that stick out, each only where it covers nothing that is `taken`."""
    body: list[str] = []
    for p in (p for p in outliers if p.name):
        if len(body) >= count:
            break
        name = shorten(visible(p.name), room)
        wide = 6.9 * width(name)
        for anchor, x, y in (("start", p.x + 9, p.y + 4), ("end", p.x - 9, p.y + 4), ("middle", p.x, p.y - 9), ("middle", p.x, p.y + 19)):
            left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
            right, top, bottom = left + wide, y - 11, y + 3
            inside = left >= box.left and right <= box.right and top >= box.top - 6 and bottom <= box.bottom
            if inside and not any(left < b and a < right and top < d and c < bottom for a, b, c, d in taken):
                taken.append((left, right, top, bottom))
                body.append(svg.label(x, y, name, anchor=anchor, kind="ink", color=svg.INK))
                break
    return body
