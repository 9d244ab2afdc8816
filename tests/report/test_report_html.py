from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from report_samples import HOSTILE, Sample, comparison, reports

from niudao.errors import WriteError
from niudao.report import Picture, Verdict, html

VOID = {"meta", "br", "img", "input"}
PARTS = """
    html head meta title style body main header footer section p b h1 h2 strong span small i br div dl dt dd
    table thead tbody tr th td figure figcaption img script svg desc rect circle line path text
"""
ALLOWED = frozenset(PARTS.split())


class Page(HTMLParser):
    """Python's own parser as the judge: which tags open, which attributes they bear, and whether all close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def check(page: str) -> Page:
    """Nothing but our own tags; no handler, no inline style, no reference to anywhere."""
    parsed = Page(page)
    for tag, attributes in parsed.tags:
        assert tag in ALLOWED
        assert not [a for a in attributes if a.startswith("on") or a in ("style", "href", "srcset", "action", "xlink:href")]
        if "src" in attributes:
            assert tag == "img" and (attributes["src"] or "").startswith("data:image/")
    assert [t for t, _ in parsed.tags].count("script") <= 1
    return parsed


def test_the_page_asks_for_nothing() -> None:
    page = comparison().to_html()
    check(page)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_hostile_names_are_words() -> None:
    page = comparison(name=HOSTILE).to_html()
    parsed = check(page)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert not set(page) & set("\x1b\u202e\udcff\r")
    assert any("\\u202egpj.exe\\udcff" in w for w in parsed.words)


def test_the_verdict_comes_first_and_is_said_without_colour() -> None:
    page = comparison().to_html()
    assert page.index("the networks differ") < page.index("<dl>")
    assert "&#10007;" in page and "DIFFERENT" in page


def test_500_layers_fit_in_a_megabyte() -> None:
    page = comparison(500).to_html()
    assert len(page.encode()) < 1_000_000
    assert page.count("stage3/") > 12


def test_pictures_are_images_whose_scripts_do_not_run() -> None:
    drawing = "<svg viewBox='0 0 1 1'><script>alert(1)</script></svg>"
    page = Sample(story=(Picture(drawing, "a"), Picture(b"<html>", "b"), Picture("<img src=x>", "c"))).to_html()
    check(page)
    assert "<script>alert" not in page and page.count("<img ") == 1 and page.count("no picture") == 2


def test_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    report = Sample(story=(Verdict(True, "层"),))
    assert report.to_html(target) == target.read_text("utf-8")
    with pytest.raises(WriteError):
        report.to_html(tmp_path / "missing" / "page.html")
    with pytest.raises(WriteError):
        html.save("x", tmp_path)
    with pytest.raises(WriteError):
        html.save("x", tmp_path / "a\0b")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_notebook_gets_no_script() -> None:
    part = comparison(name=HOSTILE)._repr_html_()
    check(part)
    assert "<script" not in part and part.startswith('<div class="niudao">')
    rules = re.search(r"<style>(.*?)</style>", part, re.S)
    assert rules
    for selector in re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", rules[1]):
        assert all(".niudao" in s for s in selector.split(",")), selector  # the notebook's own page keeps its looks


@settings(max_examples=40, deadline=None)
@given(reports)
def test_any_report_can_be_drawn(report: Sample) -> None:
    check(report.to_html())
    check(report._repr_html_())
