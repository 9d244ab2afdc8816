"""Everything in an archive that torch would unpickle, looked at first: what this accepts asks for nothing but tensors and plain values."""

from __future__ import annotations

import os
from pathlib import Path

from niudao.errors import ReadError
from niudao.formats import files
from niudao.formats.pytorch.checkpoint import pickle, script, zipped
from niudao.formats.pytorch.checkpoint.archive import Archive, check_plain, open_archive
from niudao.formats.pytorch.checkpoint.sniff import Kind, zip_kind

_PICKLES = (".pkl", ".debug_pkl", ".pickle")
_ARCHIVES = (".pt", ".pth")
_ZIP = b"PK\x03\x04"


def vet(path: str | os.PathLike[str]) -> Kind:
    """Check a TorchScript archive, a .pt2 or a zip of `torch.save` before torch is allowed to see it.

    Returns:
        Which of them it is.

    Raises:
        ReadError: It is damaged, or a pickle in it asks for something that no network needs; its name is in the message.
    """
    archive = open_archive(Path(path))
    kind = zip_kind(archive)
    check_plain(archive)
    if not archive.root and kind != "pt2":
        raise ReadError("the archive's members do not lie in one folder, as torch's do.", where=archive.where())
    _vet(archive, 0)
    if kind == "torchscript":
        script.state(archive)
        script.constants(archive)
    elif kind == "torchscript-old":
        script.old_state(archive)
    return kind


def _vet(archive: Archive, depth: int) -> None:
    for name in archive.names:
        if name.endswith(_PICKLES):
            data = archive.read(name, zipped.MAX_PICKLE)
            _, end = pickle.read(data, archive.where(name), storages={})
            if end != len(data):
                raise ReadError("a pickle in the archive is followed by something else.", where=archive.where(name))
        elif name.endswith(_ARCHIVES) and depth < 2 and _starts(archive, name) == _ZIP:
            _vet(archive.archive(name), depth + 1)


def _starts(archive: Archive, name: str) -> bytes:
    member = archive.member(name)
    if not member.stored:
        return archive.read(name, zipped.MAX_PICKLE)[:4]
    with files.open_model(archive.path) as f:
        f.seek(member.offset)
        return f.read(4)
