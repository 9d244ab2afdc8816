"""JSON of strangers: bytes, levels and values are bounded before anything is made of them."""

from __future__ import annotations

import json
from typing import Any

from niudao.errors import LimitError, ReadError, Where

MAX_BYTES, MAX_DEPTH, MAX_PARTS = 64 << 20, 100, 1_500_000
"""Bytes, levels and values of a document; each value becomes a Python object."""


def parse(data: bytes, where: Where, *, unique: bool = False, called: str = "JSON document", limit: int = MAX_BYTES) -> dict[str, Any]:
    """A JSON document that must be an object.

    Args:
        data: UTF-8 text.
        where: The file, for messages.
        unique: Whether a key that stands twice in one object is refused.
        called: What people call it.
        limit: Bytes that it may have.

    Raises:
        ReadError: It is no JSON, or no object.
        LimitError: It is too long or nested too deeply.
    """
    if len(data) > limit:
        raise LimitError(f"the {called} is too long.", where=where, expected=f"at most {limit:,} bytes", got=f"{len(data):,}")
    parts = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if parts > MAX_PARTS:
        raise LimitError(f"the {called} holds too many values.", where=where, expected=f"at most {MAX_PARTS:,}", got=f"{parts:,}")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique if unique else None)
        if isinstance(document, str):  # a document that was packed as a text once more, as `json.dump(model.to_json())` does
            document = json.loads(document)
    except RecursionError as e:
        raise LimitError(f"the {called} is nested too deeply.", where=where, expected=f"at most {MAX_DEPTH} levels") from e
    except ValueError as e:
        raise ReadError(f"the {called} is no JSON: {str(e)[:120]}.", where=where) from e
    if not isinstance(document, dict):
        raise ReadError(f"the {called} is no JSON object.", where=where, got=type(document).__name__)
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [v for x in level for v in (x.values() if isinstance(x, dict) else x) if isinstance(v, (dict, list))]
        if not level:
            return document
    raise LimitError(f"the {called} is nested too deeply.", where=where, expected=f"at most {MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
