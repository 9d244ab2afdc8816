"""Bytes are read and written as Google's protobuf does it."""

from __future__ import annotations

import io
import mmap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from official import CLASSES, SCHEMA, filled, official, plain
from strategies import messages

from niudao.errors import LimitError, WriteError
from niudao.formats.protobuf import binary
from niudao.formats.protobuf.message import Lazy, Message, Span, message
from niudao.formats.protobuf.schema import parse
from niudao.formats.protobuf.varints import encode

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
NUMERIC = {name for name, field in SCHEMA.messages["Layer"].items() if field.repeated and field.type not in ("string", "bytes")}


def written(value: Message) -> bytes:
    stream = io.BytesIO()
    binary.write(value, stream)
    assert binary.size(value) == len(stream.getvalue())
    return stream.getvalue()


def read(data: bytes, kind: str = "Net", **options: Any) -> Message:
    return binary.read(data, SCHEMA, kind, file="f", **options)


@QUICK
@given(messages(SCHEMA, "Net"))
def test_what_we_write_google_reads(fields: dict[str, Any]) -> None:
    ours = message(SCHEMA, "Net", **fields)
    data = written(ours)
    theirs = CLASSES["Net"].FromString(data)
    assert official(theirs, SCHEMA, "Net") == plain(ours)
    assert data == theirs.SerializeToString(deterministic=True)
    assert plain(read(data)) == plain(ours)


@QUICK
@given(messages(SCHEMA, "Layer"))
def test_what_google_writes_we_read(fields: dict[str, Any]) -> None:
    values = plain(message(SCHEMA, "Layer", **fields))
    data = filled(SCHEMA, "Layer", values, CLASSES["Layer"]()).SerializeToString()
    assert plain(read(data, "Layer")) == values
    spanned = read(data, "Layer", spans={"Layer": NUMERIC})
    assert plain(spanned) == values
    assert all(isinstance(v, Span) for name in NUMERIC & set(values) for v in spanned.fields[name])
    assert written(spanned) == written(read(data, "Layer"))


@QUICK
@given(st.lists(st.tuples(messages(SCHEMA, "Net", 2), st.booleans()), min_size=2, max_size=4))
def test_messages_behind_each_other_are_merged(parts: list[tuple[dict[str, Any], bool]]) -> None:
    data = b"".join(written(message(SCHEMA, "Net", net=fields) if inside else message(SCHEMA, "Net", **fields)) for fields, inside in parts)
    assert plain(read(data)) == official(CLASSES["Net"].FromString(data), SCHEMA, "Net")


def test_values_that_were_added_are_merged_too() -> None:
    both = message(SCHEMA, "Net").add("inner", message(SCHEMA, "Inner", mode="MAX", modes=["AVE"]))
    both.add("inner", message(SCHEMA, "Inner", mode="AVE", modes=["MAX"], deep={"size": 3}))
    expected = {"mode": ["AVE"], "modes": ["AVE", "MAX"], "deep": [{"size": [3]}]}
    assert official(CLASSES["Net"].FromString(written(both)), SCHEMA, "Net")["inner"] == [expected]
    assert plain(both.sub("inner")) == expected


def test_absent_fields_have_the_schemas_values() -> None:
    layer, inner, net = message(SCHEMA, "Layer"), message(SCHEMA, "Inner"), message(SCHEMA, "Net")
    theirs = CLASSES["Layer"]()
    for name, field in SCHEMA.messages["Layer"].items():
        if not field.repeated:
            assert layer.get(name) == getattr(theirs, name)
            assert layer.get(name, None) is None and not layer.has(name) and layer.all(name) == []
    assert inner.get("mode") == "AVE" and net.sub("inner").get("mode") == "AVE" and not net.has("inner")
    with pytest.raises(KeyError, match="no field 'nothing'"):
        net.get("nothing")
    with pytest.raises(TypeError, match="cannot hold"):
        net.set("name", 3)


