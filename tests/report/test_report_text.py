from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import HOSTILE, Sample, comparison, reports
from rich.cells import cell_len
from rich.text import Text as Rich

from niudao.errors import ReadError, Where
from niudao.report import Column, Facts, Table, Text, Verdict, escape, figures, text

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def hidden(shown: str) -> list[str]:
    return [c for c in shown if c not in "\n\t" and unicodedata.category(c) in HIDDEN]


def test_piped_text_is_plain_and_whole() -> None:
    shown = comparison(name=HOSTILE).to_text()
    assert "\x1b" not in shown and not hidden(shown)
    assert not re.search("[\u2500-\u257f]", shown)  # no box drawing
    rows = [line.split("\t") for line in shown.splitlines()]
    assert ["prob", "1.2e-07", "same", ""] in rows and sum(len(r) == 3 and r[0].startswith("stage") for r in rows) == 59
    assert [r for r in rows if r[-1] == "!"] == [[escape.visible(HOSTILE), "0.83", "DIFFERENT", "!"]]


def test_terminal_text_is_aligned_and_cut() -> None:
    shown = comparison().to_text(width=80)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and not any(line != line.rstrip() for line in lines)
    assert "  (54 more: --all, or --report page.html)" in lines
    assert "[FAIL] the networks differ in 1 of 2 outputs" in lines
    head = next(line for line in lines if line.startswith("  output"))
    bad = next(line for line in lines if line.startswith("! conv1"))
    assert bad.index("DIFFERENT") == head.index("verdict") and bad.index("0.83") + 4 == head.index("max |diff|") + 10


def test_colour_paints_the_same_words() -> None:
    report = comparison(name=HOSTILE)
    painted = report.to_text(color=True, width=100)
    assert "\x1b[" in painted
    assert Rich.from_ansi(painted).plain.strip("\n") == report.to_text(width=100).strip("\n")


def test_bars_and_shares() -> None:
    table = Table((Column("a"), Column("b", "right", bar=True, share=True)), (("x", 75), ("y", 25), ("z", None), ("w", 0)))
    lines = Sample(story=(table,)).to_text(width=60).splitlines()
    assert lines[1].endswith("75   75 % ##########") and lines[2].endswith("25   25 % ###") and lines[4].endswith(" 0    0 %")


def test_a_line_feed_in_a_name_cannot_pass_for_a_line_of_ours() -> None:
    blocks = (
        Text("bad\nwrote x"),
        Verdict(True, "a\nwrote x", "b\nwrote x"),
        Facts((("a\nwrote x", "b\nwrote x"),)),
        Table((Column("c"),), (("\nwrote x",),)),
    )
    for width in (None, 80):
        assert not any(line.startswith("wrote") for line in Sample(story=blocks).to_text(width=width).splitlines())


def test_notes_are_told_once() -> None:
    shown = Sample(story=(Text("told", level="note"),), notes=("told", "new")).to_text()
    assert shown == "told\nnew\n"


def test_an_error_is_a_sentence_and_aligned_facts() -> None:
    fault = ReadError(
        "net.h5 is broken.", where=Where("net\x1b.h5", node="fc1"), expected="an HDF5 file", got="HTML", next="niudao formats"
    )
    assert text.error(fault).splitlines() == [
        "error: net.h5 is broken.",
        "  where     net\\x1b.h5, node 'fc1'",
        "  expected  an HDF5 file",
        "  got       HTML",
        "  next      niudao formats",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (999_999, "1 M"),
        (1_248_424, "1.25 M"),
        (861e6, "861 M"),
        (-1500, "-1.5 k"),
        (float("nan"), "nan"),
        (10**30, "1e+12 E"),
    ],
)
def test_si(value: float, shown: str) -> None:
    assert figures.si(value) == shown


def test_sizes_and_numbers() -> None:
    assert [figures.size(n) for n in (97, 4_812_000, 1_720_000)] == ["97 B", "4.81 MB", "1.72 MB"]
    assert [figures.short(x) for x in (513000, 0.83, 1.2e-7, 1e-4, float("-inf"), 12345.6)] == [
        "513,000",
        "0.83",
        "1.2e-07",
        "1.0e-04",
        "-inf",
        "12,346",
    ]


@given(st.text(st.characters(exclude_categories=())))
def test_visible_leaves_nothing_hidden(name: str) -> None:
    shown = escape.visible(name)
    assert not hidden(shown) and "\n" not in shown and "\t" not in shown
    shown.encode("utf-8")
    assert escape.visible(shown) == shown


def test_visible_leaves_languages_alone() -> None:
    for name in ("卷积层/1", "свёртка", "שכבה", "طبقة", "e\u0301", "convolução", "😀"):
        assert escape.visible(name) == name
        assert escape.width(name) == cell_len(name)


@settings(max_examples=40, deadline=None)
@given(reports, st.none() | st.integers(1, 200))
def test_any_report_can_be_drawn(report: Sample, width: int | None) -> None:
    shown = report.to_text(width=width)
    assert not hidden(shown)
    painted = report.to_text(color=True, width=width)
    assert not hidden(re.sub("\x1b\\[[0-9;]*m", "", painted))
