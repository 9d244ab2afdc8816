"""Google's own protobuf for the same schema: the judge of what we read and write."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import message as google

from niudao.formats.protobuf.message import Message, Span
from niudao.formats.protobuf.schema import Field, Schema, parse

TEXT = """
syntax = "proto2";
package test;
import "nothing.proto";
// every scalar type, alone and repeated, packed and not
enum Mood { GLAD = 0; SAD = 3; ODD = -2; }
message Net {
  optional string name = 1 [default = "a b"];
  repeated Layer layer = 100;
  optional Inner inner = 2;
  repeated Inner inners = 3;
  optional Net net = 4;
  optional bytes blob = 5;
  map<string, int32> labels = 6;
  extensions 1000 to max;
}
message Inner {
  enum Mode { MAX = 0; AVE = 1; STOCHASTIC = 2; }
  message Deep { optional uint32 size = 1; repeated string word = 2; }
  optional Mode mode = 1 [default = AVE];
  repeated Mode modes = 2;
  repeated Mood moods = 3 [packed = true];
  optional Deep deep = 4;
  repeated Deep deeps = 2000;
  oneof choice { float left = 5; int64 right = 6; }
}
message Layer {
  optional int32 i32 = 1 [default = -7];
  optional int64 i64 = 2;
  optional uint32 u32 = 3 [default = 0x10];
  optional uint64 u64 = 4;
  optional sint32 s32 = 5;
  optional sint64 s64 = 6;
  optional bool flag = 7 [default = true];
  optional fixed32 f32 = 8;
  optional fixed64 f64 = 9;
  optional sfixed32 sf32 = 10;
  optional sfixed64 sf64 = 11;
  optional float real = 12 [default = 0.1];
  optional double wide = 13 [default = 1e-5];
  optional string text = 14;
  optional bytes data = 15;
  repeated int32 r_i32 = 21;
  repeated int64 r_i64 = 22 [packed = true];
  repeated uint32 r_u32 = 23 [packed = true];
  repeated uint64 r_u64 = 24;
  repeated sint32 r_s32 = 25 [packed = true];
  repeated sint64 r_s64 = 26;
  repeated bool r_flag = 27 [packed = true];
  repeated fixed32 r_f32 = 28 [packed = true];
  repeated fixed64 r_f64 = 29;
  repeated sfixed32 r_sf32 = 30;
  repeated sfixed64 r_sf64 = 31 [packed = true];
  repeated float r_real = 32 [packed = true];
  repeated double r_wide = 33;
  repeated float loose = 34;
  repeated string r_text = 35;
  repeated bytes r_data = 36;
}
"""
SCHEMA = parse(TEXT)


def classes(schema: Schema) -> dict[str, type[google.Message]]:
    """Google's classes for every message of a schema; nested names are flattened, which changes nothing in a file."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{id(schema)}.proto", syntax="proto2")
    for name, values in schema.enums.items():
        house = file.message_type.add(name="E_" + name.replace(".", "_"))  # names of values are unique in one scope only
        enum = house.enum_type.add(name="E")
        enum.options.allow_alias = len(set(values.values())) < len(values)
        for word, number in values.items():
            enum.value.add(name=word, number=number)
    for kind, fields in schema.messages.items():
        target = file.message_type.add(name=kind.replace(".", "_"))
        for f in fields.values():
            if not f.number:
                continue
            added = target.field.add(name=f.name, number=f.number, label=kinds.LABEL_REPEATED if f.repeated else kinds.LABEL_OPTIONAL)
            match schema.kind(f.type):
                case "scalar":
                    added.type = getattr(kinds, f"TYPE_{f.type.upper()}")
                case "enum":
                    added.type, added.type_name = kinds.TYPE_ENUM, f".E_{f.type.replace('.', '_')}.E"
                case _:
                    added.type, added.type_name = kinds.TYPE_MESSAGE, "." + f.type.replace(".", "_")
            added.options.packed = f.packed
            if not f.packed:
                added.ClearField("options")
            if f.default is not None:
                added.default_value = str(f.default).lower() if f.type == "bool" else str(f.default)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {kind: message_factory.GetMessageClass(pool.FindMessageTypeByName(kind.replace(".", "_"))) for kind in schema.messages}


CLASSES = classes(SCHEMA)


def plain(message: Message) -> dict[str, Any]:
    """Our message as dicts and lists."""

    def value(v: Any) -> Any:
        return plain(v) if isinstance(v, Message) else same(v)

    return {name: [value(v) for v in message.all(name)] for name in message.fields if message.all(name)}


def official(message: google.Message, schema: Schema, kind: str) -> dict[str, Any]:
    """Google's message in the same form."""
    result: dict[str, Any] = {}
    for descriptor, held in message.ListFields():
        field = schema.messages[kind][descriptor.name]
        result[field.name] = [one(v, field, schema) for v in (held if field.repeated else [held])]
    return result


def one(value: Any, field: Field, schema: Schema) -> Any:
    """One value of Google's as ours."""
    match schema.kind(field.type):
        case "message":
            return official(value, schema, field.type)
        case "enum":
            return schema.names[field.type].get(value, value)
        case _:
            return same(value)


def same(value: Any) -> Any:
    """A value of which every two that mean the same are equal: NaN is none."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    return value


def filled(schema: Schema, kind: str, values: dict[str, Any], target: google.Message) -> google.Message:
    """Put `plain` values into Google's message."""
    for name, held in values.items():
        field = schema.messages[kind][name]
        for v in held:
            if schema.kind(field.type) == "message":
                inner = getattr(target, name)
                filled(schema, field.type, v, inner.add() if field.repeated else inner)
                inner if field.repeated else inner.SetInParent()
                continue
            v = schema.enums[field.type][v] if schema.kind(field.type) == "enum" else float(v) if field.type in ("float", "double") else v
            getattr(target, name).append(v) if field.repeated else setattr(target, name, v)
    return target


def numbers(span: Span) -> np.ndarray[Any, Any]:
    """The numbers of a span, copied."""
    return span.array().copy()
