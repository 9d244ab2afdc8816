"""A report, or an error, as one JSON document that follows the committed schema of the same name."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Set
from importlib.resources import files
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from niudao.errors import NiudaoError
from niudao.report.blocks import Report
from niudao.report.escape import encodable
from niudao.report.figures import HUGE


def render(report: Report, *, indent: int | None = 2) -> str:
    """The document. Numbers that JSON has no word for become the strings "nan", "inf" and "-inf"; bytes are left out.

    It is pure ASCII, so that no name in it can move a terminal's cursor.
    """
    return _dump(report.to_dict(), indent)


def error(fault: NiudaoError, *, indent: int | None = 2) -> str:
    """The document `niudao.error/1`, which a verb answers with when it could not do its work."""
    return _dump({"schema": "niudao.error/1", "ok": False, "error": fault.to_dict()}, indent)


def schema(name: str) -> dict[str, Any]:
    """The committed JSON Schema of a document, by the document's own `schema` member ("niudao.compare/1")."""
    text = files("niudao.report").joinpath("schemas", name.replace("/", "-") + ".json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _dump(data: Mapping[str, object], indent: int | None) -> str:
    return json.dumps(plain(data), indent=indent, allow_nan=False)


_OMIT = object()


def plain(value: object) -> Any:
    """What `json.dumps` can write: dataclasses, mappings, sequences, arrays and numpy scalars become plain data."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable(str(value))
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) < HUGE else "inf" if value > 0 else "-inf"  # type: ignore[operator]
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _OMIT
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        members = {encodable(str(k)): plain(v) for k, v in value.items()}
        return {k: v for k, v in members.items() if v is not _OMIT}
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return [v for v in map(plain, value) if v is not _OMIT]
    if isinstance(value, PathLike):
        return plain(fspath(value))
    if hasattr(value, "tolist"):  # numpy arrays and its other scalars
        return plain(value.tolist())
    return encodable(str(value))
