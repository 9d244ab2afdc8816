"""Texts are read and written as Google's protobuf does it, except where people need more."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official import CLASSES, SCHEMA, filled, official, plain
from strategies import messages

from niudao.errors import LimitError, ReadError
from niudao.formats.protobuf import text
from niudao.formats.protobuf.message import Limits, Message, message

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def read(data: str | bytes, kind: str = "Net", **options: Any) -> Message:
    return text.read(data.encode() if isinstance(data, str) else data, SCHEMA, kind, file="f", **options)


@QUICK
@given(messages(SCHEMA, "Net"), st.integers(0, 8))
def test_what_we_write_google_reads(fields: dict[str, Any], indent: int) -> None:
    ours = message(SCHEMA, "Net", **fields)
    written = text.write(ours, indent)
    theirs = text_format.Parse(written, CLASSES["Net"]())
    assert official(theirs, SCHEMA, "Net") == plain(ours)
    assert plain(read(written)) == plain(ours)


@QUICK
@given(messages(SCHEMA, "Net"), st.booleans(), st.booleans(), st.booleans())
def test_what_google_writes_we_read(fields: dict[str, Any], one_line: bool, short: bool, pointy: bool) -> None:
    values = plain(message(SCHEMA, "Net", **fields))
    theirs = filled(SCHEMA, "Net", values, CLASSES["Net"]())
    written = text_format.MessageToString(theirs, as_one_line=one_line, use_short_repeated_primitives=short, pointy_brackets=pointy)
    assert plain(read(written)) == values


SPELLINGS = [
    "i32: 5", "i32:5", "i32 : 5", "i32: -5", "i32: 0x1F", "i32: -0x1f", "i32: 010", "i32: 08", "i32: 5.0", "i32: 5e0", "i32: 5f",
    "i32: '5'", "i32: 2147483648", "i32: -2147483648", "i32: -2147483649", "u32: -1", "u32: 4294967295", "u32: 4294967296",
    "u64: 18446744073709551615", "u64: 99999999999999999999", "i64: -9223372036854775808", "real: 1", "real: 1.", "real: .5",
    "real: 1f", "real: 1.5F", "real: 1e-3", "real: 1E+3", "real: 1e", "real: 0x10", "real: 010", "real: inf", "real: -inf",
    "real: Infinity", "real: nan", "real: -nan", "real: 1e39", "real: -1e39", "real: 1e-50", "real: true", "real: 1.2.3", "wide: 1e400",
    "real: 0", "real: -0.0", "flag: true", "flag: false", "flag: t", "flag: f", "flag: 1", "flag: 0", "flag: 2", "flag: True",
    "flag: yes", "flag: 'true'", "flag: -1", "text: 'a'", 'text: "a"', "text: 'a' \"b\"\n'c'", r"text: '\n\t\'\"\\\a'",
    r"text: '\101\x41\x4'", r"text: '\303\251'", r"text: '\u00e9\U0001F600'", "text: 'é'", "text: a", "text: 'a\nb'", "text: 'a",
    "text: 1", r"data: '\377\000'", "text: ''", "i32", "i32: ", "i32 5", "i32: 5 i32: 6", "i32: 5, u32: 6", "i32: 5; u32: 6;",
    "r_i32: [1, 2]", "r_i32: []", "r_i32: [1,]", "r_i32: [1 2]", "r_i32: 1 r_i32: [2, 3] r_i32: 4", "i32: [1]",
    "r_text: ['a' 'b', \"c\"]", "# nothing\ni32: 5 # five", "i32: 5#x", "i32: 5}", "{i32: 5}", "<i32: 5>", "i32: 5 u32", "",
    " \t\n\r\v\f", "r_real: [1, -inf, .5, 2f]", "i32: 5u32: 6", "f64: 0xffffffffffffffff", "r_flag: [t, 0, true]",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_means_what_google_says_or_is_refused_as_google_does(spelling: str) -> None:
    try:
        expected: Any = official(text_format.Parse(spelling, CLASSES["Layer"]()), SCHEMA, "Layer")
    except text_format.ParseError:
        expected = None
    try:
        found: Any = plain(read(spelling, "Layer"))
    except ReadError as e:
        found = None
        assert str(e).startswith("line ")
    assert found == expected


NESTED = [
    "inner { mode: MAX }", "inner: { mode: MAX }", "inner < mode: MAX >", "inner: < mode: MAX >", "inner { mode: 2 }",
    "inner { mode: 7 }", "inner { mode: 'MAX' }", "inner { mode: MAXX }", "inner { mode: max }", "inner { moods: -2 }",
    "inner { moods: [SAD, GLAD, 0] }", "inner { } inner { }", "inners { } inners: { }", "inners [{ mode: MAX }, < mode: AVE >]",
    "inners: [{ }]", "inners: []", "inner { mode: MAX >", "inner < mode: MAX }", "inner {", "inner { deep { }", "inner: 5", "inner",
    "inner { mode: MAX };", "inner { mode: MAX }, name: 'x'", "labels { key: 'a' value: 3 }", "net{net{net{net{name:'x'}}}}",
]  # fmt: skip


@pytest.mark.parametrize("spelling", NESTED)
def test_blocks_mean_what_google_says(spelling: str) -> None:
    try:
        theirs = text_format.Parse(spelling, CLASSES["Net"]())
        expected: Any = official(theirs, SCHEMA, "Net")
    except text_format.ParseError:
        expected = None
    try:
        found: Any = plain(read(spelling))
    except ReadError:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    ("spelling", "values"),
    [
        ("name: 'a';; , inner { };", {"name": ["a"], "inner": [{}]}),
        ("\ufeffname: 'a'", {"name": ["a"]}),
        ("name: 'a' # \u4f60\r\nblob: 'b'\rinner {}", {"name": ["a"], "blob": [b"b"], "inner": [{}]}),
    ],
)
def test_what_people_write_beyond_the_rules(spelling: str, values: dict[str, Any]) -> None:
    assert plain(read(spelling)) == values


def test_where_googles_readers_disagree_the_one_in_c_is_followed() -> None:
    assert read("layer { i32: - 5 }").all("layer")[0].get("i32") == -5
    assert read(r"name: '\?'").get("name") == "?"
    with pytest.raises(ReadError, match="'\\+' has no meaning"):
        read("layer { i32: +5 }")


def test_comments_may_be_in_any_encoding() -> None:
    assert read(b"# \xc4\xe3\xba\xc3\nname: 'a'").get("name") == "a"
    with pytest.raises(ReadError, match=r"line 1, column 7: Net\.name is no UTF-8"):
        read(b"name: '\xc4\xe3'")
    assert read(b"name: '\xc4a'", lenient_text={"Net"}).get("name") == "\\xc4a"
    with pytest.raises(ReadError, match="UTF-16"):
        read("name: 'a'".encode("utf-16"))


def test_places_are_counted_in_lines_and_columns() -> None:
    found = read("name: 'a'\r\nlayer {\n  i32: 5 }  layer { }\r\n\rinner { deep { } }")
    assert [(m.line, m.column) for m in found.all("layer")] == [(2, 7), (3, 19)]
    assert (found.sub("inner").line, found.sub("inner").column) == (5, 7)
    assert (found.sub("inner").sub("deep").line, found.sub("inner").sub("deep").column) == (5, 14)


@pytest.mark.parametrize(
    ("spelling", "message", "line"),
    [
        ("layer {\n  real_: 3\n}", "line 2, column 3: Layer has no field 'real_'; did you mean real?", 2),
        ("layer {\n I32: 3\n}", "line 2, column 2: Layer has no field 'I32'; did you mean i32?", 2),
        ("layer { i32: MAXX }", "line 1, column 14: Layer.i32 expects a whole number, found 'MAXX'.", 1),
        ("layer { real: 'x' }", "line 1, column 15: Layer.real expects a number, found \"'x'\".", 1),
        ("layer { flag: 7 }", "line 1, column 15: Layer.flag expects true or false, found '7'.", 1),
        ("inner { mode: MAXX }", "line 1, column 15: Inner.mode has no value 'MAXX'; did you mean MAX?", 1),
        ("inner { mode: 9 }", "line 1, column 15: Inner.mode has no value '9'; it is one of MAX, AVE, STOCHASTIC.", 1),
        ("inner { mode: 'MAX' }", "line 1, column 15: Inner.mode expects a name without quotes, found \"'MAX'\".", 1),
        ("layer { u32: -1 }", "line 1, column 14: Layer.u32 (uint32) cannot hold '-1'.", 1),
        ("\nlayer {\n i32: 3\n\n", "line 5, column 1: layer, opened at line 2, is not closed.", 5),
        ("layer { i32: 3 >", "line 1, column 16: '}' is missing: layer was opened at line 1.", 1),
        ("name: 'x' }", "line 1, column 11: '}' closes nothing.", 1),
        ("name: 'x\n", "line 1, column 7: a text in quotes does not end on its line.", 1),
        ("name 'x'", "line 1, column 6: expected ':' after name, found \"'x'\".", 1),
        ("name: 'x' name: 'y'", "line 1, column 11: Net has one name, and here is a second.", 1),
        ("layer: 3", "line 1, column 8: Net.layer expects a block in braces, found '3'.", 1),
        ("layer: { i32: [1] }", "line 1, column 15: Layer.i32 holds one value, no list.", 1),
        ("name:\xa0'x'", "line 1, column 6: '\\xa0' has no meaning here.", 1),
        (r"name: '\q'", r"line 1, column 7: the escape '\\q' has no meaning.", 1),
        (r"name: '\ud800'", "line 1, column 7: an escape names no character.", 1),
        ("strange {\n a { b: [\n }", "line 3, column 2: '}' closes nothing inside 'strange', opened at line 1.", 3),
        ("strange {", "line 1, column 10: 'strange', opened at line 1, is not closed.", 1),
        ("strange 5", "line 1, column 9: expected ':' or a block after 'strange', found '5'.", 1),
    ],
)
def test_errors_say_line_and_column(spelling: str, message: str, line: int) -> None:
    with pytest.raises(ReadError) as caught:
        read(spelling)
    assert caught.value.message == message
    assert (caught.value.where.file, caught.value.where.line) == ("f", line)


def test_strange_fields_are_passed_over_whole() -> None:
    found = read(
        """
        name: "n"
        zebra: -5 zebra: 'a' "b"; zebra: SOME
        zebra { x: 1 y < z: [1, {q: 2}] > }
        layer { zebra: [1, 2, 3] i32: 4 quagga: { a: '}' # }
          } }
        [some.extension/of.ours] { a: 1 }
        77: 3
        inner { deep { zebra <> size: 3 } }
        """
    )
    assert plain(found) == {"name": ["n"], "layer": [{"i32": [4]}], "inner": [{"deep": [{"size": [3]}]}]}
    listed = [(path, u.name, u.line) for path, u in found.walk_unknown()]
    assert listed == [
        *[("", "zebra", n) for n in (3, 3, 3, 4)],
        ("", "[some.extension/of.ours]", 7),
        ("", "77", 8),
        ("layer[0]", "zebra", 5),
        ("layer[0]", "quagga", 5),
        ("inner.deep", "zebra", 9),
    ]


def test_a_text_is_what_a_person_would_have_written() -> None:
    net = message(
        SCHEMA,
        "Net",
        name='net "a" é\n',
        inner={"mode": "MAX", "left": 0.1, "moods": ["SAD", "GLAD"]},
        layer=[{"i32": 3, "real": 1.0, "wide": 0.1, "flag": False, "r_real": [1e-5, 123456789.0, float("inf")]}, {}],
        net={"inner": {"deep": {"size": 1}}, "layer": [{"text": "x" * 100}]},
    )
    assert text.write(net) == (
        'name: "net \\"a\\" é\\n"\n'
        "inner {\n  mode: MAX\n  left: 0.1\n  moods: SAD\n  moods: GLAD\n}\n"
        "layer {\n  i32: 3\n  real: 1\n  wide: 0.1\n  flag: false\n  r_real: 1e-05\n  r_real: 1.2345679e+08\n  r_real: inf\n}\n"
        "layer { }\n"
        f'net {{\n  inner {{ deep {{ size: 1 }} }}\n  layer {{\n    text: "{"x" * 100}"\n  }}\n}}\n'
    )


def test_limits_hold() -> None:
    deep = "net{" * 101 + "}" * 101
    for spelling in (deep, "zebra{" * 101 + "}" * 101, "zebra:" + "[" * 101 + "]" * 101):
        with pytest.raises(LimitError, match="deeper than 100"):
            read(spelling)
    read("net{" * 100 + "}" * 100)
    with pytest.raises(LimitError, match="more than 10 messages"):
        read("layer{}" * 20, limits=Limits(messages=10))
    with pytest.raises(LimitError, match="memory"):
        read("layer{r_i32:[" + "1," * 1000 + "1]}", limits=Limits(bytes=20_000))
    with pytest.raises(LimitError, match="longer"):
        read("#" * 1000, limits=Limits(bytes=3000))
