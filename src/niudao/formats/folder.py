"""A folder named in place of a file: the network in it, where it is clear which file that is."""

from __future__ import annotations

from pathlib import Path

from niudao.errors import ReadError

_STRUCTURE = (
    ".onnx",
    ".keras",
    ".pt2",
    ".prototxt",
    ".h5",
    ".hdf5",
    ".json",
    ".caffemodel",
    ".safetensors",
    ".pth",
    ".pt",
    ".th",
    ".ckpt",
    ".pth.tar",
)
"""Endings that name a network, those that need no partner first; a weights file counts only where nothing else does."""
_USUAL = ("deploy.prototxt", "model.json")
_HUB = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What lies beside config.json in a folder as model hubs hand them out."""
_BESIDE = (".card.json", ".caffemodel.h5", ".weights.h5")


def network_in(folder: Path) -> Path:
    """The one network of a folder.

    Raises:
        ReadError: There is none, or it is not clear which.
    """
    called = folder.name or str(folder)
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_file())
    except OSError as e:
        raise ReadError(f"the folder {called} cannot be read: {e.strerror or e}.", where=folder) from e
    named_alike: tuple[str, ...] = (*_USUAL, *(_HUB if "config.json" in names else ()))
    for usual in named_alike:
        if usual in names:
            return folder / usual
    found = [n for e in _STRUCTURE for n in names if n.lower().endswith(e) and not n.lower().endswith(_BESIDE)]
    for pair in (".prototxt", ".json"):
        named = [n for n in found if n.lower().endswith(pair)]
        rest = [n for n in found if n not in named]
        if len(named) == 1 and all(n.lower().endswith((".caffemodel", ".h5", ".hdf5")) for n in rest):
            return folder / named[0]
    if len(found) > 1:
        found = [n for n in found if n not in ("config.json", "preprocessor_config.json")]
    if found == ["config.json"]:
        raise ReadError(f"the folder {called} holds a configuration and no weights.", where=folder, expected=f"one of {', '.join(_HUB)}")
    if len(found) == 1:
        return folder / found[0]
    if not found:
        raise ReadError(f"the folder {called} holds no network.", where=folder, expected=f"a file ending in {', '.join(_STRUCTURE)}")
    raise ReadError(f"the folder {called} holds several networks.", where=folder, got=", ".join(found[:6]), next="name one of them")
