"""Networks as Python files that a person would have written: classes, layers under their names, plain `forward` code."""

from niudao.formats.pytorch.source.text import Source, write_source

__all__ = ["Source", "write_source"]