@pytest.mark.parametrize("name", sorted(NUMERIC))
def test_packed_and_unpacked_and_split_numbers_are_one_field(name: str) -> None:
    field = SCHEMA.messages["Layer"][name]
    packed = parse(f"message Layer {{ repeated {field.type} {name} = {field.number} [packed = true]; }}")
    loose = parse(f"message Layer {{ repeated {field.type} {name} = {field.number}; }}")
    numbers = [1, 0, 1] if field.type == "bool" else [100, 3, 0]
    pieces = [
        written(message(s, "Layer", **{name: numbers[:n]})) for s, n in ((packed, 3), (loose, 2), (packed, 1), (loose, 3), (packed, 2))
    ]
    data = (b"\x08\x01").join(pieces)  # another field in between
    expected = official(CLASSES["Layer"].FromString(data), SCHEMA, "Layer")
    for spans in ({}, {"Layer": {name}}):
        found = read(data, "Layer", spans=spans)
        assert plain(found) == expected
    (span,) = found.fields[name]
    assert (
        span.count == 11
        and span.contiguous is None
        and span.array().tolist() == [*numbers, *numbers[:2], numbers[0], *numbers, *numbers[:2]]
    )


def test_a_span_says_where_its_numbers_lie(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 1000, dtype=np.float32)
    path = tmp_path / "m"
    with open(path, "wb") as stream:
        binary.write(message(SCHEMA, "Net", layer=[{"r_real": values}]), stream)
    with open(path, "rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    (span,) = binary.read(mapped, SCHEMA, "Net", file="f", spans={"Layer": {"r_real"}}).all("layer")[0].fields["r_real"]
    assert span.contiguous is not None and span.contiguous == (span.pieces[0][0], 4000)
    assert np.array_equal(np.fromfile(path, "<f4", 1000, offset=span.contiguous[0]), values)
    assert np.array_equal(span.array(), values) and not span.array().flags.owndata
    assert span.array(np.float64).dtype == np.float64


def test_bytes_can_be_a_span() -> None:
    data = written(message(SCHEMA, "Net", blob=b"\x00\x01\xff"))
    found = read(data, spans={"Net": {"blob"}})
    (span,) = found.fields["blob"]
    assert span.contiguous == (2, 3) and span.array().tobytes() == b"\x00\x01\xff" and written(found) == data


def test_arrays_are_made_one_at_a_time() -> None:
    class Made:
        def __init__(self, seed: int) -> None:
            self.seed = seed

        def __call__(self) -> np.ndarray[Any, Any]:
            return np.full((1000, 100), self.seed, np.float32)

    layers = [{name: [Lazy(100_000, "float", Made(i))]} for i in range(40) for name in ("r_real", "loose")]
    net = message(SCHEMA, "Net", layer=layers)

    class Sink(io.BytesIO):
        total = 0

        def write(self, data: Any) -> int:
            Sink.total += len(data)
            return len(data)

    tracemalloc.start()
    binary.write(net, Sink())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Sink.total == binary.size(net) > 40 * (400_000 + 600_000)
    assert most < 4_000_000


def test_lazy_numbers_are_what_google_reads() -> None:
    values = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    lazy = [Lazy(21, "float", lambda: values)]
    theirs = CLASSES["Layer"].FromString(written(message(SCHEMA, "Layer", r_real=lazy, loose=lazy, r_i64=np.arange(3), r_wide=values)))
    assert list(theirs.r_real) == list(theirs.loose) == list(theirs.r_wide) == values.ravel().tolist()
    assert list(theirs.r_i64) == [0, 1, 2]


def test_what_cannot_be_written_is_said() -> None:
    schema = parse("message M { optional int32 a = 1; optional int32 text_only = 0; repeated float f = 2; optional string s = 3; }")
    for fields in (
        {"text_only": 3},
        {"a": 1 << 31},
        {"f": [Lazy(3, "float", lambda: np.zeros(2))]},
        {"f": [Lazy(1, "double", lambda: np.zeros(1))]},
    ):
        with pytest.raises(WriteError):
            binary.write(message(schema, "M", **fields), io.BytesIO())
    with pytest.raises(WriteError, match="bytes"):
        binary.write(message(schema, "M", f=[Lazy(1 << 30, "float", lambda: np.zeros(1))]), io.BytesIO())
    with pytest.raises(WriteError, match="text"):
        binary.size(message(schema, "M", s="\ud800"))


def test_strange_fields_are_listed_with_their_path() -> None:
    strange = CLASSES["Layer"](i32=5, text="x", wide=1.0, real=2.0).SerializeToString()  # numbers 1, 14, 13, 12: Deep has only 1 and 2
    group = encode(50 << 3 | 3) + b"\x08\x05" + encode(51 << 3 | 3) + encode(51 << 3 | 4) + encode(50 << 3 | 4)
    deep = b"".join(encode(n) for n in (4 << 3 | 2, len(strange + group))) + strange + group
    found = read(written(message(SCHEMA, "Net", name="n")) + encode(3 << 3 | 2) + encode(len(deep)) + deep)
    assert [(path, u.name) for path, u in found.walk_unknown()] == [("inners[0].deep", f"field {n}") for n in (12, 13, 14, 50)]
    assert found.sub("inners").sub("deep").get("size") == 5


def test_a_wrong_wire_type_is_a_strange_field() -> None:
    data = b"\x08\x05" + b"\x1d\x00\x00\x00\x00"  # name as a number, inners as four bytes
    found = read(data)
    assert found.fields == {} and [u.name for u in found.unknown] == ["field 1", "field 3"]
    assert official(CLASSES["Net"].FromString(data), SCHEMA, "Net") == {}


def test_strings_that_are_no_utf8() -> None:
    data = b"\x0a\x02\xe9a"
    assert read(data, lenient_text={"Net"}).get("name") == "\\xe9a"


def test_an_onnx_model_is_read_as_onnx_reads_it(small_net: Any) -> None:
    import onnx_ir as ir

    schema = parse((Path(onnx.__file__).parent / "onnx-ml.proto").read_text())
    proto = ir.serde.serialize_model(small_net)
    data = proto.SerializeToString()
    found = binary.read(data, schema, "ModelProto", file="f", spans={"TensorProto": {"float_data", "raw_data"}})
    assert not list(found.walk_unknown())
    assert plain(found.sub("graph").all("node")[0]) == official(proto.graph.node[0], schema, "NodeProto")
    assert written(found) == written(binary.read(data, schema, "ModelProto", file="f"))
    assert onnx.ModelProto.FromString(written(found)) == proto


@QUICK
@given(
    st.lists(st.integers(-(1 << 63), (1 << 64) - 1), max_size=60),
    st.sampled_from(["int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool"]),
)
@example([1 << 63] * 20, "sint64")
def test_varints_in_bulk_mean_what_google_says(values: list[int], type: str) -> None:
    data = b"".join(encode(v & 0xFFFFFFFFFFFFFFFF) for v in values)
    name = {"bool": "r_flag"}.get(type, f"r_{type[0]}{type[-2:]}")
    data = encode(SCHEMA.messages["Layer"][name].number << 3 | 2) + encode(len(data)) + data
    theirs = list(getattr(CLASSES["Layer"].FromString(data), name))
    assert read(data, "Layer").all(name) == theirs
    for span in read(data, "Layer", spans={"Layer": {name}}).fields.get(name, []):
        assert span.count == len(theirs) and span.array().tolist() == theirs


def test_many_numbers_do_not_become_a_list() -> None:
    data = written(message(SCHEMA, "Layer", r_real=np.zeros(65537, np.float32)))
    found = read(data, "Layer", spans={"Layer": {"r_real"}})
    with pytest.raises(LimitError, match="65537"):
        found.all("r_real")
    assert len(found.fields["r_real"][0].array()) == 65537
