"""Whatever the bytes: a message, or one error; in little memory, and in time that grows with the length only."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from official import CLASSES, SCHEMA, official, plain

from niudao.errors import LimitError, ReadError
from niudao.formats.protobuf import binary, text
from niudao.formats.protobuf.message import Limits, Message, message
from niudao.formats.protobuf.varints import encode

SPANS = {"Layer": {"r_real", "loose", "r_i64", "r_u64", "r_flag"}, "Inner": {"moods"}, "Net": {"blob"}}


def sample() -> Message:
    """A message with something of everything."""
    layer = {
        "i32": -5,
        "real": 0.5,
        "text": "x\n",
        "data": b"\xff",
        "r_real": [1.0, 2.0],
        "loose": [3.0, 4.0],
        "r_i64": [1, -1],
        "r_u64": [7, 8],
    }
    inner = {"mode": "AVE", "modes": ["MAX", "AVE"], "moods": ["SAD", "ODD"], "deeps": [{"size": 3, "word": ["a", "é"]}]}
    return message(SCHEMA, "Net", name="n", layer=[layer, {"flag": True}], inner=inner, blob=b"\x00\x01", labels=[{"key": "k", "value": 2}])


def binary_sample() -> bytes:
    stream = io.BytesIO()
    binary.write(sample(), stream)
    return stream.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(5):
            case 0 if out:
                out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            case 1 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                del out[at : at + rng.randint(1, 5)]
            case 3:
                out[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 5)))
            case _:
                out[at:at] = out[rng.randrange(len(out) + 1) :][: rng.randint(1, 20)]
    return bytes(out)


def judged(data: bytes) -> bool:
    """Read bytes in every way; whether they are a message. Where Google reads them so do we, and the same; and the reverse."""
    try:
        theirs = CLASSES["Net"].FromString(data)
    except DecodeError:
        theirs = None
    for spans in ({}, SPANS):
        try:
            found = binary.read(data, SCHEMA, "Net", file="f", spans=spans, lenient_text=SCHEMA.messages)
        except ReadError:
            assert theirs is None
            continue
        assert theirs is not None
        binary.size(found)
        assert len(list(found.walk_unknown())) <= len(data)
        with contextlib.suppress(ReadError):  # Google keeps strings that are no UTF-8 in its own way
            strict = binary.read(data, SCHEMA, "Net", file="f", spans=spans)
            if not nameless(strict):
                assert plain(strict) == official(theirs, SCHEMA, "Net")
    return theirs is not None


def nameless(found: Message) -> bool:
    """Whether it holds enum values without a name, which Google does not show."""
    inner = [m for m in walk(found) if m.kind == "Inner"]
    return any(isinstance(v, int) for m in inner for name in ("mode", "modes", "moods") for v in m.all(name))


def walk(found: Message) -> Iterator[Message]:
    yield found
    for values in found.fields.values():
        for v in values:
            if isinstance(v, Message):
                yield from walk(v)


def test_every_cut_of_a_file() -> None:
    data = binary_sample()
    assert judged(data)
    assert sum(judged(data[:n]) for n in range(len(data))) < len(data) / 2


def test_mutations_of_a_file() -> None:
    rng = random.Random(0)
    data = binary_sample()
    good = sum(judged(mutated(data, rng)) for _ in range(4000))
    assert 200 < good < 3800


def test_every_cut_and_many_mutations_of_a_text() -> None:
    rng = random.Random(1)
    data = text.write(sample()).encode()
    broken = 0
    for bad in [data[:n] for n in range(len(data))] + [mutated(data, rng) for _ in range(4000)]:
        try:
            text.write(text.read(bad, SCHEMA, "Net", file="f"))
        except ReadError as e:
            broken += 1
            assert "\n" not in str(e) and len(str(e)) < 700
    assert broken > 1000


def message_bytes(number: int, inner: bytes) -> bytes:
    return encode(number << 3 | 2) + encode(len(inner)) + inner


def nested(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = message_bytes(4, data)
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x00", "at byte 0: no field has the number 0"),
        (b"\x0a\x05ab", "Net.name says 5 bytes and 2 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes and 0 are left"),
        (b"\x0a" + b"\xff" * 11, "longer than ten bytes"),
        (b"\xff", "ends inside a number"),
        (b"\x0b", "ends inside a number"),  # a group that never ends
        (b"\x0c", "a group ends that has not begun"),
        (b"\x53\x5c", "a group ends that has not begun"),  # begun as 10, ended as 11
        (b"\x0f", "wire type 7"),
        (b"\x55\x00", "ends inside a field"),
        (b"\x0a\x02\xe9a", "Net.name is no UTF-8 text"),
        (message_bytes(100, message_bytes(32, b"12345")), r"in layer\[0\]: Layer.r_real holds 5 bytes"),
        (message_bytes(100, b"") + message_bytes(100, message_bytes(22, b"\xff")), r"in layer\[1\]: Layer.r_i64 holds 1 bytes"),
        (message_bytes(2, message_bytes(4, b"\x08")), r"in inner\.deep"),
    ],
)
def test_broken_bytes_are_named(data: bytes, words: str) -> None:
    for spans in ({}, SPANS):
        with pytest.raises(ReadError, match=words) as caught:
            binary.read(data, SCHEMA, "Net", file="f", spans=spans)
        assert caught.value.where.file == "f"


def test_binary_limits_hold() -> None:
    binary.read(nested(100), SCHEMA, "Net", file="f")
    groups = b"".join(encode(n << 3 | 3) for n in range(50, 151)) + b"".join(encode(n << 3 | 4) for n in range(150, 49, -1))
    for data in (nested(101), nested(5000), groups):
        with pytest.raises(LimitError, match="deeper than 100"):
            binary.read(data, SCHEMA, "Net", file="f")
    with pytest.raises(LimitError, match="more than 10 messages"):
        binary.read(message_bytes(100, b"") * 20, SCHEMA, "Net", file="f", limits=Limits(messages=10))
    small = Limits(bytes=100_000)
    loose = encode(34 << 3 | 5) + b"\0\0\0\0" + b"\x08\x01"
    for inner in (message_bytes(27, b"\x01" * 5000), b"\xa8\x01\x01" * 5000, loose * 1000, message_bytes(14, b"a" * 200_000)):
        with pytest.raises(LimitError, match="memory"):
            binary.read(message_bytes(100, inner), SCHEMA, "Net", file="f", limits=small, spans={"Layer": {"loose"}})


def test_64_megabytes_of_loose_numbers_take_little_memory() -> None:
    count = 64_000_000 // 6
    rows = np.empty((count, 6), np.uint8)
    rows[:, :2] = list(encode(34 << 3 | 5))
    rows[:, 2:] = np.arange(count, dtype="<f4").view(np.uint8).reshape(count, 4)
    data = encode(100 << 3 | 2) + encode(rows.size) + rows.tobytes()
    tracemalloc.start()
    found = binary.read(data, SCHEMA, "Net", file="f", spans={"Layer": {"loose"}})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (span,) = found.all("layer")[0].fields["loose"]
    assert most < 8_000_000 and span.count == count and len(span.runs) == 1
    assert np.array_equal(span.array(), np.arange(count, dtype=np.float32))


BOMBS: dict[str, Callable[[int], bytes]] = {
    "words": lambda n: b"zebra:a " * n,
    "different words": lambda n: b"".join(b"rea%d:1 " % i for i in range(n)),
    "blocks on one line": lambda n: b"layer{}" * n,
    "blocks on many lines": lambda n: b"layer{\n}\n" * n,
    "quotes": lambda n: b"name:'" + b"\\" * 16 * n,
    "escapes": lambda n: b"name:'" + b"\\u0041\\101" * n + b"'",
    "strings": lambda n: b"name:" + b"'' " * n,
    "a comment": lambda n: b"#" * 16 * n,
    "spaces": lambda n: b" " * 16 * n + b"\x01",
    "digits": lambda n: b"layer{real:" + b"1" * 16 * n + b"}",
    "a long name": lambda n: b"n" * 16 * n + b":1",
    "newlines": lambda n: b"\r" * 16 * n + b"}",
    "brackets": lambda n: b"zebra:" + b"[]" * n,
    "lists": lambda n: b"layer{r_i32:[" + b"1," * n + b"1]}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_texts_take_linear_work(name: str) -> None:
    """Counted in calls, which no busy machine disturbs; what a call does with a whole text is bounded by the judge of the bad files."""

    def calls(n: int) -> int:
        data, count = BOMBS[name](n), 0

        def called(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(called)
        try:
            text.read(data, SCHEMA, "Net", file="f")
        except ReadError as e:
            assert len(str(e)) < 700
        finally:
            sys.setprofile(None)
        return count

    assert calls(16_000) < 10 * calls(2_000) + 1000
