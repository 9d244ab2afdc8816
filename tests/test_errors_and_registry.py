"""Errors say where, expected, got and next; registries suggest."""

from __future__ import annotations

import pytest

from niudao.errors import NiudaoError, ReadError, Refusal, UnknownName, Unsupported, UsageError, Where
from niudao.registry import Registry


def test_facts_come_in_reading_order_without_the_empty_ones() -> None:
    error = ReadError("cut off.", where=Where(file="a.onnx", node="conv1"), got="3 bytes", next="download it again")
    assert error.facts() == [("where", "a.onnx, node 'conv1'"), ("got", "3 bytes"), ("next", "download it again")]


def test_every_refusal_is_kept_and_eight_are_shown() -> None:
    error = Unsupported("Caffe", [Refusal(f"n{i}", "Det", "no such layer") for i in range(10)])
    assert "10 nodes" in error.message and "and 2 more" in error.message
    assert len(error.to_dict()["refusals"]) == 10  # type: ignore[arg-type]


def test_a_registry_suggests_the_nearest_name_and_takes_each_once() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("three", "trois")(3)
    assert registry["trois"] == 3 and "three" in registry and len(registry) == 2
    with pytest.raises(UnknownName) as caught:
        registry["thre"]
    assert "'three'" in str(caught.value.next)
    assert isinstance(caught.value, UsageError)
    with pytest.raises(ValueError, match="two entries"):
        registry.register("three")(4)


def test_all_errors_have_one_root() -> None:
    import niudao

    assert issubclass(niudao.NiudaoError, NiudaoError)
