"""Marks of small charts as SVG text, and SVG as PNG.

Every mark carries its light-mode colour as an attribute and a class beside it: the attribute serves renderers without
CSS (resvg knows no system colours), the class lets a page's style sheet repaint the mark for dark mode.

Colours: Okabe and Ito, "Color Universal Design", 2008; each used one has a contrast of at least 3:1 on white and on #121212.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from niudao.report.escape import shorten, visible

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#008F68", "#B8609A"
INK, FAINT, GRID, BAND, BAD_TEXT = "#1b1f24", "#5b6470", "#dfe3e8", "#cfd6de", "#B34F00"
SERIES = (BLUE, GREEN, PURPLE, VERMILLION)
"""Line and dot colours in series order; vermillion comes last because it also means "bad"."""

SHAPES = ("dot", "square", "triangle", "diamond")
DARK = {
    "s0": "#4aa8e0",
    "s1": "#2fc596",
    "s2": "#e08fc4",
    "s3": "#ff8a3d",
    "bad": "#ff8a3d",
    "ink": "#e8eaed",
    "faint": "#a0a8b3",
    "grid": "#31363d",
    "band": "#3a414a",
}
"""What a style sheet turns the marks' classes into on a dark page."""


def text_of(value: object, room: int | None = None) -> str:
    """Text that is safe inside SVG and HTML, cut to `room` columns in its middle."""
    shown = visible(value)
    return escape(shown if room is None else shorten(shown, room))


def num(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def title(text: str) -> str:
    """The words that appear while the pointer rests on the element around them. `text` is raw."""
    return f"<title>{text_of(text)}</title>" if text else ""


def line(x1: float, y1: float, x2: float, y2: float, kind: str, color: str, *, dash: str = "", stroke: float = 1) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    place = f'x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}"'
    return f'<line class="l-{kind}" {place} stroke="{color}" stroke-width="{num(stroke)}"{dashed}/>'


def label(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "faint", color: str = FAINT, turn: bool = False) -> str:
    """Words at a place. `text` is raw; `turn` writes upwards."""
    turned = f' transform="rotate(-90 {num(x)} {num(y)})"' if turn else ""
    place = f'x="{num(x)}" y="{num(y)}" text-anchor="{anchor}" font-size="12"{turned}'
    return f'<text class="f-{kind}" {place} fill="{color}">{text_of(text)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, color: str, hover: str = "") -> str:
    place = f'x="{num(x)}" y="{num(y)}" width="{num(max(width, 0))}" height="{num(max(height, 0))}"'
    return f'<rect class="f-{kind}" {place} fill="{color}">{title(hover)}</rect>'


def polyline(points: Sequence[tuple[float, float]], kind: str, color: str, *, stroke: float = 2) -> str:
    path = "M" + "L".join(f"{num(x)} {num(y)}" for x, y in points)
    return f'<path class="l-{kind}" d="{path}" fill="none" stroke="{color}" stroke-width="{num(stroke)}" stroke-linejoin="round"/>'


def area(points: Sequence[tuple[float, float]], floor: float, kind: str, color: str) -> str:
    """The region between a curve and a floor."""
    path = (
        f"M{num(points[0][0])} {num(floor)}L" + "L".join(f"{num(x)} {num(y)}" for x, y in points) + f"L{num(points[-1][0])} {num(floor)}Z"
    )
    return f'<path class="f-{kind}" d="{path}" fill="{color}" fill-opacity="0.55"/>'


def cloud(points: Sequence[tuple[float, float]], kind: str, color: str, *, size: float = 5) -> str:
    """Many dots as one path, without words: a dozen bytes each."""
    path = "".join(f"M{num(x)} {num(y)}h0" for x, y in points)
    return f'<path class="l-{kind}" d="{path}" fill="none" stroke="{color}" stroke-width="{num(size)}" stroke-linecap="round"/>'


def mark(shape: str, x: float, y: float, kind: str, color: str, *, r: float = 3, hollow: bool = False, hover: str = "") -> str:
    """One point: dot, square, triangle, diamond, or a cross for a value that has no place on the axis."""
    if shape == "cross":
        path = f"M{num(x - r)} {num(y - r)}L{num(x + r)} {num(y + r)}M{num(x - r)} {num(y + r)}L{num(x + r)} {num(y - r)}"
        return f'<path class="l-{kind}" d="{path}" stroke="{color}" stroke-width="2" fill="none">{title(hover)}</path>'
    look = f'class="l-{kind}" fill="none" stroke="{color}" stroke-width="1.5"' if hollow else f'class="f-{kind}" fill="{color}"'
    if shape == "dot":
        return f'<circle {look} cx="{num(x)}" cy="{num(y)}" r="{num(r)}">{title(hover)}</circle>'
    if shape == "square":
        return f'<rect {look} x="{num(x - r)}" y="{num(y - r)}" width="{num(2 * r)}" height="{num(2 * r)}">{title(hover)}</rect>'
    w = r * 1.25
    if shape == "triangle":
        path = f"M{num(x)} {num(y - w)}L{num(x + w)} {num(y + w)}L{num(x - w)} {num(y + w)}Z"
    else:
        path = f"M{num(x)} {num(y - w)}L{num(x + w)} {num(y)}L{num(x)} {num(y + w)}L{num(x - w)} {num(y)}Z"
    return f'<path {look} d="{path}">{title(hover)}</path>'


def style(dark: bool) -> str:
    """CSS rules that paint the marks' classes for one mode; light needs none."""
    if not dark:
        return ""
    return "".join(f".f-{name}{{fill:{color}}}.l-{name}{{stroke:{color}}}" for name, color in DARK.items())


def frame(width: int, height: int, name: str, description: str, body: str, *, kind: str = "") -> str:
    """The marks inside one `<svg>` that screen readers announce as an image. `name` and `description` are raw."""
    words = f"<title>{text_of(name)}</title><desc>{text_of(description)}</desc>"
    font = 'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, DejaVu Sans, sans-serif"'
    return f'<svg class="plot{" " + kind if kind else ""}" viewBox="0 0 {width} {height}" role="img" {font}>{words}{body}</svg>'


def document(drawing: str) -> str:
    """A drawing as a file of its own, dark where its viewer is dark."""
    rules = f"<style>@media (prefers-color-scheme:dark){{{style(dark=True)}}}</style>"
    head, rest = drawing.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{rules}{rest}\n'


def png(drawing: str, width: int) -> bytes:
    """A drawing as a PNG file, on white.

    Args:
        drawing: SVG text, with or without its namespace.
        width: Pixels; the height follows.
    """
    import resvg_py

    text = drawing if "xmlns=" in drawing.split(">", 1)[0] else document(drawing)
    return bytes(resvg_py.svg_to_bytes(svg_string=text, width=width, background="#ffffff"))
