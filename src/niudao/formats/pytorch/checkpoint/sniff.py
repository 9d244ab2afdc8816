"""Which of torch's containers a file is, by what it holds; the ending decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint.archive import Archive, names_in, open_archive

Kind = Literal["zip", "torchscript", "torchscript-old", "pt2", "legacy", "tar", "safetensors", "safetensors-index", "pickle"]

_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number at the head of older files, as every pickle protocol since 2 spells it."""
_MAGIC_TEXT = b"L119547037146038801333356L\n."
_MEMBERS = frozenset(("data.pkl", "constants.pkl", "models/model.json", "serialized_exported_program.json", "archive_format"))
_ENDINGS = (".pt", ".pth", ".pt2", ".th", ".t7", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".ptc", ".torch")


def sniff(path: Path, head: bytes) -> Kind | None:
    """The container's kind.

    Args:
        path: The file.
        head: Its first bytes, at least 600 of them if it has so many.

    Returns:
        None for a file of another format: of zips too, for those of Keras and numpy are zips as well.

    Raises:
        ReadError: A zip archive that is damaged or hostile.
    """
    if head.startswith(b"PK\x03\x04"):
        return zip_kind(open_archive(path)) if _is_ours(path) else None
    if (head.startswith(b"\x80") and _MAGIC in head[:40]) or head.startswith(_MAGIC_TEXT):
        return "legacy"
    if head[257:262] == b"ustar" or _is_tar(head):
        return "tar"
    length = int.from_bytes(head[:8], "little")
    if len(head) > 9 and head[8:9] == b"{" and 2 <= length < 1 << 40 and (path.suffix == ".safetensors" or head[9:10] in b'"} '):
        return "safetensors"
    if path.suffix == ".safetensors":
        return "safetensors"
    if (head.lstrip()[:1] == b"{" and b'"weight_map"' in head) or path.name.endswith(".safetensors.index.json"):
        return "safetensors-index"
    if head[:1] == b"\x80" and len(head) > 2 and head[1] <= 5 and path.suffix.lower() in _ENDINGS:
        return "pickle"
    return None


def _is_ours(path: Path) -> bool:
    """Whether a zip has members that only torch writes: looked for in its list, before anything else is checked."""
    try:
        names = names_in(path)
    except ReadError:
        return path.suffix.lower() in _ENDINGS
    leaves = {n.split("/", 1)[-1] for n in names} | set(names)
    return bool(leaves & _MEMBERS) or ("model.json" in leaves and any(n.startswith("tensors/") for n in leaves))


def zip_kind(archive: Archive) -> Kind:
    """Which of torch's archives one is.

    Raises:
        ReadError: None of them.
    """
    names = archive.names
    if "serialized_exported_program.json" in archive or any(n.startswith("models/") and n.endswith(".json") for n in names):
        return "pt2"
    if "model.json" in archive and any(n.startswith(("tensors/", "code/")) for n in names):
        return "torchscript-old"
    if "constants.pkl" in archive or any(n.startswith("code/") for n in names):
        return "torchscript"
    if "data.pkl" in archive:
        return "zip"
    raise ReadError(
        f"{archive.path.name} is a zip archive without anything of torch in it.",
        where=archive.where(),
        expected="data.pkl",
        got=", ".join(names[:4]) or "an empty archive",
    )


def _is_tar(head: bytes) -> bool:
    """The oldest tar header has no magic: a name, then octal numbers, and a checksum that fits."""
    block = head[:512]
    if len(block) < 512 or not block[0] or not all(c in b"01234567 \0" for c in block[100:156]):
        return False
    try:
        said = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return said == sum(block[:148]) + 8 * 32 + sum(block[156:])
