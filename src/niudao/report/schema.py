"""JSON Schemas of reports, made from their dataclasses: the fields are the document, so the two cannot drift apart.

The files in `schemas/` are committed for programs in other languages; a test holds them equal to what is made here.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from niudao.report.blocks import Report

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NUMBER: dict[str, Any] = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
"""JSON has no word for numbers that are not finite; they are written as strings."""


def of(kind: type[Report]) -> dict[str, Any]:
    """The schema of a report class. Unknown members are allowed, so that a later version may add some."""
    definitions: dict[str, Any] = {}
    body = _members(kind, definitions)
    properties = {"schema": {"const": kind.schema}} | body["properties"]
    required = ["schema", *body["required"]]
    found: dict[str, Any] = {"$schema": DRAFT, "$id": kind.schema.replace("/", "-") + ".json", "title": kind.schema}
    if "description" in body:
        found["description"] = body["description"]
    found |= {"type": "object", "properties": properties, "required": required}
    if definitions:
        found["$defs"] = dict(sorted(definitions.items()))
    return found


def _members(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    properties = {n: s for n in names if (s := _type(hints[n], definitions)) is not None}
    found: dict[str, Any] = {"type": "object"}
    sentence = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    if sentence and not sentence.startswith(f"{kind.__name__}("):  # dataclasses without words get their signature as docstring
        found["description"] = sentence
    return found | {"properties": properties, "required": list(properties)}


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of one type; None where values of it are left out of documents."""
    simple: dict[Any, dict[str, Any]] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: NUMBER,
        None: {"type": "null"},
        type(None): {"type": "null"},
    }
    if isinstance(hint, type(None) | type) and hint in simple:
        return dict(simple[hint])
    if hint in (bytes, bytearray):
        return None
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        options = [s for a in args if (s := _type(a, definitions)) is not None]
        return {"anyOf": options}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1:] != (Ellipsis,):
        items = [s for a in args if (s := _type(a, definitions)) is not None]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(args[1], definitions) or {}}
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return {"type": "array", "items": _type(args[0], definitions) or {}}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # a place for types that hold themselves
            definitions[hint.__name__] = _members(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {}
