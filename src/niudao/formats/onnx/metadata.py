"""What a stranger's file may say under our own metadata keys: anything of another form than ours is dropped, not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import onnx

from niudao.ir import card

MAX_VALUE, MAX_NESTING, MAX_NUMBERS = 4 << 20, 20, 10_000
"""Characters of one value of ours (the names of 20,000 classes take a tenth of that), its nesting, and the numbers on one card."""


def tidy_metadata(proto: onnx.ModelProto) -> None:
    """Drop values under the `niudao.` keys that are no JSON of the form that `card` writes."""
    kept = [(e.key, e.value) for e in proto.metadata_props if _sound(e.key, e.value)]
    if len(kept) != len(proto.metadata_props):
        del proto.metadata_props[:]
        for key, value in kept:
            proto.metadata_props.add(key=key, value=value)


def _sound(key: str, text: str) -> bool:
    form = _FORMS.get(key)
    if form is None:
        return True
    if len(text) > MAX_VALUE:
        return False
    try:
        data = json.loads(text)
        return _depth(data) <= MAX_NESTING and form(data)
    except (ValueError, OverflowError, RecursionError):
        return False


def _depth(data: Any) -> int:
    level, depth = [data], 0
    while level and depth <= MAX_NESTING:
        level = [v for x in level for v in (x.values() if isinstance(x, dict) else x if isinstance(x, list) else ())]
        depth += 1
    return depth


def _texts(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(x, str) for x in data)


def _source(data: Any) -> bool:
    return (
        isinstance(data, dict) and _texts(data.get("notes", [])) and all(isinstance(data.get(k, ""), str) for k in ("format", "producer"))
    )


def _cards(data: Any) -> bool:
    """Cards by input name; no picture can be made with numbers that are not finite, or divided by 0."""
    if not isinstance(data, dict) or not all(isinstance(v, dict) for v in data.values()):
        return False
    for each in data.values():
        numbers = [n for v in each.values() for n in (v if isinstance(v, list) else [v]) if isinstance(n, (int, float))]
        std = each.get("std")
        if len(numbers) > MAX_NUMBERS or not all(map(card.usable, numbers)) or 0 in (std if isinstance(std, list) else [std]):
            return False
    return True


_FORMS: dict[str, Callable[[Any], bool]] = {card.SOURCE: _source, card.CARD: _cards, card.CLASSES: _texts, card.NOTES: _texts}
