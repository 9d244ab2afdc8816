"""Names of a network's outputs: keys of the dictionary that `forward` gives, as torch's description of its result says them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def output_names(spec: str | None, count: int, fields: Mapping[str, Sequence[str]]) -> list[str]:
    """A name for each leaf of `forward`'s result.

    Args:
        spec: torch's description (`treespec_dumps`), None if unknown.
        count: How many leaves there are.
        fields: Names of the fields of named tuples, by class.

    Returns:
        Keys joined by dots where the result is a dictionary, else "output", "output_1", ...
    """
    paths: list[tuple[str | int, ...]] = []
    if spec is not None:
        document = json.loads(spec)
        _walk(document[1] if isinstance(document, list) else document, (), paths, fields)
    if len(paths) != count:
        paths = [(i,) for i in range(count)]
    return named(paths)


def named(paths: Sequence[tuple[str | int, ...]]) -> list[str]:
    """Names for the leaves of a result, from the keys that lead to them."""
    names: list[str] = []
    plain = 0
    for path in paths:
        if any(isinstance(key, str) for key in path):
            names.append(".".join(str(key) for key in path))
        else:
            names.append(f"output_{plain}" if plain else "output")
            plain += 1
    return names


def _walk(
    spec: Mapping[str, Any], path: tuple[str | int, ...], paths: list[tuple[str | int, ...]], fields: Mapping[str, Sequence[str]]
) -> None:
    if spec["type"] is None:
        paths.append(path)
        return
    children = spec["children_spec"]
    keys: Sequence[Any] = range(len(children))
    context = spec["context"]
    context = json.loads(context) if isinstance(context, str) and context else context
    if isinstance(context, str) and len(fields.get(context, ())) == len(children):
        keys = fields[context]
    while isinstance(context, list) and any(isinstance(item, list) for item in context):
        context = next(item for item in context if isinstance(item, list))
    if isinstance(context, list) and len(context) == len(children) and all(isinstance(k, (str, int)) for k in context):
        keys = context
    for key, child in zip(keys, children, strict=True):
        _walk(child, (*path, key if isinstance(key, (str, int)) else str(key)), paths, fields)
