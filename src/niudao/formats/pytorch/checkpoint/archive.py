"""A zip archive as torch writes it: members measured before they are read, found by offset, never extracted.

Reference: `caffe2/serialize/inline_container.h` of PyTorch: everything lies below one folder, what is mapped is stored as it is.
"""

from __future__ import annotations

import io
import itertools
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats import documents, files
from niudao.formats.window import Window

MAX_DIRECTORY = 8 << 20
"""Bytes of an archive's list of members, about a hundred for each; a network has a member for each of its tensors."""
_TEXT = 64 << 20
"""Bytes that all packed members together may unpack to: source text and its tables."""
_LOCAL = 30
_BROKEN = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError, OverflowError)


def shown(name: str) -> str:
    """A name of a stranger's for a sentence: short, and of one line."""
    return name[:80] if name[:80].isprintable() else repr(name[:80])


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        offset: Where its bytes lie in the file on the disk.
        size: Bytes, unpacked; `packed` those in the file.
        crc: Checksum of the unpacked bytes; 0 where torch was told to write none.
    """

    offset: int
    size: int
    packed: int
    stored: bool
    crc: int


@dataclass(frozen=True)
class Archive:
    """An opened archive: what is in it, and where.

    Attributes:
        path: The file on the disk.
        inside: The member of another archive that this one is, or "".
        root: The folder that holds everything, with its slash; "" if there is none.
        members: Name below the root -> where it lies.
    """

    path: Path
    inside: str
    root: str
    members: Mapping[str, Member]

    @property
    def names(self) -> tuple[str, ...]:
        """Names below the root, in the archive's order."""
        return tuple(self.members)

    def where(self, name: str = "") -> Where:
        """The place to name in a message."""
        return Where(file=":".join(p for p in (str(self.path), self.inside, name) if p))

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def member(self, name: str) -> Member:
        """One member.

        Raises:
            ReadError: There is none of that name.
        """
        if name not in self.members:
            held = ", ".join(self.names[:4])
            raise ReadError(
                f"the archive holds no {shown(name)}.", where=self.where(), expected=shown(name), got=held or "an empty archive"
            )
        return self.members[name]

    def size(self, name: str) -> int:
        """Bytes of a member, unpacked."""
        return self.member(name).size

    def offset(self, name: str) -> int:
        """Where a stored member's bytes lie in `path`.

        Raises:
            ReadError: It is missing, or packed, so that its bytes lie nowhere as they are.
        """
        member = self.member(name)
        if not member.stored:
            raise ReadError(f"{shown(name)} in the archive is compressed, which torch does to text alone.", where=self.where(name))
        return member.offset

    def read(self, name: str, limit: int = 32 << 20) -> bytes:
        """The bytes of a member.

        Args:
            name: Its name below the root.
            limit: Bytes that it may have.

        Raises:
            LimitError: It has more.
            ReadError: It is missing, cut short, or not what its checksum says.
        """
        member = self.member(name)
        if member.size > limit:
            text = f"{shown(name)} in the archive is too long."
            raise LimitError(text, where=self.where(name), expected=f"at most {limit:,} bytes", got=f"{member.size:,}")
        with files.open_model(self.path) as f:
            f.seek(member.offset)
            data = f.read(member.packed)
        if not member.stored and len(data) == member.packed:
            try:
                data = zlib.decompressobj(-15).decompress(data, member.size + 1)
            except zlib.error as e:
                raise ReadError(f"{shown(name)} in the archive is damaged: {str(e)[:80]}.", where=self.where(name)) from e
        if len(data) != member.size:
            text = f"{shown(name)} in the archive has another length than declared."
            raise ReadError(text, where=self.where(name), expected=f"{member.size:,}", got=f"{len(data):,}")
        if member.crc and zlib.crc32(data) != member.crc:
            raise ReadError(f"{shown(name)} in the archive is damaged: its checksum is wrong.", where=self.where(name))
        return data

    def json(self, name: str, limit: int = documents.MAX_BYTES) -> Any:
        """A member that is a JSON object, its size and depth bounded."""
        return documents.parse(self.read(name, limit), self.where(name))

    def archive(self, name: str) -> Archive:
        """A member that is an archive itself, as `serialized_state_dict.pt` in old .pt2 files."""
        return _open(self.path, self.offset(name), self.size(name), name)


def open_archive(path: Path) -> Archive:
    """Open an archive of torch.

    Raises:
        ReadError: It is damaged, names files outside itself, holds one twice, or members lie over each other.
        LimitError: It holds too many, or unpacks to too much.
    """
    with files.open_model(path) as f:
        size = f.seek(0, 2)
    return _open(Path(path), 0, size, "")


def names_in(path: Path) -> list[str]:
    """The names in any zip archive, nothing else about it checked.

    Raises:
        ReadError: It is damaged.
    """
    where = Where(file=str(path))
    try:
        with files.open_model(path) as f:
            size = f.seek(0, 2)
        _check_directory(path, 0, size, where)
        with files.open_model(path) as f, zipfile.ZipFile(f) as archive:
            return archive.namelist()
    except _BROKEN as e:
        raise ReadError(f"{path.name} is a damaged zip archive: {str(e)[:120]}.", where=where) from e


