"""The pickle machine against Python's own pickles: plain values come out as they went in, and nothing else is ever called."""

from __future__ import annotations

import argparse
import collections
import copy
import datetime
import enum
import functools
import os
import pathlib
import pickle as python
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niudao.errors import LimitError, ReadError, Where
from niudao.formats.pytorch.checkpoint import pickle
from niudao.formats.pytorch.checkpoint.described import Array, Instance

HERE = Where(file="test.pkl")

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.booleans() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.sets(st.integers(), max_size=4)
    ),
    max_leaves=30,
)


def load(data: bytes) -> Any:
    value, end = pickle.read(data, HERE)
    assert end == len(data)
    return value


@settings(max_examples=300, deadline=None)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values(value: Any, protocol: int) -> None:
    assert load(python.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_shared_and_circular(protocol: int) -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    found = load(python.dumps({"a": inner, "b": inner}, protocol))
    assert found["a"] is found["b"] and found["a"][1] is found["a"]


class Mode(enum.Enum):
    TRAIN = 1


class Settings:
    def __init__(self) -> None:
        self.rate = 0.1


class Table(dict):  # type: ignore[type-arg]
    pass


class Rows(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("protocol", range(6))
def test_what_programs_keep_beside_weights(protocol: int) -> None:
    """Containers are what they are; objects are their class's name and their attributes."""
    rows = Rows([1, 2])
    value = {
        "ordered": collections.OrderedDict(a=1, b=2),
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("aab"),
        "args": argparse.Namespace(lr=0.1, name="x"),
        "settings": Settings(),
        "table": Table(a=1),
        "rows": rows,
        "path": pathlib.PurePosixPath("runs/one"),
        "when": datetime.datetime(2024, 1, 2),
        "partial": functools.partial(dict, a=1),
    }
    found = load(python.dumps(value, protocol))
    assert found["ordered"] == {"a": 1, "b": 2} and found["default"] == {"a": [1]} and found["counter"] == {"a": 2, "b": 1}
    assert found["args"].name == "argparse.Namespace" and found["args"].state == {"lr": 0.1, "name": "x"}
    assert found["settings"].name == f"{Settings.__module__}.Settings" and found["settings"].state == {"rate": 0.1}
    if protocol >= 2:
        assert found["table"].items == {"a": 1} and found["rows"].values == [1, 2]
    assert all(isinstance(found[k], Instance) for k in ("path", "when", "partial"))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_enumerations(protocol: int) -> None:
    found = load(python.dumps(Mode.TRAIN, protocol))
    assert isinstance(found, Instance) and found.name == f"{Mode.__module__}.Mode"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i1", "i8", "u2", "?"])
def test_numpy(dtype: str, protocol: int) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = load(python.dumps([array, np.asfortranarray(array), array.dtype.type(1)], protocol))
    assert all(isinstance(a, Array) for a in found)
    for a, want, order in ((found[0], array, "C"), (found[1], array, "F"), (found[2], array.dtype.type(1), "C")):
        stored = np.dtype(a.dtype.name).newbyteorder(">" if a.dtype.big_endian else "<")
        assert np.array_equal(
            np.frombuffer(a.data, stored).reshape(a.shape, order="F" if a.fortran else order if not a.fortran else "C"), want
        )


class Calls:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (exec, "exec"),
        (open, "open"),
        (getattr, "getattr"),
        (print, "print"),
        (copy.copy, "copy"),
        (os.getcwd, "getcwd"),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_calls_are_refused_by_name(function: Any, name: str, protocol: int, tmp_path: pathlib.Path) -> None:
    data = python.dumps({"a": 1, "b": Calls(function, f"touch {tmp_path}/executed")}, protocol)
    with pytest.raises(ReadError, match=rf"{name}.*nothing was run"):
        load(data)
    assert not list(tmp_path.iterdir())


def test_every_cut_is_refused() -> None:
    data = python.dumps({"a": [1, 2.0, "x"], "b": (None, True)}, 4)
    for length in range(len(data)):
        with pytest.raises(ReadError):
            pickle.read(data[:length], HERE)


def test_a_tuple_of_tuples_as_a_key_is_not_hashed() -> None:
    """Sixty bytes whose hash takes 2^60 steps."""
    key = b")" + b"2\x86" * 60
    with pytest.raises(ReadError, match="keys"):
        pickle.read(b"\x80\x02}" + key + b"K\x01s.", HERE)


def test_limits() -> None:
    few = pickle.Limits(steps=100, objects=10)
    with pytest.raises(LimitError):
        pickle.read(python.dumps([0.5] * 200), HERE, limits=few)
    with pytest.raises(LimitError):
        pickle.read(python.dumps([[] for _ in range(20)]), HERE, limits=few)
    assert len(pickle.read(python.dumps([0.5] * 50), HERE, limits=few)[0]) == 50
