from __future__ import annotations

import io
import math
import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from PIL import Image
from report_samples import HOSTILE, comparison, plots

from niudao.report import Plot, Series, svg
from niudao.report.chart import chart

SVG = "{http://www.w3.org/2000/svg}"


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.document(drawing))


def plot_of(name: str = "conv1") -> Plot:
    return next(b for b in comparison(name=name).story if isinstance(b, Plot))


def test_a_chart_is_an_image_with_words() -> None:
    root = parse(chart(plot_of(HOSTILE)))
    assert root.get("role") == "img" and root[1].tag == SVG + "title" and root[1].text == "Error by depth"
    assert root[2].tag == SVG + "desc" and "20 of 60 above limit 1.0e-04" in (root[2].text or "")
    words = [t.text for t in root.iter(SVG + "text")]
    assert "limit 1.0e-04" in words and "noise" in words and "1e-7" in words


def test_log_axis_puts_decades_at_equal_steps() -> None:
    points = Series("s", (0, 1, 2, 3), (1e-6, 1e-4, 1e-2, 0.0), ("a", "b", "c", "d"))
    root = parse(chart(Plot("t", (points,), "x", "y", log_y=True)))
    y = {(c.find(SVG + "title").text or "")[0]: float(c.get("cy") or 0) for c in root.iter(SVG + "circle")}  # type: ignore[union-attr]
    assert math.isclose(y["a"] - y["b"], y["b"] - y["c"], abs_tol=0.2) and y["d"] > y["a"]


def test_points_above_the_limit_differ_in_shape_too() -> None:
    root = parse(chart(plot_of()))
    assert len([c for c in root.iter(SVG + "circle") if c.find(SVG + "title") is not None]) == 40
    squares = [r for r in root.iter(SVG + "rect") if r.get("class") == "f-bad"]
    assert len(squares) == 20 and all(r.get("fill") == svg.VERMILLION for r in squares)


def test_what_is_not_finite_is_a_cross_not_a_gap() -> None:
    points = Series("s", (0, 1, 2), (1.0, float("nan"), float("inf")), ("a", "b", "c"))
    drawing = chart(Plot("t", (points,), "x", "y", limit=(2.0, "limit")))
    assert [t.text for t in parse(drawing).iter(SVG + "title")][-2:] == ["b: nan", "c: inf"]
    assert "2 of 3 above limit" in drawing


def test_large_plots_stay_small_and_name_what_sticks_out() -> None:
    y = np.full(20_000, 1e-6)
    y[777] = 3.0
    labels = [f"layer{i}" for i in range(y.size)]
    drawing = chart(Plot("t", (Series("s", np.arange(y.size), y, labels),), "x", "y", log_y=True, limit=(1e-4, "limit")))
    assert len(drawing) < 320_000 and "layer777" in drawing and "layer778" not in drawing


def test_png_shows_the_marks() -> None:
    data = svg.png(chart(plot_of()), 440)
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert image.shape[1] == 440
    for color in (svg.BLUE, svg.VERMILLION):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(image - wanted).sum(-1) < 30).any()
    assert (image.sum(-1) > 760).mean() > 0.5


def test_contrast_of_marks() -> None:
    """WCAG 2.2, 1.4.11: marks have 3:1 against their page; text, 1.4.3, has 4.5:1."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    assert all(contrast(c, "#ffffff") >= 3 for c in svg.SERIES)
    assert all(contrast(svg.DARK[f"s{i}"], "#1a1d21") >= 3 for i in range(4))
    assert all(contrast(c, "#ffffff") >= 4.5 for c in (svg.INK, svg.FAINT, "#b34f00"))
    assert all(contrast(svg.DARK[n], "#1a1d21") >= 4.5 for n in ("ink", "faint", "bad"))


@settings(max_examples=80, deadline=None)
@given(plots)
def test_any_plot_is_well_formed(plot: Plot) -> None:
    for narrow in (False, True):
        drawing = chart(plot, width=380, height=270, kind="narrow") if narrow else chart(plot)
        root = parse(drawing)
        assert not re.search(r"[\"\s](nan|inf)[\"\s]", drawing.split("</desc>")[1].replace("</title>", "")) or root is not None
        for element in root.iter():
            for name in ("x", "y", "cx", "cy", "r", "width", "height", "x1", "x2", "y1", "y2"):
                value = element.get(name)
                assert value is None or math.isfinite(float(value))
            assert "nan" not in element.get("d", "") and "inf" not in element.get("d", "")
