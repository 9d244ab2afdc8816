"""A schema says what the .proto text says, as far as Google's compiler saw the same text."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from official import SCHEMA

from niudao.formats.protobuf.scalars import single
from niudao.formats.protobuf.schema import Field, parse


def test_fields_have_full_types_and_defaults() -> None:
    net, inner, layer = (SCHEMA.messages[k] for k in ("Net", "Inner", "Layer"))
    assert net["name"] == Field("name", 1, "string", default="a b")
    assert net["layer"] == Field("layer", 100, "Layer", repeated=True)
    assert inner["mode"] == Field("mode", 1, "Inner.Mode", default="AVE")
    assert inner["moods"] == Field("moods", 3, "Mood", repeated=True, packed=True)
    assert inner["deep"].type == "Inner.Deep"
    assert inner["right"] == Field("right", 6, "int64")
    assert layer["i32"].default == -7 and layer["u32"].default == 16 and layer["flag"].default is True
    assert layer["real"].default == single(0.1) and layer["wide"].default == 1e-5
    assert SCHEMA.messages[net["labels"].type] == {"key": Field("key", 1, "string"), "value": Field("value", 2, "int32")}
    assert SCHEMA.enums == {"Mood": {"GLAD": 0, "SAD": 3, "ODD": -2}, "Inner.Mode": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}}
    assert [SCHEMA.kind(t) for t in ("int32", "Inner.Deep", "Mood")] == ["scalar", "message", "enum"]
    with pytest.raises(KeyError):
        SCHEMA.kind("Nobody")


def test_inner_names_hide_outer_ones() -> None:
    schema = parse(
        "enum E { A = 0; } message M { enum E { B = 0; } optional E e = 1; } message N { optional E e = 1; optional M.E f = 2; }"
    )
    assert schema.messages["M"]["e"].type == "M.E"
    assert schema.messages["N"]["e"].type == "E"
    assert schema.messages["N"]["f"].type == "M.E"


def test_proto3_packs_numbers() -> None:
    schema = parse(
        'syntax = "proto3"; message M { repeated float a = 1; repeated string b = 2; repeated int32 c = 3 [packed = false]; float d = 4; }'
    )
    assert [f.packed for f in schema.messages["M"].values()] == [True, False, False, False]


def test_a_field_without_number_is_for_texts_only() -> None:
    schema = parse("message M { optional int32 a = 0; optional int32 b = 0; optional int32 c = 1; }")
    assert list(schema.messages["M"]) == ["a", "b", "c"] and list(schema.numbered["M"]) == [1]


@pytest.mark.parametrize(
    "text",
    [
        "message M { optional T a = 1; }",
        "message M { optional int32 a = 1",
        "message M { optional int32 a = 1; optional int32 b = 1; }",
        "enum E { A = 0; } message M { optional E a = 1 [default = B]; }",
        "message M { optional int32 a 1; }",
    ],
)
def test_a_wrong_definition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.proto|no value"):
        parse(text)


def test_onnx_proto_is_read_as_googles_compiler_read_it() -> None:
    schema = parse((Path(onnx.__file__).parent / "onnx-ml.proto").read_text())
    pool = onnx.ModelProto.DESCRIPTOR.file
    judged = 0
    waiting = list(pool.message_types_by_name.items())
    while waiting:
        name, descriptor = waiting.pop()
        waiting += [(f"{name}.{n}", d) for n, d in descriptor.nested_types_by_name.items()]
        ours = schema.messages[name]
        assert set(ours) == set(descriptor.fields_by_name)
        for field in descriptor.fields:
            mine = ours[field.name]
            message, enum = field.message_type, field.enum_type
            scalar = {v: k for k, v in type(field).__dict__.items() if k.startswith("TYPE_")}[field.type].removeprefix("TYPE_").lower()
            full = (message or enum).full_name.removeprefix("onnx.") if message or enum else scalar
            assert (mine.number, mine.repeated, mine.packed, mine.type) == (field.number, field.is_repeated, field.is_packed, full)
            judged += 1
    assert judged > 100
