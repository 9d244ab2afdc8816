"""What a bad file is, and the kinds of wrong bytes that every format meets."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["refuse", "open", "either"]


@dataclass(frozen=True)
class BadFile:
    """A case: how to make it, and what a good reader answers.

    Attributes:
        name: Words joined by `-`; unique in its format.
        make: Writes the case into an empty folder and returns the path to read.
        says: Regular expression that the answer must match (any case), where the answer is a refusal.
        verdict: "refuse": one NiudaoError; "open": an unbroken control; "either": both are right answers, nothing else is.
    """

    name: str
    make: Callable[[Path], Path]
    says: str = ""
    verdict: Verdict = "refuse"


def from_bytes(name: str, data: bytes | Callable[[], bytes], ending: str, says: str = "", verdict: Verdict = "refuse") -> BadFile:
    """A case that is one file with these bytes; large ones are given as a function, so that they are made when they are run."""

    def make(folder: Path) -> Path:
        path = folder / f"net{ending}"
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    return BadFile(name, make, says, verdict)


PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000") + bytes(40)
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>no such file</body></html>\n"
PICKLE = b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."


def a_zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            z.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def other_kinds(ending: str, good: bytes) -> Iterator[BadFile]:
    """Files of another kind under this ending, and the good file damaged in plain ways."""
    wrong = {
        "html": HTML,
        "png": PNG,
        "text": b"hello, this is no model\n" * 20,
        "pickle": PICKLE,
        "gzip": gzip.compress(good, mtime=0),
        "zip-of-text": a_zip({"readme.txt": b"hello"}),
        "zeros": bytes(4096),
        "ones": b"\xff" * 4096,
        "one-byte": good[:1],
        "git-lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        "shell-script": b"#!/bin/sh\ntouch /tmp/executed\n",
        "half-utf16": '{"a": 1}'.encode("utf-16"),
    }
    yield from_bytes("empty", b"", ending, "empty")
    for name, data in wrong.items():
        yield from_bytes(f"mislabelled-{name}", data, ending)
    for part in (4, 8, 16, 100, len(good) // 3, len(good) // 2, len(good) - 40, len(good) - 1):
        yield from_bytes(f"cut-at-{part}", good[:part], ending)
    yield from_bytes("head-lost", good[64:], ending)
    yield from_bytes("crlf", good.replace(b"\n", b"\r\n") if b"\n" in good else good[:30] + b"\r\n" + good[30:], ending, verdict="either")
    yield from_bytes(
        "middle-zeroed", good[: len(good) // 4] + bytes(len(good) // 2) + good[len(good) // 4 + len(good) // 2 :], ending, verdict="either"
    )
    yield BadFile("missing", lambda folder: folder / f"net{ending}", "exist|missing")
    yield BadFile("folder", lambda folder: _folder(folder, ending), "folder")
    yield BadFile("fifo", lambda folder: _fifo(folder, ending), "regular|pipe|file")
    yield BadFile("link-loop", lambda folder: _loop(folder, ending))
    yield BadFile("device", lambda folder: Path("/dev/zero"), "regular|device")
    yield BadFile("name-with-nul", lambda folder: folder / f"net\0{ending}")
    yield BadFile("name-too-long", lambda folder: folder / ("x" * 5000 + ending))


def _folder(folder: Path, ending: str) -> Path:
    (folder / f"net{ending}").mkdir()
    return folder / f"net{ending}"


def _fifo(folder: Path, ending: str) -> Path:
    os.mkfifo(folder / f"net{ending}")
    return folder / f"net{ending}"


def _loop(folder: Path, ending: str) -> Path:
    (folder / f"net{ending}").symlink_to(folder / "other")
    (folder / "other").symlink_to(folder / f"net{ending}")
    return folder / f"net{ending}"
