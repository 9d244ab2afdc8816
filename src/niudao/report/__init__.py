"""The only place that draws. A result gives its story as blocks; this room turns blocks into text, JSON, Markdown, HTML and SVG."""

from niudao.report import figures as figures
from niudao.report.blocks import Block, Column, Facts, Picture, Plot, Report, Series, Table, Text, Verdict

__all__ = ["Block", "Column", "Facts", "Picture", "Plot", "Report", "Series", "Table", "Text", "Verdict"]