def _open(path: Path, start: int, size: int, inside: str) -> Archive:
    where = Where(file=f"{path}:{inside}" if inside else str(path))
    name = inside or path.name
    try:
        _check_directory(path, start, size, where)
        with files.open_model(path) as raw, zipfile.ZipFile(io.BufferedReader(Window(raw, start, size))) as archive:
            members, ends = _members(archive.infolist(), raw, start, size, where)
    except _BROKEN as e:
        raise ReadError(f"{name} is a damaged zip archive: {str(e)[:120]}.", where=where) from e
    ends.sort()
    for (_, end, first), (begin, _, second) in itertools.pairwise(ends):
        if end > begin:
            got = f"{first[:60]!r} and {second[:60]!r}"
            raise ReadError("two members of the archive lie over each other.", where=where, got=got)
    if sum(m.size for m in members.values() if not m.stored) > _TEXT:
        raise LimitError("the archive unpacks to more than a network's text takes.", where=where, expected=f"at most {_TEXT:,} bytes")
    root = _root(members)
    return Archive(path, inside, root, {n.removeprefix(root): m for n, m in members.items()})


def _check_directory(path: Path, start: int, size: int, where: Where) -> None:
    """The list of members is of a length that may be read: what reads it makes an object of each entry first."""
    with files.open_model(path) as raw:
        begin = max(0, size - (1 << 16) - 22)
        raw.seek(start + begin)
        tail = raw.read(size - begin)
    at = len(tail) - 22 if tail[-22:-18] == b"PK\x05\x06" else tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ReadError("the zip archive is cut short: it has no list of its members.", where=where)
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if wide >= 0:
        length = max(length if length != 0xFFFFFFFF else 0, int.from_bytes(tail[wide + 40 : wide + 48], "little"))
    if length > MAX_DIRECTORY:
        reason = "the archive's list of members is too long."
        raise LimitError(reason, where=where, expected=f"at most {MAX_DIRECTORY:,} bytes", got=f"{length:,}")


def _members(
    infos: list[zipfile.ZipInfo], raw: IO[bytes], start: int, size: int, where: Where
) -> tuple[dict[str, Member], list[tuple[int, int, str]]]:
    members: dict[str, Member] = {}
    ends: list[tuple[int, int, str]] = []
    for info in infos:
        name = info.orig_filename
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/") or name[1:2] == ":":
            raise ReadError("the archive names a file outside itself.", where=where, got=repr(name)[:120])
        if name in members:
            raise ReadError(f"the archive holds {name[:80]!r} twice.", where=where)
        if info.flag_bits & 1:
            raise ReadError("the archive is encrypted.", where=where)
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise ReadError("the archive holds a link.", where=where, got=repr(name)[:120])
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ReadError("the archive is compressed in a way that torch does not use.", where=where, got=f"method {info.compress_type}")
        stored = info.compress_type == zipfile.ZIP_STORED
        if stored and info.file_size != info.compress_size:
            raise ReadError(f"{shown(name)} in the archive has another length than declared.", where=where)
        spelled = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
        header = os.pread(raw.fileno(), _LOCAL + len(spelled), start + info.header_offset)
        length, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        begin = info.header_offset + _LOCAL + length + extra
        method = int.from_bytes(header[8:10], "little")
        if len(header) < _LOCAL or header[:4] != b"PK\x03\x04" or begin + info.compress_size > size:
            raise ReadError(f"{shown(name)} in the archive is cut short.", where=where)
        if method != info.compress_type or length != len(spelled) or header[_LOCAL:] != spelled:
            raise ReadError("the archive's list and its members disagree.", where=where, got=repr(name)[:120])
        if info.is_dir():
            continue
        members[name] = Member(start + begin, info.file_size, info.compress_size, stored, info.CRC)
        ends.append((info.header_offset, begin + info.compress_size, name))
    return members, ends


def check_plain(archive: Archive) -> None:
    """The archive is one that every reader of zips takes for the same: one list of members, at the end, no twins but for case.

    Raises:
        ReadError: Readers might see different members in it, and torch others than we do.
    """
    where = archive.where()
    with files.open_model(archive.path) as f:
        size = f.seek(0, 2)
        f.seek(max(0, size - 98))
        tail = f.read()
    end = tail[-22:]
    length, offset = int.from_bytes(end[12:16], "little"), int.from_bytes(end[16:20], "little")
    at = size - 22
    if tail[-42:-38] == b"PK\x06\x07":
        wide = tail[:56]
        at = int.from_bytes(tail[-34:-26], "little")
        if wide[:4] != b"PK\x06\x06" or at != size - 98:
            raise ReadError("the zip archive has its list of members in more than one place.", where=where)
        wide_length, wide_offset = int.from_bytes(wide[40:48], "little"), int.from_bytes(wide[48:56], "little")
        if length not in (wide_length, 0xFFFFFFFF) or offset not in (wide_offset, 0xFFFFFFFF):
            raise ReadError("the zip archive has two lists of its members.", where=where)
        length, offset = wide_length, wide_offset
    if end[:4] != b"PK\x05\x06" or end[20:22] != b"\0\0" or offset + length != at:
        raise ReadError("the zip archive does not end with the list of its members, as torch's do.", where=where)
    if len({n.lower() for n in archive.names}) != len(archive.names):
        raise ReadError("two members of the archive differ in nothing but case.", where=where)


def _root(members: Mapping[str, Member]) -> str:
    """The folder that everything lies in."""
    tops = {n.split("/", 1)[0] if "/" in n else "" for n in members}
    return f"{next(iter(tops))}/" if len(tops) == 1 and "" not in tops else ""
