"""Bad files of every kind, each read in a child with 5 s of computing and 500 MB: one NiudaoError, or, for controls, a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bad_caffemodel
import bad_h5
import bad_onnx
import bad_prototxt
import bad_torch
import bad_zip
import pytest
from badfile import BadFile
from judge import MEGABYTES, Ending, Judge
from keras_config import CANARY
from mutate import mutate
from onnx_words import ODD
from structure import MUTATE

FORMATS: dict[str, Any] = {"onnx": bad_onnx, "h5": bad_h5, "keras": bad_zip, "caffe": bad_prototxt, "caffemodel": bad_caffemodel}
ENDINGS = {"onnx": ".onnx", "h5": ".h5", "keras": ".keras", "caffe": ".prototxt", "caffemodel": ".caffemodel"}
FORMATS |= bad_torch.KINDS
ENDINGS |= {name: kind.ending for name, kind in bad_torch.KINDS.items()}
DAMAGE = MUTATE | {name: kind.damage for name, kind in bad_torch.KINDS.items()}
"""How a format's files are damaged so that lengths and containers stay right."""
VERB = dict.fromkeys(bad_torch.KINDS, "checkpoint")
"""How the judge opens a format, where that is not `read`."""
MUTATIONS = dict.fromkeys(FORMATS, 1000) | dict.fromkeys(bad_torch.KINDS, 300)
"""Seeds of either kind of damage, for each format; `fuzz.py` runs more."""
SHORTER = ("caffe", "caffemodel")
"""Formats in which the beginning of a network may be a network."""
CASES = [(f, c) for f, module in FORMATS.items() for c in module.cases()]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as running:
        yield running


def fault(case: BadFile, ending: Ending, folder: Path) -> str | None:
    """What is wrong with this ending, or None."""
    if ending.kind not in ("opened", "refused"):
        return f"{ending.kind} {ending.error}: {ending.text[-400:]}"
    if ending.megabytes > MEGABYTES:
        return f"took {ending.megabytes:.0f} MB"
    if list(folder.rglob(CANARY)):
        return "code of the file was executed"
    if ending.faults:
        return f"the answer has {', '.join(ending.faults)}: {ending.text[:200]!r}"
    if case.verdict == "open" and ending.kind != "opened":
        return f"a control was refused: {ending.text[:300]}"
    if case.verdict == "refuse" and ending.kind != "refused":
        return f"was opened: {ending.text}"
    if ending.kind == "refused" and case.verdict == "refuse" and not re.search(case.says, ending.text, re.I | re.S):
        return f"the answer does not say {case.says!r}: {ending.text[:300]}"
    return None


@pytest.mark.parametrize(("format_", "case"), [pytest.param(f, c, id=f"{f}-{c.name}") for f, c in CASES])
def test_bad_file(format_: str, case: BadFile, judge: Judge, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    assert fault(case, judge.read(path, tmp_path, VERB.get(format_, "read")), tmp_path) is None


def test_there_are_enough() -> None:
    for format_ in FORMATS:
        names = [c.name for f, c in CASES if f == format_]
        assert len(names) == len(set(names)) >= 40
        assert any(c.verdict == "open" for f, c in CASES if f == format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_cut(format_: str, judge: Judge, tmp_path: Path) -> None:
    """A file that ends early is refused, wherever it ends; or it is a shorter network."""
    data = FORMATS[format_].good()
    path = tmp_path / f"net{ENDINGS[format_]}"
    faults = []
    for length in range(0, len(data), 1 if len(data) < 4096 else 31):
        path.write_bytes(data[:length])
        ending = judge.read(path, tmp_path, VERB.get(format_, "read"))
        what = fault(BadFile("", Path, verdict="either" if format_ in SHORTER else "refuse"), ending, tmp_path)
        if what is not None:
            faults.append(f"{length} of {len(data)}: {what}")
    assert not faults, faults[:3]


@pytest.mark.parametrize("format_", FORMATS)
def test_mutations(format_: str, judge: Judge, tmp_path: Path) -> None:
    """Damaged files are read or refused, nothing else; `fuzz.py` runs more of the same seeds."""
    data = FORMATS[format_].good()
    path = tmp_path / f"net{ENDINGS[format_]}"
    faults = []
    for seed in range(MUTATIONS[format_]):
        path.write_bytes(mutate(data, seed))
        what = fault(BadFile("", Path, verdict="either"), judge.read(path, tmp_path, VERB.get(format_, "read")), tmp_path)
        if what is not None:
            faults.append(f"seed {seed}: {what}")
    assert not faults, faults[:3]


@pytest.mark.parametrize("format_", FORMATS)
def test_structured_mutations(format_: str, judge: Judge, tmp_path: Path) -> None:
    """Files whose lengths and containers are right and whose numbers, names and values are not."""
    data = FORMATS[format_].good()
    path = tmp_path / f"net{ENDINGS[format_]}"
    faults = []
    for seed in range(MUTATIONS[format_]):
        path.write_bytes(DAMAGE[format_](data, seed))
        what = fault(BadFile("", Path, verdict="either"), judge.read(path, tmp_path, VERB.get(format_, "read")), tmp_path)
        if what is not None:
            faults.append(f"seed {seed}: {what}")
    assert not faults, faults[:3]


ODD_NAMES = [
    *(("onnx", f"odd-names-{n}") for n in ODD),
    ("onnx", "meta-card-text"),
    ("keras", "trap-meta-class-types"),
    ("keras", "config-text-newline-names"),
    ("keras", "config-text-bidi-names"),
    ("onnx", "names-control"),
    ("onnx", "names-bidi"),
    ("keras", "config-unknown-layer-Frob_[31mnicate"),
    ("keras", "config-unknown-layer-_evil"),
    ("keras", "member-bidi"),
    ("h5", "version-text"),
]


@pytest.mark.parametrize(("format_", "name"), ODD_NAMES)
def test_no_control_character_reaches_the_terminal(format_: str, name: str, judge: Judge, tmp_path: Path) -> None:
    case = next(c for f, c in CASES if f == format_ and c.name == name)
    ending = judge.read(case.make(tmp_path), tmp_path, verb="inspect")
    assert ending.kind in ("opened", "refused"), ending.text
    assert not ending.faults, ending.faults


@pytest.mark.parametrize("format_", FORMATS)
def test_convert_leaves_nothing_behind(format_: str, judge: Judge, tmp_path: Path) -> None:
    """Every ninth case through the command line: exit 0 with the file, or exit 1 or 3 with nothing (NaN is not even the same as itself)."""
    for i, case in enumerate([c for f, c in CASES if f == format_][::9]):
        folder = tmp_path / str(i)
        folder.mkdir()
        ending = judge.read(case.make(folder), folder, verb="convert")
        assert ending.kind in ("opened", "refused"), f"{case.name}: {ending.text}"
        assert not ending.faults, f"{case.name}: {ending.faults} {ending.text[-300:]}"
        assert ending.kind == "refused" or case.verdict != "refuse", f"{case.name}: exit 0"
