"""Which oracle may judge a Keras file, and what its word does to a conversion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import RunError
from niudao.formats import prove
from niudao.formats.keras import native
from niudao.formats.oracles import OverBudget


@pytest.mark.parametrize(
    ("version", "noted", "oracle"),
    [
        ("2.2.4", None, "keras2"),
        ("2.3.1", None, "keras2"),
        ("2.2.4-tf", None, "tf2"),
        ("2.13.1", None, "tf2"),
        ("2.13.1", ["2"], "tf2"),
        ("2.13.1", ["2", "3"], "tf2"),
        ("1.2.2", None, None),
        ("4.0.0", None, None),
        ("", None, None),
        ("2.13.1", [], None),
    ],
)
def test_which_keras_judges(
    version: str, noted: list[str] | None, oracle: str | None, tmp_path: Path, pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_installed", lambda: None)
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        if noted is not None:
            file.attrs["niudao"] = json.dumps({"generations": noted})
    assert native.available(path) is None
    for name in ("keras2", "tf2"):
        pretend(name)
    assert native.available(path) == (f"{oracle} 1.0 (oracle {oracle})" if oracle else None)


def test_a_file_that_nobody_may_judge(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.2.4"
    with pytest.raises(nd.errors.NiudaoError):
        native.run(path, {})


class Judge:
    """A framework that says what the test wants."""

    def __init__(self, word: Exception | Mapping[str, Any]) -> None:
        self.word = word

    def available(self, path: Path) -> str:
        return "fake 1.0 (oracle fake)"

    def run(self, path: Path, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(self.word, Exception):
            raise self.word
        return self.word


def convert(small_net: ir.Model, path: Path, word: Exception | Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(prove, "_target_native", lambda draft, entry, back: prove._NativeRunner(Judge(word), draft, back))
    return nd.convert(small_net, path)


def test_lack_of_time_or_memory_leaves_the_read_back(small_net: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = convert(small_net, tmp_path / "net.h5", OverBudget("Fake took more than 3 s."), monkeypatch)
    assert report.ok and "read" in report.proof.target and (tmp_path / "net.h5").exists()
    assert "fake 1.0 (oracle fake) could not judge the file: Fake took more than 3 s." in report.to_text()


@pytest.mark.parametrize("word", [RunError("Fake refuses the file."), {}, {"a": np.zeros((4, 5)), "b": np.zeros(1)}])
def test_a_refusal_fails_the_conversion(small_net: ir.Model, tmp_path: Path, word: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"refuses the file|another number of outputs"):
        convert(small_net, tmp_path / "net.h5", word, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_the_judge_is_named_and_heard(small_net: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = convert(small_net, tmp_path / "net.h5", {"prob": np.full((4, 5), 0.2, np.float32)}, monkeypatch)
    assert not report.ok and "fake 1.0 (oracle fake)" in report.proof.oracle and not (tmp_path / "net.h5").exists()
