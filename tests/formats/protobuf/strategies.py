"""Messages of any kind, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from niudao.formats.protobuf.scalars import RANGES
from niudao.formats.protobuf.schema import Schema


def scalars(type: str) -> st.SearchStrategy[Any]:
    """Values of a scalar type, the extreme ones among them."""
    if type in RANGES:
        low, high = RANGES[type]
        return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0, 1]))
    return {
        "float": st.floats(width=32),
        "double": st.floats(),
        "bool": st.booleans(),
        "string": st.text(max_size=8),
        "bytes": st.binary(max_size=8),
    }[type]


def messages(schema: Schema, kind: str, depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments of `message`, nested dicts as messages."""
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in schema.messages[kind].values():
        match schema.kind(field.type):
            case "scalar":
                values = scalars(field.type)
            case "enum":
                values = st.sampled_from(sorted(schema.enums[field.type]))
            case _ if depth:
                values = st.deferred(lambda field=field: messages(schema, field.type, depth - 1))
            case _:
                continue
        optional[field.name] = st.lists(values, min_size=1, max_size=3) if field.repeated else values
    return st.dictionaries(st.sampled_from(sorted(optional)), st.none(), max_size=5).flatmap(
        lambda chosen: st.fixed_dictionaries({name: optional[name] for name in chosen})
    )
