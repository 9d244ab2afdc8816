"""The committed schemas are those of the dataclasses. `python tests/report/test_report_schemas.py` writes them anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, ClassVar, Literal

import pytest
from jsonschema import Draft202012Validator

import niudao
from niudao.report import Report, schema
from niudao.report import json as writer

FOLDER = Path(str(files("niudao.report").joinpath("schemas")))
BY_HAND = {"niudao.error-1.json"}


def reports() -> dict[str, type[Report]]:
    """File name -> report class, for every report of the package."""
    for module in walk_packages(niudao.__path__, "niudao."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found: dict[str, type[Report]] = {}
    waiting = [Report]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith("niudao."):
                found[kind.schema.replace("/", "-") + ".json"] = kind
    return found


def text_of(kind: type[Report]) -> str:
    return json.dumps(schema.of(kind), indent=2, ensure_ascii=False) + "\n"


def test_committed_schemas_are_the_dataclasses() -> None:
    known = reports()
    assert {p.name for p in FOLDER.iterdir()} == set(known) | BY_HAND
    for name, kind in known.items():
        assert (FOLDER / name).read_text("utf-8") == text_of(kind), f"{name} is not of today: python tests/report/test_report_schemas.py"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_schemas_are_schemas(path: Path) -> None:
    found = json.loads(path.read_text("utf-8"))
    Draft202012Validator.check_schema(found)
    assert found["$schema"].endswith("2020-12/schema") and {"schema", "ok"} <= set(found["required"])
    assert writer.schema(found["title"]) == found and found["properties"]["schema"] == {"const": found["title"]}


@dataclass(frozen=True)
class Inner:
    value: float
    label: Literal["a", "b"]
    inner: tuple[Inner, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer(Report):
    """One of each kind."""

    schema: ClassVar[str] = "niudao.outer/1"
    pair: tuple[int, str]
    rows: tuple[Inner, ...]
    table: dict[str, list[float]]
    maybe: Inner | None = None
    picture: bytes = b""
    anything: Any = None


def test_documents_of_a_dataclass_follow_its_schema() -> None:
    check = Draft202012Validator(schema.of(Outer))
    report = Outer(pair=(1, "x"), rows=(Inner(float("nan"), "a", (Inner(1.0, "b"),)),), table={"k": [1.0, float("inf")]}, picture=b"x")
    found = json.loads(report.to_json())
    check.validate(found)
    for path, wrong in (
        (("pair",), [1]),
        (("rows", 0, "label"), "c"),
        (("table", "k"), 3),
        (("schema",), "x"),
        (("rows", 0, "value"), "x"),
        (("ok",), 1),
    ):
        broken = json.loads(report.to_json())
        place = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = wrong
        assert not check.is_valid(broken), path


if __name__ == "__main__":
    for _name, _kind in reports().items():
        (FOLDER / _name).write_text(text_of(_kind), "utf-8")
