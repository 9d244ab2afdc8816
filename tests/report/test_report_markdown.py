from __future__ import annotations

from hypothesis import given, settings
from markdown_it import MarkdownIt
from report_samples import HOSTILE, Sample, comparison, reports, words

from niudao.report import escape, markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text: str) -> list[str]:
    return [t.type for token in PARSER.parse(text) for t in (token, *(token.children or []))]


def test_tables_verdict_and_marks() -> None:
    shown = comparison(name=HOSTILE).to_markdown()
    assert "**✗ the networks differ in 1 of 2 outputs**" in shown
    kinds = tokens(shown)
    assert kinds.count("table_open") == 2 and kinds.count("tr_open") == 2 + 3 + 60
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline"} & set(kinds)


@given(words)
def test_a_name_stays_the_words_it_is(name: str) -> None:
    inline = [t for t in PARSER.parse("x " + markdown.mark(name) + " x") if t.type == "inline"]
    assert len(inline) == 1 and all(c.type == "text" for c in inline[0].children or [])
    assert "".join(c.content for c in inline[0].children or []) == f"x {escape.visible(name)} x"


@settings(max_examples=40, deadline=None)
@given(reports)
def test_any_report_can_be_drawn(report: Sample) -> None:
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline", "code_block", "fence"} & set(tokens(report.to_markdown()))
