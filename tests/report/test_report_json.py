from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from report_samples import HOSTILE, Sample, comparison, reports

from niudao.errors import NiudaoError, ReadError, Refusal, Unsupported, Where
from niudao.report import Verdict
from niudao.report import json as writer


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def test_numbers_arrays_and_bytes() -> None:
    extra = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": float("nan"),
        "d": (float("inf"), -float("inf")),
        "e": b"left out",
        "f": np.bool_(True),
        "g": Path("x/y"),
        "h": {2, 1},
        3: np.datetime64("2026-01-01"),
        "i": Verdict(True, "t"),
    }
    found = strict(Sample(extra=extra).to_json())["extra"]
    assert found == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": "nan",
        "d": ["inf", "-inf"],
        "f": True,
        "g": "x/y",
        "h": [1, 2],
        "3": "2026-01-01",
        "i": {"ok": True, "text": "t", "detail": ""},
    }


def test_schema_comes_first_and_names_are_ascii() -> None:
    text = comparison(name=HOSTILE).to_json(indent=None)
    assert text.startswith('{"schema": "niudao.sample/1", "ok": false') and text.isascii() and "\\ud" not in text.replace("\\\\ud", "")
    strict(text).__str__().encode("utf-8")


def test_errors_follow_their_schema() -> None:
    check = Draft202012Validator(writer.schema("niudao.error/1"))
    faults: list[NiudaoError] = [
        NiudaoError("a."),
        ReadError("b.", where=Where("f\udcff", 3, "n", "a"), expected="x", got="y", next="z"),
        Unsupported("TFLite", [Refusal("up8", "Deconvolution", "group 7", targets=("onnx",))]),
    ]
    for fault in faults:
        check.validate(strict(writer.error(fault)))
    assert not check.is_valid({"schema": "niudao.error/1", "ok": True, "error": {}})


@settings(max_examples=40, deadline=None)
@given(reports)
def test_any_report_is_valid_json(report: Sample) -> None:
    found = strict(report.to_json())
    assert found["schema"] == report.schema and found["ok"] is report.ok
