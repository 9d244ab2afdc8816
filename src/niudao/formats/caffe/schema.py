"""The messages of Caffe."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from niudao.formats.protobuf.schema import Schema, parse


@cache
def schema() -> Schema:
    """Caffe 1.0 and common forks."""
    return parse((files("niudao.formats.caffe") / "caffe.proto").read_text(encoding="utf-8"))
